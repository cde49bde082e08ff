"""A database that may be read and not written: verbs that only read work on a private copy.

A colleague's folder, an archive mounted read-only and a full disk then give the same answers, and leave no file behind.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from pool.errors import StorageError
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
    why = None if file is None else _why_not(file)
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


def _why_not(file: Path) -> str | None:
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
