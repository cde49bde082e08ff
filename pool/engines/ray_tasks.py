"""Jobs as tasks of a Ray cluster: a running one, or one of this machine for the time of a command.

Ray places tasks, sets CUDA_VISIBLE_DEVICES and notices dead nodes; `dispatch` begins lost tasks again. Jobs cross as
cloudpickle. Whoever reaches a cluster's ports can run code, unless it asks for a token (`ray start` after `ray
get-auth-token`). A cluster started here does; it listens on loopback only, without a dashboard.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pool.engines.dispatch import KILLED, STARVED, LostError, dispatch
from pool.engines.engine import Job, Result, said_into
from pool.engines.resources import Resources, add_elsewhere, processor_seconds, room_of
from pool.errors import ConfigError, EngineError, first_line, last_line
from pool.progress import say

if TYPE_CHECKING:
    from ray import ObjectRef

LOCAL, AUTO = "local", "auto"
_OF_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_SEVERAL_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Read when Ray is imported. If it is on, as on Linux, Ray on loopback listens on every address."""
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):([0-9]{1,5})")
_REACH_SECONDS = 5.0
WAIT_SECONDS = 600.0
"""How long jobs wait for a large enough node: nodes come back, and autoscalers take minutes."""


def check_address(address: str) -> None:
    """Raise `ConfigError` unless the address is `auto`, `local` or HOST:PORT."""
    if address not in (LOCAL, AUTO) and not _HOST_AND_PORT.fullmatch(address):
        raise ConfigError(
            f"--address {address!r} is no Ray cluster's; write HOST:PORT of its head node, auto for the cluster that "
            "this machine belongs to, or local for one of this machine alone"
        )


def check_installed() -> None:
    """Raise `EngineError` without Ray, which is an extra."""
    if find_spec("ray") is None:
        raise EngineError("--engine ray needs Ray: pip install 'mixscout[cluster]', on every machine")


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to a cluster while the block runs; an older connection is used and stays open.

    Raises `EngineError` if Ray is not installed, or the cluster is out of reach or has other versions.
    """
    if address == LOCAL:
        os.environ.setdefault(_SEVERAL_MACHINES, "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    check_installed()
    import ray

    if ray.is_initialized():
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        # Ray prints twenty lines to stdout for each dead process; `dispatch` says one
        try:
            _connect(address)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise EngineError(
                f"no Ray cluster could be reached at {address}: {first_line(error).rstrip('.')}; start one with `ray "
                "start --head` on the first machine and `ray start --address=HOST:PORT` on the others, and run this "
                "command on one of them (with RAY_AUTH_MODE=token where the cluster asks for a token), or give "
                "--address local"
            ) from None
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    if address == LOCAL:
        ray.init(
            address=LOCAL,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
        return
    found = _HOST_AND_PORT.fullmatch(address)
    if found:  # Ray itself tries for minutes
        host = found[1].strip("[]")
        if host in _OF_THIS_MACHINE:  # as Ray does
            host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        socket.create_connection((host, int(found[2])), timeout=_REACH_SECONDS).close()
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)


def living_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def room_for(resources: Resources) -> int:
    return sum(room_of(node["Resources"], resources) for node in living_nodes())


def largest() -> str:
    resources = [node["Resources"] for node in living_nodes()]
    cpus, gpus = (max((one.get(name, 0) for one in resources), default=0) for name in ("CPU", "GPU"))
    return f"{cpus:g} CPUs and {gpus:g} GPUs"


class Patience:
    """Waits for room for one job, up to `WAIT_SECONDS`."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._without: float | None = None

    def check(self) -> None:
        if room_for(self._resources):
            self._without = None
        elif self._without is None:
            self._without = time.monotonic()
            say(
                f"no node of the Ray cluster has {self._resources} any more, which each job takes; the largest of "
                f"{len(living_nodes())} has {largest()}: waiting up to {WAIT_SECONDS:g} seconds for one that has"
            )
        elif time.monotonic() - self._without > WAIT_SECONDS:
            raise EngineError(
                f"no node of the Ray cluster had {self._resources} for {WAIT_SECONDS:g} seconds; the largest has "
                f"{largest()}: start one again, or give other --num-cpus and --num-gpus, and run the same command "
                "again; what was finished is kept"
            )


@contextmanager
def ray_tasks(address: str, places: int | None, resources: Resources) -> Iterator[RayTasks]:
    """Yield the engine, connected while the block runs. Raises `EngineError`, also without room for one job."""
    with connected(address):
        has_gpus = any(node["Resources"].get("GPU", 0) for node in living_nodes())
        resources = resources.over(Resources(cpus=1.0, gpus=float(has_gpus)))
        room = room_for(resources)
        if not room:
            raise EngineError(
                f"no node of the Ray cluster has {resources} for a job; the largest has {largest()}: give other "
                "--num-cpus and --num-gpus"
            )
        if places and places > room:
            say(f"the Ray cluster has room for {room} of {places} workers now; the others wait for it")
        yield RayTasks(places or room, resources)


class RayTasks:
    elsewhere = True

    def __init__(self, places: int, resources: Resources) -> None:
        self.places = places
        self._resources = resources

    @property
    def machines(self) -> int:
        return len({node["NodeManagerHostname"] for node in living_nodes()})

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        import ray

        as_task: Any = ray.remote(num_cpus=self._resources.cpus or 0, num_gpus=self._resources.gpus or 0, max_retries=0)
        task = as_task(_do)
        begun: list[ObjectRef[Any]] = []

        def begin(job: Job[Result]) -> Future[Result]:
            reference = task.options(name=job.name).remote(
                job.work, job.said, version("mixscout"), gpus=self._resources.gpus
            )
            begun.append(reference)
            outcome: Future[Result] = Future()
            reference.future().add_done_callback(lambda done: _end(done, outcome))
            return outcome

        patience = Patience(self._resources)

        def watch_all() -> None:
            patience.check()
            watch()

        try:
            yield from dispatch(jobs, begin, places=self.places, watch=watch_all)
        finally:
            for reference in begun:  # no effect on finished tasks
                ray.cancel(reference, force=True)


_reported = 0.0


def _do(work: Callable[[], Result], said: Path | None, wanted: str, *, gpus: float | None) -> tuple[Result, float]:
    """Do a task; return its result, and the processor time of this process since its last task or its start."""
    global _reported
    here = version("mixscout")
    if here != wanted:
        raise EngineError(f"node {socket.gethostname()} has Mixscout {here}, not {wanted}; install the same everywhere")
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray would show all of a node's
    with said_into(said):
        result = work()
    before, _reported = _reported, processor_seconds()
    return result, _reported - before


def _end(done: Future[Any], outcome: Future[Any]) -> None:
    error = done.exception()
    if error is None:
        result, spent = done.result()
        add_elsewhere(spent)
        outcome.set_result(result)
    else:
        outcome.set_exception(_translated(error))


def _translated(error: BaseException) -> BaseException:
    """Translate a task's error: a loss, an exception of the job, or a failure of the cluster."""
    from ray import exceptions

    if isinstance(error, exceptions.NodeDiedError | exceptions.ObjectLostError):
        return LostError("its node is gone")
    if isinstance(error, exceptions.OutOfMemoryError):
        return LostError("Ray ended it for want of memory", STARVED)
    if isinstance(error, exceptions.WorkerCrashedError):
        return LostError("its process died", KILLED)  # Ray does not say by what
    if isinstance(error, exceptions.RayTaskError) and not str(error.cause).startswith("The remote function failed"):
        return error.cause if isinstance(error.cause, BaseException) else error
    if isinstance(error, exceptions.RayError):
        return EngineError(
            f"Ray: {last_line(error)}; see that every node runs, and has the same Mixscout and libraries"
        )
    return error
