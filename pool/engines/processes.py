"""Processes of this machine, by joblib's loky: started afresh, so CUDA is safe in them, with a device each.

Every place has an executor of its own with one process in it, so that a process that dies takes no other with it and it
is known which job it was at. Its environment is set before its Python starts, so before torch does.
"""

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import FrameType
from typing import cast

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from pool.engines.dispatch import LostError, dispatch
from pool.engines.engine import Job, Result

NO_DEVICE = "cpu"


class Processes:
    """Does jobs in `places` processes; `devices` (`cpu` for none) are given to the places in turn.

    Unless OMP_NUM_THREADS says otherwise, the processes share the machine's threads.
    """

    elsewhere = True
    machines = 1

    def __init__(self, places: int, devices: Sequence[str] = ()) -> None:
        if places < 1:
            raise ValueError(f"places must be at least 1: got {places}")
        self.places = places
        self._devices = tuple(devices)

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        """Do every job, and yield its name and result as soon as it is done."""
        count = min(self.places, len(jobs))
        places = [_Place(_environment(number, count, self._devices)) for number in range(count)]

        def begin(job: Job[Result]) -> Future[Result]:
            free = next(place for place in places if not place.busy)
            return free.begin(job.work)

        with _stopped_at_the_end(places):
            yield from dispatch(jobs, begin, places=count, watch=watch)


class _Place:
    """One process, replaced when it died."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._executor: ProcessPoolExecutor | None = None
        self.busy = False

    def begin(self, work: Callable[[], Result]) -> Future[Result]:
        self.busy = True
        outcome: Future[Result] = Future()
        self._submitted(work).add_done_callback(lambda done: self._end(done, outcome))
        return outcome

    def _submitted(self, work: Callable[[], Result]) -> Future[Result]:
        if self._executor is not None:
            with contextlib.suppress(TerminatedWorkerError):  # it died idle
                return cast(Future[Result], self._executor.submit(_quietly, work))
        self._executor = ProcessPoolExecutor(max_workers=1, env=self._environment)
        return cast(Future[Result], self._executor.submit(_quietly, work))

    def _end(self, done: Future[Result], outcome: Future[Result]) -> None:
        error = done.exception()
        if isinstance(error, TerminatedWorkerError):
            self._executor = None  # a broken one takes no work
            error = LostError("its process died")
        self.busy = False
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(done.result())

    def stop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=self.busy)


def _quietly(work: Callable[[], Result]) -> Result:
    with contextlib.redirect_stderr(io.StringIO()):  # several bars on one terminal are none
        return work()


def _environment(number: int, places: int, devices: Sequence[str]) -> dict[str, str]:
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // places))}
    if "OMP_NUM_THREADS" in os.environ:
        environment.clear()
    if devices:
        device = devices[number % len(devices)]
        environment["CUDA_VISIBLE_DEVICES"] = "" if device == NO_DEVICE else device
    return environment


@contextlib.contextmanager
def _stopped_at_the_end(places: Sequence[_Place]) -> Iterator[None]:
    """Stop the processes when the block ends, also by SIGTERM."""

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    in_front = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, leave) if in_front else None
    try:
        yield
    finally:
        for place in places:
            place.stop()
        if in_front:
            signal.signal(signal.SIGTERM, before)
