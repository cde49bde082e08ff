"""The configuration reference, made from the checked models: `python -m studies.study_file.reference`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pool.config.pool_file import PoolFile
from studies.study_file.study_file import StudyFile

_NAMES = {float: "number", int: "whole number", str: "text", bool: "true or false", Path: "path"}

_HEAD = """# Configuration reference

Made from the models that check the files (`python -m studies.study_file.reference > docs/configuration.md`); a test
keeps it up to date. Unknown keys are refused. Paths are relative to the file they stand in.
`--set KEY=VALUE` gives a key another value for one command.
"""


def reference() -> str:
    """Return the whole reference as Markdown."""
    parts = [_HEAD]
    for title, kind in (("The pool file", PoolFile), ("The study file", StudyFile)):
        parts.append(f"## {title}\n")
        parts.extend(_tables(kind, ""))
    return "\n".join(parts)


def _tables(kind: type[BaseModel], path: str) -> Iterator[str]:
    rows = [_row(name, field) for name, field in kind.model_fields.items() if _nested(field) is None]
    heading = f"### `[{path}]`\n\n" if path else ""
    summary = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
    table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
    yield f"{heading}{summary}\n\n{table}\n" if rows else f"{heading}{summary}\n"
    for name, field in kind.model_fields.items():
        nested = _nested(field)
        if nested is not None:
            below = f"{path}.{name}" if path else name
            yield from _tables(nested, f"{below}.NAME" if _is_mapping(field) else below)


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    return f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {meaning} |"


def _type(annotation: object) -> str:
    origin, options = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(options[0])
    if origin is Literal:
        return " or ".join(f'`"{option}"`' for option in options)
    if origin is dict:
        return f"table of NAME = {_type(options[1])}"
    if origin is tuple:
        return f"list of {_type(options[0])}"
    if options:
        return " or ".join(_type(option) for option in options if option is not type(None))
    assert isinstance(annotation, type)
    return _NAMES[annotation]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined or field.is_required():
        return "required"
    value = field.default
    if value is None or value == {}:
        return ""
    shown = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    return f"`{json.dumps(shown)}`"


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    for option in (field.annotation, *get_args(field.annotation)):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _is_mapping(field: FieldInfo) -> bool:
    return "dict[" in str(field.annotation)


if __name__ == "__main__":
    print(reference(), end="")
