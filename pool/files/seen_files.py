"""Digests of source files that were taken when a pool was built, so that a large text is not read by every command.

A file of the same size and the same time of change is taken for the same, as version control does. A build never
relies on what another command saw: it reads each file once, and then looks whether it stayed as it was. What had
changed less than two seconds before it was read is not kept: it may change again unseen.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from pool.errors import PoolError
from pool.files.digests import digest_file, digest_json
from pool.files.records import Record, read_record, write_record

SEEN = "sources.json"
_SETTLED_NS = 2 * 10**9

DigestOf = Callable[[Path], str]


class SeenFile(Record):
    """What a file was when it was read."""

    bytes: int
    modified_ns: int
    digest: str

    def is_still(self, now: os.stat_result) -> bool:
        """Whether a file has its size and time of change still."""
        return (self.bytes, self.modified_ns) == (now.st_size, now.st_mtime_ns)


class SeenFiles(Record):
    """Files by the digest of their path, which is nobody else's business."""

    files: dict[str, SeenFile] = {}

    def digest_of(self, path: Path) -> str:
        """Return the digest of a file, read only where it is not as it was. Raises `OSError`."""
        seen = self.files.get(_key(path))
        return seen.digest if seen is not None and seen.is_still(path.stat()) else digest_file(path)


def read_seen(folder: Path) -> SeenFiles:
    """Read what was kept in a corpus folder; nothing where it is missing or broken, as it can be done without."""
    try:
        return read_record(folder / SEEN, SeenFiles)
    except (OSError, PoolError):
        return SeenFiles()


class Watcher:
    """Digests files, and keeps what they were; asked again, it reads those alone that are not as they were."""

    def __init__(self) -> None:
        self._files: dict[str, SeenFile] = {}

    def digest_of(self, path: Path) -> str:
        """Digest a file. Raises `OSError`."""
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
        """Keep it in a corpus folder. Raises `OSError`."""
        write_record(folder / SEEN, SeenFiles(files=self._files))


def _key(path: Path) -> str:
    return digest_json(str(path.resolve()))
