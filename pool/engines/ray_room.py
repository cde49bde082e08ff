"""Room on the nodes of a Ray cluster: counted when a command connects, watched and waited for while it runs."""

import time
from typing import Any

from pool.engines.needs import Needs, room_of
from pool.errors import EngineError
from pool.progress import say

WAIT_SECONDS = 600.0
"""How long jobs wait while no node is large enough for one: nodes come back, autoscalers take minutes to add one."""


def living_nodes() -> list[dict[str, Any]]:
    """List the cluster's nodes, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def room_for(needs: Needs) -> int:
    """Count the jobs that the cluster has room for, were it idle."""
    return sum(room_of(node["Resources"], needs) for node in living_nodes())


def largest() -> str:
    """Say the most CPUs, and the most GPUs, that one node has."""
    resources = [node["Resources"] for node in living_nodes()]
    cpus, gpus = (max((one.get(name, 0) for one in resources), default=0) for name in ("CPU", "GPU"))
    return f"{cpus:g} CPUs and {gpus:g} GPUs"


class Patience:
    """Waits for room while there is none for a single job, but not for ever."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._without: float | None = None

    def check(self) -> None:
        """Say when a wait begins. Raises `EngineError` when it was too long."""
        if room_for(self._needs):
            self._without = None
        elif self._without is None:
            self._without = time.monotonic()
            say(
                f"no node of the Ray cluster has {self._needs} any more, which each job takes; the largest of "
                f"{len(living_nodes())} has {largest()}: waiting up to {WAIT_SECONDS:g} seconds for one that has"
            )
        elif time.monotonic() - self._without > WAIT_SECONDS:
            raise EngineError(
                f"no node of the Ray cluster had {self._needs} for {WAIT_SECONDS:g} seconds; the largest has "
                f"{largest()}: start one again, or give other --num-cpus and --num-gpus, and run the same command "
                "again; what was finished is kept"
            )
