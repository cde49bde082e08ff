"""Records: strict JSON files, written last, so that their presence means a complete folder.

A record ends with a digest of the rest of it, so that a changed digit is no fact. A record without one is believed.
"""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pool.errors import PoolError, first_line
from pool.files.whole import write_text

MANIFEST = "manifest.json"
_DIGEST = "record_digest"
_BUILD = "run `mixscout pool build POOL.toml`, which makes it again"


class Record(BaseModel):
    """A frozen JSON record; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _check_digest(cls, content: object) -> object:
        if not isinstance(content, dict) or _DIGEST not in content:
            return content
        rest = {key: value for key, value in content.items() if key != _DIGEST}
        if content[_DIGEST] != _digest(rest):
            raise ValueError(f"altered since it was written: its {_DIGEST} is of another content")
        return rest


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


RecordType = TypeVar("RecordType", bound=Record)


def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in libraries}}


def write_record(path: Path, record: Record) -> None:
    """Write a record as indented JSON, atomically."""
    content = json.loads(record.model_dump_json())
    write_text(path, json.dumps({**content, _DIGEST: _digest(content)}, indent=2, ensure_ascii=False) + "\n")


def read_record(path: Path, kind: type[RecordType], remedy: str = _BUILD) -> RecordType:
    """Read a record. Raises `PoolError` with the `remedy` for a missing, damaged or foreign file."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PoolError(f"{path} is missing; {remedy}") from None
    except PermissionError as error:
        raise PoolError(f"{path}: {error.strerror}; give this user permission to read the pool's folder") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        reason = f"{key}: {fault['msg']}" if key else fault["msg"].removeprefix("Value error, ")
    except (OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
    raise PoolError(f"{path} is not a record that this version wrote ({reason}); {remedy}")
