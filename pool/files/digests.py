"""SHA-256 digests of JSON values, arrays and files; digests of source files are remembered between commands."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pool.errors import PoolError
from pool.files.records import Record, read_record, write_record

SEEN = "sources.json"
_SETTLED_NS = 2 * 10**9

DigestOf = Callable[[Path], str]


def digest_json(value: object) -> str:
    """Digest a JSON value, independent of key order.

    Raises `TypeError` for other values and `ValueError` for NaN or infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_arrays(arrays: Iterable[npt.NDArray[np.generic]]) -> str:
    """Digest arrays in order, each with its dtype and shape."""
    outer = hashlib.sha256()
    for array in arrays:
        outer.update(f"{array.dtype.str}{array.shape}".encode())
        outer.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return outer.hexdigest()


def digest_file(path: Path) -> str:
    """Digest a file's bytes, streamed. Raises `OSError`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short(digest: str) -> str:
    """Shorten a digest to 12 digits, for people."""
    return digest[:12]


class SeenFile(Record):
    bytes: int
    modified_ns: int
    digest: str

    def is_still(self, now: os.stat_result) -> bool:
        """Tell whether size and time of change are the same, which is taken for the same content."""
        return (self.bytes, self.modified_ns) == (now.st_size, now.st_mtime_ns)


class SeenFiles(Record):
    """Files by the digest of their path; the paths themselves stay private."""

    files: dict[str, SeenFile] = {}

    def digest_of(self, path: Path) -> str:
        """Return a file's digest; an unchanged file is not read again. Raises `OSError`."""
        seen = self.files.get(_key(path))
        return seen.digest if seen is not None and seen.is_still(path.stat()) else digest_file(path)


def read_seen(folder: Path) -> SeenFiles:
    """Read the remembered digests of a corpus folder; none where the file is missing or broken."""
    try:
        return read_record(folder / SEEN, SeenFiles)
    except PoolError:
        return SeenFiles()


class Watcher:
    """Digests files during one build, each once unless it changes, and trusts no digest of other commands."""

    def __init__(self) -> None:
        self._files: dict[str, SeenFile] = {}

    def digest_of(self, path: Path) -> str:
        """Digest a file. Raises `OSError`.

        A file changed within two seconds before reading is not remembered: it may change again unnoticed.
        """
        key, before, began_ns = _key(path), path.stat(), time.time_ns()
        seen = self._files.get(key)
        if seen is not None and seen.is_still(before):
            return seen.digest
        digest = digest_file(path)
        if began_ns - before.st_mtime_ns > _SETTLED_NS:
            self._files[key] = SeenFile(bytes=before.st_size, modified_ns=before.st_mtime_ns, digest=digest)
        else:
            self._files.pop(key, None)
        return digest

    def write(self, folder: Path) -> None:
        write_record(folder / SEEN, SeenFiles(files=self._files))


def _key(path: Path) -> str:
    return digest_json(str(path.resolve()))
