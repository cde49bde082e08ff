"""Digests of source files that were taken when a pool was built, so that a large text is not read by every command.

A file of the same size and the same time of change is taken for the same, as version control does. Building never
relies on it. What had changed less than two seconds before it was read is not kept: it may change again unseen.
"""

import time
from collections.abc import Callable
from pathlib import Path

from pool.errors import PoolError
from pool.fingerprint import digest_file, digest_json
from pool.manifest import Record, read_record, write_record

SEEN = "sources.json"
_SETTLED_NS = 2 * 10**9

DigestOf = Callable[[Path], str]


class SeenFile(Record):
    """What a file was when it was read."""

    bytes: int
    modified_ns: int
    digest: str


class SeenFiles(Record):
    """Files by the digest of their path, which is nobody else's business."""

    files: dict[str, SeenFile] = {}

    def digest_of(self, path: Path) -> str:
        """Return the digest of a file, read only where it is not as it was. Raises `OSError`."""
        seen, now = self.files.get(_key(path)), path.stat()
        if seen is not None and (seen.bytes, seen.modified_ns) == (now.st_size, now.st_mtime_ns):
            return seen.digest
        return digest_file(path)


def read_seen(folder: Path) -> SeenFiles:
    """Read what was kept in a corpus folder; nothing where it is missing or broken, as it can be done without."""
    try:
        return read_record(folder / SEEN, SeenFiles)
    except (OSError, PoolError):
        return SeenFiles()


class Watcher:
    """Digests files, and keeps what they were."""

    def __init__(self) -> None:
        self._files: dict[str, SeenFile] = {}

    def digest_of(self, path: Path) -> str:
        """Read and digest a file. Raises `OSError`."""
        before, began_ns = path.stat(), time.time_ns()
        digest = digest_file(path)
        if began_ns - before.st_mtime_ns > _SETTLED_NS:
            seen = SeenFile(bytes=before.st_size, modified_ns=before.st_mtime_ns, digest=digest)
            self._files[_key(path)] = seen
        return digest

    def write(self, folder: Path) -> None:
        """Keep it in a corpus folder. Raises `OSError`."""
        write_record(folder / SEEN, SeenFiles(files=self._files))


def _key(path: Path) -> str:
    return digest_json(str(path.resolve()))
