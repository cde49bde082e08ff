"""Tasks on the nodes of a Ray cluster: what joblib's processes do on one machine, over several.

Ray places tasks, sets their CUDA_VISIBLE_DEVICES and notices dead nodes; a lost task is begun again by `dispatch`, as a
lost process is. Jobs cross as cloudpickle within one trusted cluster, and are kept nowhere.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pool.engines.dispatch import LostError, dispatch
from pool.engines.engine import Job, Result
from pool.engines.ray_connection import connected
from pool.errors import ConfigError, EngineError
from pool.progress import say

if TYPE_CHECKING:
    from ray import ObjectRef


@dataclass(frozen=True)
class Needs:
    """What a job needs of a node, in Ray's units. No `gpus` given means one where the cluster has some."""

    cpus: float = 1.0
    gpus: float | None = None

    def __post_init__(self) -> None:
        if self.cpus < 0 or (self.gpus or 0) < 0 or not self.cpus + (1 if self.gpus is None else self.gpus):
            raise ConfigError(f"a job needs some of a node: got {self.cpus:g} CPUs and {self.gpus or 0:g} GPUs")


@contextmanager
def ray_tasks(address: str, places: int | None, needs: Needs) -> Iterator[RayTasks]:
    """Connect to a cluster while the block runs. Raises `EngineError`, also where no node has room for a job."""
    with connected(address):
        nodes = [node["Resources"] for node in _living_nodes()]
        gpus = needs.gpus if needs.gpus is not None else float(any(node.get("GPU", 0) for node in nodes))
        room = sum(_room(node, needs.cpus, gpus) for node in nodes)
        if not room:
            raise EngineError(
                f"no node of the Ray cluster has {needs.cpus:g} CPUs and {gpus:g} GPUs for a job; the largest has "
                f"{max((node.get('CPU', 0) for node in nodes), default=0):g} and "
                f"{max((node.get('GPU', 0) for node in nodes), default=0):g}: give other --num-cpus and --num-gpus"
            )
        if places and places > room:
            say(f"the Ray cluster has room for {room} of {places} workers now; the others wait for it")
        yield RayTasks(places or room, cpus=needs.cpus, gpus=gpus)


class RayTasks:
    """Does jobs as tasks of the cluster that this process is connected to."""

    elsewhere = True

    def __init__(self, places: int, *, cpus: float, gpus: float) -> None:
        self.places = places
        self._cpus, self._gpus = cpus, gpus

    @property
    def machines(self) -> int:
        """How many machines the cluster's nodes are on."""
        return len({node["NodeManagerHostname"] for node in _living_nodes()})

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        """Do every job, and yield its name and result as soon as it is done."""
        import ray

        as_task: Any = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)
        task = as_task(_do)
        begun: list[ObjectRef[Any]] = []

        def begin(job: Job[Result]) -> Future[Result]:
            reference = task.options(name=job.name).remote(job.work, version("mixscout"), gpus=self._gpus)
            begun.append(reference)
            outcome: Future[Result] = Future()
            reference.future().add_done_callback(lambda done: _end(done, outcome))
            return outcome

        try:
            yield from dispatch(jobs, begin, places=self.places, watch=watch)
        finally:
            for reference in begun:  # does nothing to those that are done
                ray.cancel(reference, force=True)


def _living_nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _room(node: dict[str, float], cpus: float, gpus: float) -> int:
    parts = [node.get(name, 0.0) / wanted for name, wanted in (("CPU", cpus), ("GPU", gpus)) if wanted]
    return int(min(parts))


def _do(work: Callable[[], Result], wanted: str, *, gpus: float) -> Result:
    here = version("mixscout")
    if here != wanted:
        raise EngineError(f"node {socket.gethostname()} has Mixscout {here}, not {wanted}; install the same everywhere")
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray would show all of a node's
    return work()


def _end(done: Future[Any], outcome: Future[Any]) -> None:
    error = done.exception()
    if error is None:
        outcome.set_result(done.result())
    else:
        outcome.set_exception(_translated(error))


def _translated(error: BaseException) -> BaseException:
    """Say what a task's end means: a loss, what the job itself raised, or trouble of the cluster."""
    from ray import exceptions

    if isinstance(error, exceptions.NodeDiedError | exceptions.ObjectLostError):
        return LostError("its node is gone")
    if isinstance(error, exceptions.OutOfMemoryError):
        return LostError("Ray ended it for want of memory")
    if isinstance(error, exceptions.WorkerCrashedError):
        return LostError("its process died")
    if isinstance(error, exceptions.RayTaskError) and not str(error.cause).startswith("The remote function failed"):
        return error.cause if isinstance(error.cause, BaseException) else error
    if isinstance(error, exceptions.RayError):
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        return EngineError(f"Ray: {last.strip()}; see that every node runs, and has the same Mixscout and libraries")
    return error
