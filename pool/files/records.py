"""Records: JSON files read strictly and written last, so that their presence means complete."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pool.errors import PoolError
from pool.files.whole import write_text

MANIFEST = "manifest.json"


class Record(BaseModel):
    """A frozen JSON record; a key that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


RecordType = TypeVar("RecordType", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Write a record as indented JSON, atomically."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def read_record(path: Path, kind: type[RecordType]) -> RecordType:
    """Read a record. Raises `PoolError` naming the file when it is missing or not one of ours."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PoolError(f"{path} is missing; run `mixscout pool build` on the pool file") from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise PoolError(f"{path} is not a record that this version wrote ({first}); rebuild it") from None
