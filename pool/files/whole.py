"""Files and folders written whole or not at all, even if the process is killed."""

import csv
import io
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from pool.errors import MixscoutError, OutputError


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name beside it, flush it to disk, and rename it."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as `write_text` does. Raises `OSError` with the path; nothing new is left."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def writing_to(place: Path) -> Iterator[None]:
    """Turn a failure to write within the block into `OutputError` for a file or folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else _of_system(str(error))
        raise OutputError(
            f"{place}: cannot write there: {reason}; make room or give write permission, or name another place"
        ) from None


def _of_system(reason: str) -> str:
    """Return the system's reason in an error of safetensors, such as `I/O error: File too large (os error 27)`."""
    found = re.search(r"\(os error (\d+)\)", reason)
    return os.strerror(int(found[1])) if found else reason


@contextmanager
def new_files(folder: Path) -> Iterator[None]:
    """Write files into a folder within the block; a folder that was not there before goes again if the block raises."""
    missing = [place for place in (folder, *folder.absolute().parents) if not place.exists()]
    try:
        yield
    except BaseException:
        if missing:
            shutil.rmtree(missing[-1], ignore_errors=True)
        raise


def may_write(path: Path) -> bool:
    """Tell whether this user may make or change a file, and files beside it; folders on the way may be missing."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    wanted = [folder, path] if path.exists() else [folder]
    effective = os.access in os.supports_effective_ids
    rights = os.W_OK | os.X_OK
    return all(os.access(one, rights if one is folder else os.W_OK, effective_ids=effective) for one in wanted)


def check_place(folder: Path) -> None:
    """Raise `OutputError` unless a file can be made in a folder, or where the folder is to be made. Nothing is left.

    Permissions do not tell all: root has every right in /proc, and makes nothing there.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    with writing_to(folder), TemporaryFile(dir=existing):
        pass


def bytes_of_folder(folder: Path) -> int:
    """Add up the files of a folder, in folders inside too."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def disk_free(path: Path) -> int:
    """Return the free bytes of the disk that holds a path, or will hold it."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a heading and rows as CSV; floats keep every digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def refuse_occupied(folder: Path, occupied: MixscoutError) -> None:
    """Raise `occupied` unless the path is free or an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise occupied


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; after the block, unless it raises, the folder replaces `path`."""
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
    """Flush a folder to disk and rename it to `path`, on the same disk."""
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
    """Yield an empty folder for the time of the block; remains of a killed process are deleted."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def flush(part: Path) -> None:
    """Flush a file or all files of a folder to disk."""
    for path in (part, *part.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


@contextmanager
def only_one(path: Path, busy: MixscoutError, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold a lock file while the block runs; raise `busy` if another process holds it.

    The operating system frees the lock when the process ends. If the block raises, the lock file and a folder made for
    it alone are removed.
    """
    is_new = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=wait_seconds):
            try:
                yield
            except BaseException:
                if is_new and list(path.parent.iterdir()) == [path]:
                    path.unlink()  # still locked: a process waiting for it opens a new file
                    path.parent.rmdir()
                raise
    except Timeout:
        raise busy from None


@contextmanager
def one_of_several(path: Path, busy: MixscoutError, *, wait_seconds: float = 0) -> Iterator[None]:
    """Hold a lock file of `only_one` beside others like this one; raise `busy` if a process holds it alone.

    Without shared locks, as on Windows, the lock is held alone.
    """
    try:
        import fcntl  # of Unix
    except ImportError:
        with only_one(path, busy, wait_seconds=wait_seconds):
            yield
        return
    until = time.monotonic() + wait_seconds
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise busy from None
                time.sleep(0.05)
        yield


@contextmanager
def rows_into(path: Path, dtype: type[np.generic], row: tuple[int, ...] = ()) -> Iterator[Callable[[bytes], object]]:
    """Yield `add(rows)`, to append bytes of whole rows to a .npy array (N, *row) of unknown N.

    The header counts the rows after the block. Raises `OSError`; the file then has no rows.
    """
    with path.open("wb") as stream:
        _write_header(stream, dtype, (0, *row))
        start = stream.tell()
        yield stream.write
        count = (stream.tell() - start) // (np.dtype(dtype).itemsize * math.prod(row))
        stream.seek(0)
        _write_header(stream, dtype, (count, *row))
        assert stream.tell() == start, "NumPy leaves room in the header for any length"


def _write_header(stream: BinaryIO, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
