"""Writing so that a kill at any moment leaves a whole thing or none, never half of one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pool.errors import MixscoutError


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, and rename it."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def refuse_occupied(folder: Path, occupied: MixscoutError) -> None:
    """Raise `occupied` when something other than an empty folder stands there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise occupied


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well, replacing what stood there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Flush a folder to disk and make it `path`, on the same disk, replacing what stood there."""
    flush(new)
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder that is gone after the block; what a killed process left there goes first."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def flush(part: Path) -> None:
    """Flush a file, or all files of a folder, to disk."""
    for path in (part, *part.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


@contextmanager
def only_one(path: Path, busy: MixscoutError, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold a lock file while the block runs; raises `busy` when another process holds it, and goes on holding it.

    The lock is the operating system's: it is gone with the process, however that ends. Where the block fails in a
    folder that was made for it and holds nothing else, both are removed again.
    """
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=wait_seconds):
            try:
                yield
            except BaseException:
                if is_new and list(path.parent.iterdir()) == [path]:
                    path.unlink()  # held still: whoever opened it meanwhile finds it unlinked, and opens another
                    path.parent.rmdir()
                raise
    except Timeout:
        raise busy from None
