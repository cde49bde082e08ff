"""Private copies of databases for verbs that only read, and a check that an SQLite file is still at its path.

SQLite goes on writing to a file that was removed, and nothing of that is kept. With a private copy, a colleague's
folder, an archive mounted read-only, a full disk and a server's user with SELECT alone give the same answers.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from pool.errors import StorageError
from pool.files.kinds import SQLITE
from pool.files.whole import may_write
from pool.progress import say
from studies.database.address import Address

LEAST_FREE_BYTES = 1_000_000
"""Room for SQLite's journal; with less, an evaluation may not be kept, and opening may fail."""
_LOG = "-wal"


@contextmanager
def writable_or_copied(address: Address, timeout_seconds: float) -> Iterator[Address]:
    """Yield the address, or the address of a private copy where a SQLite file may be read and not written.

    One line says that nothing new is kept. Raises `StorageError` for a file that cannot be read, or not be copied.
    """
    file = address.file
    why = None if file is None else why_not_written(file)
    if file is None or why is None:
        yield address
        return
    with tempfile.TemporaryDirectory(prefix="mixscout-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "study.db"
        if file.exists():
            _copy(file, copy, timeout_seconds)
        say(f"database {address} {why}; what this command computes anew is not kept")
        try:
            yield Address.of_file(copy)
        except StorageError as error:
            raise StorageError(str(error).replace(str(copy), str(file))) from error


def private_copy(address: Address, folder: Path, timeout_seconds: float) -> Address:
    """Copy a database into a folder, to be changed there and forgotten; a server's is replaced by an empty one.

    Raises `StorageError` for a file that cannot be read, or not be copied.
    """
    copy = folder / "study.db"
    if address.file is not None and address.file.exists():
        _copy(address.file, copy, timeout_seconds)
    return Address.of_file(copy)


def why_not_written(file: Path) -> str | None:
    """Say why a database cannot be written; None where nothing speaks against it."""
    if not may_write(file):
        return "is read-only for this user"
    folder = file.parent
    if folder.exists() and shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        return "is on a full disk"
    return None


def _copy(file: Path, copy: Path, timeout_seconds: float) -> None:
    """Copy a database as of one moment, the log of a running search included."""
    try:
        try:
            with closing(_reader(file, timeout_seconds)) as source, closing(sqlite3.connect(copy)) as target:
                source.backup(target)
        except sqlite3.OperationalError:  # a log without its index, which SQLite would have to write beside it
            for end in ("", _LOG):
                if (part := Path(f"{file}{end}")).exists():
                    shutil.copyfile(part, f"{copy}{end}")
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(
            f"database {file} cannot be copied into {tempfile.gettempdir()} to be read: {reason}; ask its owner for "
            "read permission, or set TMPDIR to a folder with room"
        ) from None


def _reader(file: Path, timeout_seconds: float) -> sqlite3.Connection:
    """Connect to read. Without a log nobody writes, and SQLite need not make the files of one."""
    log = Path(f"{file}{_LOG}")
    is_still = not log.exists() or log.stat().st_size == 0
    mode = "mode=ro&immutable=1" if is_still else "mode=ro"
    return sqlite3.connect(f"file:{quote(str(file))}?{mode}", uri=True, timeout=timeout_seconds)


_READ_ONLY = ("permission denied", "command denied", "read-only", "read only")
_IN_PARTS = {"yield_per": 1000}


def may_only_read(server: Engine) -> bool:
    """Tell whether a server refuses this user's writes to Mixscout's tables; a trial writes no row."""
    try:
        with server.connect() as connection:
            for table in ("evaluations", "leases"):
                connection.execute(sa.text(f"INSERT INTO {table} SELECT * FROM {table} WHERE 1 = 0"))
            connection.rollback()
    except (DBAPIError, RuntimeError) as error:  # of a server that is away too, which the caller will find
        return any(words in str(getattr(error, "orig", error)).lower() for words in _READ_ONLY)
    return False


def copy_rows(server: Engine, copy: Engine, version_table: str) -> None:
    """Replace all rows of a copy's tables by a server's, as of one moment; a server may lack the newest tables.

    The copy's own version stays. Raises SQLAlchemy's errors.
    """
    tables, theirs = sa.MetaData(), sa.MetaData()
    tables.reflect(copy)
    with server.connect().execution_options(isolation_level="REPEATABLE READ") as source, copy.begin() as target:
        theirs.reflect(source, only=lambda name, _: name in tables.tables and name != version_table)
        ours = [table for table in tables.sorted_tables if table.name in theirs.tables]
        for table in reversed(ours):
            target.execute(table.delete())
        for table in ours:
            for column in table.columns:
                if isinstance(column.type, sa.JSON):
                    column.type.none_as_null = True
            rows = source.execute(sa.select(theirs.tables[table.name]), execution_options=_IN_PARTS).mappings()
            for some in rows.partitions():
                target.execute(table.insert(), [dict(row) for row in some])


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
        if _header(self._path)[:16] != SQLITE:
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
    if header[:16] != SQLITE:
        return False
    page = int.from_bytes(header[16:18], "big")
    return size >= (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")


def is_other_file(path: Path) -> bool:
    """Tell whether a file has a content, and not a database's: SQLite overwrites a single byte as an empty database."""
    try:
        header = _header(path)
    except OSError:
        return False
    return bool(header) and header[:16] != SQLITE


def _header(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(100)
