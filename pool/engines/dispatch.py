"""Dispatching jobs to several places: keep the places busy, begin lost jobs again, give up in the end."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any

from pool.engines.engine import MOST_LOSSES, Job, Listener, Result, check_names
from pool.errors import EngineError
from pool.progress import say

POLL_SECONDS = 0.5


class LostError(Exception):
    """The process of a job died, for the reason in the message.

    `starved_after` losses in a row mean a lack of memory; None if memory is not the reason.
    """

    def __init__(self, message: str, starved_after: int | None = None) -> None:
        super().__init__(message)
        self.starved_after = starved_after


KILLED = 2
"""The system kills for lack of memory, but others kill too: only a second kill in a row counts as lack of memory."""
STARVED = 1
"""The engine itself reports a lack of memory."""


@dataclass
class _Losses:
    """Losses of a job in a row without progress, and its progress at the last loss."""

    times: int = 0
    progress: object = None
    reason: str = ""

    def add(self, progress: object, error: LostError) -> None:
        self.times = self.times + 1 if self.times and progress == self.progress else 1
        self.progress, self.reason = progress, str(error)

    def remedy(self, job: Job[Any], error: LostError) -> str | None:
        """Say how the job goes on; None to give up. Memory cannot shrink for ever, so this ends."""
        if error.starved_after is not None and self.times >= error.starved_after and (less := job.spare()):
            return f"the job goes on, {less}"
        return "the job goes on" if self.times < MOST_LOSSES else None


def dispatch(
    jobs: Sequence[Job[Result]],
    begin: Callable[[Job[Result]], Future[Result]],
    *,
    places: int,
    watch: Callable[[], None],
) -> Iterator[tuple[str, Result]]:
    """Do jobs, `places` at a time; futures of `begin` raise `LostError` when a process dies.

    A lost job joins the end of the queue. Raises as `Engine.run`.
    """
    check_names(jobs)
    waiting, running = deque(jobs), dict[Future[Result], Job[Result]]()
    losses = {job.name: _Losses() for job in jobs}
    given_up: list[str] = []
    with Listener(jobs) as listener:
        while waiting or running:
            while waiting and len(running) < places:
                job = waiting.popleft()
                running[begin(job)] = job
            finished, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            listener.listen([job.name for job in running.values()])
            watch()
            for future in finished:
                job = running.pop(future)
                try:
                    result = future.result()
                except LostError as error:
                    losses[job.name].add(job.progress(), error)
                    if remedy := losses[job.name].remedy(job, error):
                        say(f"{job.name}: {error}; {remedy}")
                        waiting.append(job)
                    else:
                        given_up.append(job.name)
                    continue
                yield job.name, result
    if given_up:
        raise _given_up(given_up, losses[given_up[0]])


def _given_up(names: Sequence[str], first: _Losses) -> EngineError:
    return EngineError(
        f"{', '.join(names)}: given up after {first.times} processes in a row died at it ({first.reason}), perhaps for "
        "want of memory; what was finished is kept: run the same command again, with fewer --workers if it dies again"
    )
