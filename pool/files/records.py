"""Records: strict JSON files, written last, so that their presence means a complete folder."""

import importlib.metadata
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pool.errors import PoolError, first_line
from pool.files.whole import write_text

MANIFEST = "manifest.json"


class Record(BaseModel):
    """A frozen JSON record; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


RecordType = TypeVar("RecordType", bound=Record)


def library_versions(libraries: Iterable[str]) -> dict[str, str]:
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in libraries}}


def write_record(path: Path, record: Record) -> None:
    """Write a record as indented JSON, atomically."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def read_record(path: Path, kind: type[RecordType]) -> RecordType:
    """Read a record. Raises `PoolError` for a missing or foreign file."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PoolError(f"{path} is missing; run `mixscout pool build` on the pool file") from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise PoolError(f"{path} is not a record that this version wrote ({first_line(error)}); rebuild it") from None
