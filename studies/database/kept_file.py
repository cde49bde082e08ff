"""The SQLite file of an open database: whether the file that is written to is still the one at its path.

SQLite goes on writing to a file that was removed, and nothing of that is kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Engine, event

from pool.errors import StorageError

_MAGIC = b"SQLite format 3\0"
_LOST = "what it held is lost to this command, which keeps nothing more"
_REMEDY = "put a copy back and run the same command again, or run it without one to start anew"


class KeptFile:
    """A database's file, as it was when this value was made."""

    def __init__(self, path: Path) -> None:
        found = path.stat()
        self._path = path
        self._identity = (found.st_dev, found.st_ino)
        self._size = found.st_size

    def check(self) -> None:
        """Raise `StorageError` if the file was removed, replaced or cut."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise self._error("removed or moved") from None
        except OSError as error:
            raise self._error(f"put out of reach ({os.strerror(error.errno or 0)})") from None
        if (found.st_dev, found.st_ino) != self._identity:
            raise self._error("replaced by another file")
        if found.st_size < self._size and not _is_whole(self._path, found.st_size):
            raise self._error("cut short")
        self._size = found.st_size

    def check_at_the_end(self) -> None:
        """Raise `StorageError` also for a file overwritten in place."""
        self.check()
        if _header(self._path)[:16] != _MAGIC:
            raise self._error("overwritten")

    def watch(self, engine: Engine) -> None:
        """Check the file before a connection of the engine is made, which would make a file, and before each use."""

        @event.listens_for(engine, "do_connect")
        @event.listens_for(engine, "checkout")
        def still_there(*_: object) -> None:
            self.check()

    def _error(self, fate: str) -> StorageError:
        return StorageError(f"database {self._path} was {fate} while it was in use: {_LOST}; {_REMEDY}")


def _is_whole(path: Path, size: int) -> bool:
    """Tell whether a file that shrank has the pages that its header counts, as after VACUUM."""
    header = _header(path)
    if header[:16] != _MAGIC:
        return False
    page = int.from_bytes(header[16:18], "big")
    return size >= (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")


def _header(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(100)
