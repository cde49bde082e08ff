"""TOML files as checked, frozen values; every mistake becomes one clear line.

A command may assign keys of a file for its own time: `--set search.merges=60`. All readings of the file then see them.
"""

import codecs
import difflib
import io
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from pool.errors import ConfigError
from pool.files import kinds

HubName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=96)
]
"""A repository of the Hugging Face hub, OWNER/NAME; never a local path."""


def _stays(revision: str) -> str:
    if revision in ("main", "master", "HEAD"):
        raise ValueError("a branch would be another model tomorrow: give a commit (40 digits) or a tag")
    return revision


Revision = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80), AfterValidator(_stays)
]
"""A commit or a tag on the hub."""


class Config(BaseModel):
    """A section of a TOML file: frozen, without unknown keys, NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    title: ClassVar[str] = "a TOML file"

    @classmethod
    def marked(cls, mark: object) -> tuple[str, ...]:
        """Name the fields whose annotation carries `mark`, as `Annotated[int, mark]` does, in their order."""
        return tuple(name for name, field in cls.model_fields.items() if mark in field.metadata)


_KINDS = {"corpus": "a pool file", "pool": "a study file", "table": "a study file"}
"""By a key that every file of the kind has."""
_NO_TOML = {
    kinds.ZIP: "a ZIP archive",
    kinds.GZIP: "compressed by gzip",
    kinds.ZSTANDARD: "compressed by Zstandard",
    kinds.BZIP2: "compressed by bzip2",
    kinds.XZ: "compressed by xz",
    kinds.SQLITE: "a SQLite database",
    kinds.PDF: "a PDF document",
    b"{": "JSON",
}
"""First bytes of files given in the place of a TOML file."""
_NO_TOML_BY_NAME = {".yaml": "YAML", ".yml": "YAML", ".json": "JSON"}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SLASHES = "; in a path, write `/` instead of a backslash, or single quotes around it"
ConfigType = TypeVar("ConfigType", bound=Config)


def read_config(path: Path, kind: type[ConfigType]) -> ConfigType:
    """Read and check a TOML file with its assignments.

    Raises `ConfigError` naming file, key, value and what would fit.
    """
    table = read_table(path)
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        mistakes = (_explain(dict(item), kind, assigned(path)) for item in error.errors(include_url=False))
        raise ConfigError(f"{path}: {_other_kind(table, kind) or '; '.join(mistakes)}") from None


def read_table(path: Path) -> dict[str, object]:
    """Read a TOML file with its assignments, without checking its keys. Raises `ConfigError`."""
    try:
        table = tomllib.loads(_text_of(path))
    except tomllib.TOMLDecodeError as error:
        if other := _NO_TOML_BY_NAME.get(path.suffix.lower()):
            raise ConfigError(f"{path}: {other} by its name, and not TOML; give the path of a TOML file") from None
        hint = _SLASHES if "\\" in str(error) or "hex" in str(error) else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{hint}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: brackets stand inside each other too deeply") from None
    for assignment in assigned(path):
        _assign(table, assignment, path)
    if (key := _with_nul(table)) is not None:
        raise ConfigError(f"{path}: {key!r} has a NUL character (\\u0000); no name and no path may have one")
    return table


def _other_kind(table: Mapping[str, object], kind: type[Config]) -> str | None:
    """Word that a file is of another kind; None for a file with a key of its own kind, or of none."""
    found = {_KINDS[key]: key for key in table if key in _KINDS}
    if not found or kind.title in found:
        return None
    other, key = next(iter(found.items()))
    return f"{other}, by its key {key!r}; give the path of {kind.title} here"


Assignments = Mapping[Path, tuple[str, ...]]
"""By file, assignments `KEY=VALUE`: the key with dots, the value as in TOML."""
_assignments: dict[Path, tuple[str, ...]] = {}


@contextmanager
def assigning(some: Assignments) -> Iterator[None]:
    """Let every reading of these files see their assignments while the block runs.

    Raises `ConfigError` for an assignment that is not of the form KEY=VALUE.
    """
    for assignment in (one for several in some.values() for one in several):
        _parsed(assignment)
    before = dict(_assignments)
    _assignments.update({path.resolve(): several for path, several in some.items()})
    try:
        yield
    finally:
        _assignments.clear()
        _assignments.update(before)


def all_assigned() -> Assignments:
    """Return the assignments of all files, say for a command's other processes."""
    return dict(_assignments)


def assigned(path: Path) -> tuple[str, ...]:
    """Return the assignments of a file."""
    return _assignments.get(path.resolve(), ())


def as_options(path: Path, prefix: str = "") -> str:
    """Return a file's assignments as words of a command line, each after a space."""
    return "".join(f" --set {shlex.quote(prefix + assignment)}" for assignment in assigned(path))


def _parsed(assignment: str) -> tuple[list[str], object]:
    """Split KEY=VALUE into the parts of its key and its value.

    A value that begins like a word needs no quotes: shells take them away.
    """
    key, equals, value = (part.strip() for part in assignment.partition("="))
    if not key or not equals or not value:
        raise ConfigError(f"--set {assignment}: expected KEY=VALUE, say --set search.merges=60")
    try:
        return _parts_of(key), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        if value[0].isalpha() or value[0] in "/.~_$":
            return _parts_of(key), value
        raise ConfigError(f"--set {assignment}: {value} is no value of TOML: {error}") from None


def _parts_of(key: str) -> list[str]:
    try:
        inner: object = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        raise ConfigError(f"--set {key}=...: {key!r} is no key of TOML; say SECTION.KEY") from None
    parts = []
    while isinstance(inner, dict):
        ((name, inner),) = inner.items()
        parts.append(name)
    return parts


def _assign(table: dict[str, Any], assignment: str, path: Path) -> None:
    """Put the value of KEY=VALUE into a file's table; sections on the way are made where they are missing."""
    (*sections, key), value = _parsed(assignment)
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{path}: {section!r} is {inner!r} and no section (by --set {assignment})")
        table = inner
    table[key] = value


def _with_nul(value: object, key: str = "") -> str | None:
    """Find the key of a text with a NUL character: the system ends or refuses a path there."""
    if isinstance(value, dict):
        found = (_with_nul(part, f"{key}.{name}" if key else name) for name, part in value.items() if "\0" not in name)
        return next((name for name in value if "\0" in name), None) or next(filter(None, found), None)
    if isinstance(value, list):
        return next(filter(None, (_with_nul(part, key) for part in value)), None)
    return key if isinstance(value, str) and "\0" in value else None


def _text_of(path: Path) -> str:
    """Read a file in UTF-8, with or without a byte order mark."""
    try:
        content = path.read_bytes()
        if kind := _kind_of(content):
            raise ConfigError(f"{path}: {kind}, and not TOML; give the path of a TOML file")
        if content.startswith(_UTF_16) or b"\0" in content[:2]:
            raise ConfigError(f"{path}: in UTF-16, and TOML is in UTF-8; save the file with encoding UTF-8")
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a TOML file") from None
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        place = f"byte 0x{byte:02x} in line {line}"
        raise ConfigError(f"{path}: {place} is not UTF-8, the encoding of TOML; save the file in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; give the path of a TOML file") from None


def _kind_of(content: bytes) -> str | None:
    """Name what a file is by its first bytes; None for what may be TOML."""
    if content[kinds.TAR_MARK] == kinds.TAR:
        return "a tar archive"
    return next((kind for start, kind in _NO_TOML.items() if content.startswith(start)), None)


def _explain(item: dict[str, object], kind: type[BaseModel], assignments: Sequence[str]) -> str:
    location = item["loc"]
    assert isinstance(location, tuple)
    key = ".".join(str(part) for part in location if part != "[key]")
    parts = [str(part) for part in location if part != "[key]"]
    made = next((one for one in assignments if _parsed(one)[0][: len(parts)] == parts), None)
    return _mistake(item, location, key, kind) + (f" (by --set {made})" if made else "")


def _mistake(item: dict[str, object], location: tuple[object, ...], key: str, kind: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_suggest(location, kind)}"
    if item["type"] == "missing":
        return f"key {key!r} is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    came = item.get("input")
    shown = f" (got {came!r})" if isinstance(came, str | int | float | bool) else ""
    return f"{key!r}: {message}{shown}" if key else message


def _suggest(location: tuple[object, ...], kind: type[BaseModel]) -> str:
    known = _fields_at(location[:-1], kind)
    if elsewhere := [key for key in _dotted(kind) if key.split(".")[-1] == location[-1]]:
        return f"; did you mean {' or '.join(map(repr, elsewhere))}?"
    if close := difflib.get_close_matches(str(location[-1]), known, n=1):
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _fields_at(path: tuple[object, ...], kind: type[BaseModel]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(str(part))
        if field is None:
            continue  # a key of a mapping, or the branch of a union: the fields are one level down
        nested = [
            option
            for option in (field.annotation, *_nested_options(field.annotation))
            if isinstance(option, type) and issubclass(option, BaseModel)
        ]
        if not nested:
            return []
        kind = nested[0]
    return list(kind.model_fields)


def _dotted(kind: type[BaseModel]) -> Iterator[str]:
    """Name all keys of a model's sections, with dots; keys inside a mapping's sections are left out."""
    for name, field in kind.model_fields.items():
        yield name
        for option in (field.annotation, *get_args(field.annotation)):
            if isinstance(option, type) and issubclass(option, BaseModel):
                yield from (f"{name}.{inner}" for inner in _dotted(option))


def _nested_options(annotation: object) -> list[object]:
    options: list[object] = []
    for option in get_args(annotation):
        options += [option, *_nested_options(option)]
    return options
