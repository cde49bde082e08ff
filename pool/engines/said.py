"""What jobs say where they are done, carried by a file each to who waits: whole lines, each once, whatever dies.

A file serves processes of this machine and those of a cluster alike, as jobs that have something to say share a file
system with who waits.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pool.engines.engine import Job
from pool.progress import heard_by, say


@contextlib.contextmanager
def said_into(path: Path | None) -> Iterator[None]:
    """Append what this process says to `path` while the block runs; without one, or a folder for it, it is lost."""

    def write(line: str) -> None:
        if path is not None:
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    with heard_by(write):
        yield


class Listener:
    """Says again what jobs said, under their names."""

    def __init__(self, jobs: Iterable[Job[Any]]) -> None:
        self._files = {job.name: job.said for job in jobs if job.said is not None}
        self._read = dict.fromkeys(self._files, 0)

    def __enter__(self) -> "Listener":
        self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        self.listen(self._files)
        self._remove()

    def listen(self, names: Iterable[str]) -> None:
        """Say what is new of these jobs; a line that is not whole waits."""
        for name in names:
            for line in self._new_lines(name):
                say(line if line.startswith(name) else f"{name}: {line}")

    def _new_lines(self, name: str) -> list[str]:
        path = self._files.get(name)
        if path is None or not path.is_file():
            return []
        with path.open("rb") as stream:
            stream.seek(self._read[name])
            new = stream.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read[name] += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def _remove(self) -> None:
        for path in self._files.values():
            path.unlink(missing_ok=True)
