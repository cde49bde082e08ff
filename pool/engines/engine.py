"""The protocol `Engine`: do independent named jobs, and give each result as soon as it is there.

A job may be done twice: a process or a machine that dies in the middle is replaced, and the next one finds what the
first had kept. Who waits knows nothing of where that happens.

One job after the other, in this process: no engine's engine, and the one whose results the others must give.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

MOST_LOSSES = 3
"""A job whose process died this often without getting further is given up."""

Result = TypeVar("Result")


def _nothing() -> None:
    """Know of no progress, and watch nothing."""


def _as_it_is() -> str:
    """Know of no way to take less memory."""
    return ""


@dataclass(frozen=True)
class Job(Generic[Result]):
    """A piece of work by name, which may be begun again anywhere: what it had kept is then not done twice.

    `work` and its result cross to other processes and machines. `progress` is asked where the results are waited for:
    an answer other than the one at the job's last loss means that it got further in between. `said` is a file, seen
    there too, by which what the job says comes to who waits. `spare` has the job take less memory from now on, and says
    how; empty where it cannot.
    """

    name: str
    work: Callable[[], Result]
    progress: Callable[[], object] = _nothing
    said: Path | None = None
    spare: Callable[[], str] = _as_it_is


class Engine(Protocol):
    """Does jobs."""

    @property
    def elsewhere(self) -> bool:
        """Whether jobs are done out of sight, so that who waits has to show their progress."""

    @property
    def places(self) -> int:
        """How many jobs are done at a time."""

    @property
    def machines(self) -> int:
        """On how many machines they are done: on several, files must be on a file system that these share."""

    def run(self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = _nothing) -> Iterator[tuple[str, Result]]:
        """Do every job, and yield its name and result as soon as it is done; call `watch` every now and then.

        What a job raises is raised, and ends the others; they have kept what they keep. Raises `EngineError` for jobs
        that were given up, once all others are done, and `ValueError` where two jobs have one name.
        """


def check_names(jobs: Sequence[Job[Result]]) -> None:
    """Raise `ValueError` where two jobs have one name: their results could not be told apart."""
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"jobs must have different names: {twice[0]!r} comes {names.count(twice[0])} times")


class OneByOne:
    """Does jobs in their order. Nothing can be lost but with the whole process, so nothing is retried."""

    elsewhere = False
    places = 1
    machines = 1

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        """Do every job, and yield its name and result as soon as it is done."""
        check_names(jobs)
        for job in jobs:
            result = job.work()
            watch()
            yield job.name, result


ONE_BY_ONE = OneByOne()
