"""Processes of this machine by joblib's loky: started afresh for CUDA, with their own devices and environment.

Each place is an executor of one process, so a death concerns one known job.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import cast

from joblib.externals.loky.process_executor import ProcessPoolExecutor, TerminatedWorkerError

from pool.engines.dispatch import KILLED, LostError, dispatch
from pool.engines.engine import ONE_BY_ONE, Job, Result, said_into
from pool.engines.resources import ANY, NO_DEVICE, Resources, room_of, shared_out
from pool.errors import EngineError
from pool.progress import mute, say


class Processes:
    """Does jobs in `places` processes, or as many as have room; places take shares of `devices` in turn.

    The device `cpu` stands for no GPU. Without OMP_NUM_THREADS, a process has a thread for each of its CPUs, or an even
    share of the machine's.
    Raises `EngineError` without room for one job.
    """

    elsewhere = True
    machines = 1

    def __init__(self, places: int, devices: Sequence[str] = (), resources: Resources = ANY) -> None:
        if places < 1:
            raise ValueError(f"places must be at least 1: got {places}")
        self.places = min(places, _room(devices, resources, places))
        if self.places < places:
            say(f"this machine has room for {self.places} of {places} workers that take {resources} each")
        self._shares = shared_out(devices, resources.gpus)
        self._cpus = resources.cpus

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        count = min(self.places, len(jobs))
        places = self._begun(count)

        def begin(job: Job[Result]) -> Future[Result]:
            free = next(place for place in places if not place.busy)
            return free.begin(job)

        with self._ended(places):
            yield from dispatch(jobs, begin, places=count, watch=watch)

    def _begun(self, count: int) -> list["_Place"]:
        return [_Place(self._environment(number, count)) for number in range(count)]

    def _ended(self, places: Sequence["_Place"]) -> contextlib.AbstractContextManager[None]:
        return _stopped_at_the_end(places)

    def threads(self, jobs: int) -> int | None:
        """Return the threads of each of so many jobs; None where the environment says them."""
        if "OMP_NUM_THREADS" in os.environ:
            return None
        share = (os.cpu_count() or 1) // max(1, min(self.places, jobs))
        return max(1, share if self._cpus is None else int(self._cpus))

    def _environment(self, number: int, places: int) -> dict[str, str]:
        environment = {}
        if (threads := self.threads(places)) is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        if self._shares:
            environment["CUDA_VISIBLE_DEVICES"] = self._shares[number % len(self._shares)]
        return environment


class SideBySide(Processes):
    """Does jobs in processes of one thread each, and a single job in this process, with one thread too.

    So the results depend neither on the number of cores nor on the number of jobs. Within `kept`, runs share processes.
    """

    def __init__(self, places: int) -> None:
        super().__init__(places, resources=Resources(cpus=1))
        self._kept: list[_Place] | None = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the processes from one run to the next, so that each loads its libraries once, and end them last."""
        self._kept = []
        try:
            with _stopped_at_the_end(self._kept):
                yield
        finally:
            self._kept = None

    def _begun(self, count: int) -> list["_Place"]:
        if self._kept is None:
            return super()._begun(count)
        self._kept.extend(super()._begun(count)[len(self._kept) :])
        return self._kept[:count]

    def _ended(self, places: Sequence["_Place"]) -> contextlib.AbstractContextManager[None]:
        return _stopped_at_the_end(places) if self._kept is None else _stopped_where_busy(places)

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        if len(jobs) > 1:
            yield from super().run(jobs, watch=watch)
            return
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from ONE_BY_ONE.run(jobs, watch=watch)
        finally:
            torch.set_num_threads(threads)


class _Place:
    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._executor: ProcessPoolExecutor | None = None
        self.busy = False

    def begin(self, job: Job[Result]) -> Future[Result]:
        self.busy = True
        outcome: Future[Result] = Future()
        self._submitted(job).add_done_callback(lambda done: self._end(done, outcome))
        return outcome

    def _submitted(self, job: Job[Result]) -> Future[Result]:
        if self._executor is not None:
            with contextlib.suppress(TerminatedWorkerError):  # it died idle
                return cast(Future[Result], self._executor.submit(_heard, job.work, job.said))
        self._executor = ProcessPoolExecutor(max_workers=1, env=self._environment, initializer=mute)
        return cast(Future[Result], self._executor.submit(_heard, job.work, job.said))

    def _end(self, done: Future[Result], outcome: Future[Result]) -> None:
        error = done.exception()
        if isinstance(error, TerminatedWorkerError):
            self._executor = None  # a broken one takes no work
            error = LostError("its process died", KILLED if "SIGKILL" in str(error) else None)
        self.busy = False
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(done.result())

    def stop(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=self.busy)
            self._executor = None


def _heard(work: Callable[[], Result], said: Path | None) -> Result:
    with said_into(said):
        return work()


def _room(devices: Sequence[str], resources: Resources, wanted: int) -> int:
    if not resources.cpus and not resources.gpus:
        return wanted
    has = {"CPU": float(os.cpu_count() or 1), "GPU": float(sum(device != NO_DEVICE for device in devices))}
    room = room_of(has, resources)
    if not room:
        raise EngineError(
            f"this machine has {has['CPU']:g} CPUs and {has['GPU']:g} GPUs for its processes, and each job takes "
            f"{resources}: give other --num-cpus and --num-gpus"
        )
    return room


@contextlib.contextmanager
def _stopped_where_busy(places: Sequence[_Place]) -> Iterator[None]:
    """Stop the processes that are at work after the block, as an error in a job leaves the others."""
    try:
        yield
    finally:
        for place in places:
            if place.busy:
                place.stop()


@contextlib.contextmanager
def _stopped_at_the_end(places: Sequence[_Place]) -> Iterator[None]:
    """Stop the processes after the block, also on SIGTERM."""

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
