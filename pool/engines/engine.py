"""The protocol `Engine` for independent named jobs, and the engine `OneByOne`.

After a process or machine dies, its job begins again elsewhere and finds the kept work. Jobs report to the waiting
process through shared files.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pool.progress import heard_by, say

MOST_LOSSES = 3
"""A job is given up after so many deaths in a row without progress."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job(Generic[Result]):
    """A named piece of work; another process can begin it again.

    work: called on the other side; crosses processes and machines with its result.
    progress: asked on the waiting side; a new answer since the last loss means progress.
    said: shared file for lines of progress.
    spare: reduces the job's memory and says how; empty if impossible.
    """

    name: str
    work: Callable[[], Result]
    progress: Callable[[], object] = lambda: None
    said: Path | None = None
    spare: Callable[[], str] = str


class Engine(Protocol):
    """Does jobs."""

    @property
    def elsewhere(self) -> bool:
        """Whether jobs run out of sight, so that the waiting process shows their progress."""

    @property
    def places(self) -> int:
        """How many jobs run at a time."""

    @property
    def machines(self) -> int:
        """How many machines do jobs; several need a shared file system."""

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        """Do every job, and yield names and results as jobs finish; call `watch` now and then.

        An exception of a job ends all jobs. Raises `EngineError` for given-up jobs after all others, and `ValueError`
        for equal names.
        """


def check_names(jobs: Sequence[Job[Result]]) -> None:
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"jobs must have different names: {twice[0]!r} comes {names.count(twice[0])} times")


class OneByOne:
    """Does jobs in order in this process, without retries: a loss ends the whole process."""

    elsewhere = False
    places = 1
    machines = 1

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        check_names(jobs)
        for job in jobs:
            result = job.work()
            watch()
            yield job.name, result


ONE_BY_ONE = OneByOne()


@contextlib.contextmanager
def said_into(path: Path | None) -> Iterator[None]:
    """Append lines of progress to `path` while the block runs; drop them without a writable path."""

    def write(line: str) -> None:
        if path is not None:
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    with heard_by(write):
        yield


class Listener:
    """Repeats the lines of jobs under their names, each line once."""

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
        """Say the new lines of these jobs; an incomplete line waits."""
        for name in names:
            for line in self._new_lines(name):
                say(line if name in line else f"{name}: {line}")

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
