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
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pool.engines.dispatch import KILLED, STARVED, LostError, dispatch
from pool.engines.engine import Job, Result
from pool.engines.ray_cluster import Patience, connected, largest, living_nodes, room_for
from pool.engines.resources import Resources
from pool.engines.said import said_into
from pool.errors import EngineError, last_line
from pool.progress import say

if TYPE_CHECKING:
    from ray import ObjectRef


@contextmanager
def ray_tasks(address: str, places: int | None, resources: Resources) -> Iterator[RayTasks]:
    """Connect to a cluster while the block runs. Raises `EngineError`, also where no node has room for a job."""
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
    """Does jobs as tasks of the cluster that this process is connected to."""

    elsewhere = True

    def __init__(self, places: int, resources: Resources) -> None:
        self.places = places
        self._resources = resources

    @property
    def machines(self) -> int:
        """How many machines the cluster's nodes are on."""
        return len({node["NodeManagerHostname"] for node in living_nodes()})

    def run(
        self, jobs: Sequence[Job[Result]], *, watch: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Result]]:
        """Do every job, and yield its name and result as soon as it is done."""
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
            for reference in begun:  # does nothing to those that are done
                ray.cancel(reference, force=True)


def _do(work: Callable[[], Result], said: Path | None, wanted: str, *, gpus: float | None) -> Result:
    here = version("mixscout")
    if here != wanted:
        raise EngineError(f"node {socket.gethostname()} has Mixscout {here}, not {wanted}; install the same everywhere")
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray would show all of a node's
    with said_into(said):
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
