"""The choice of an engine from the options of a command."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pool.engines.devices import visible_devices
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.engines.ray_tasks import AUTO, check_address, check_installed, ray_tasks
from pool.engines.resources import ANY, Demand, Resources, free_host_memory
from pool.errors import ConfigError

if TYPE_CHECKING:
    from pool.engines.processes import SideBySide

EngineName = Literal["processes", "ray"]


@dataclass(frozen=True)
class EngineRequest:
    """The options of a command about engines: `workers`, what each takes, and the address of a Ray cluster.

    Raises `ConfigError` for options that contradict each other, and `EngineError` for Ray that is not installed.
    """

    engine: EngineName | None = None
    workers: int | None = None
    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None

    def __post_init__(self) -> None:
        if self.engine != "ray" and self.address is not None:
            raise ConfigError("--address says something about a Ray cluster: give --engine ray with it")
        given = {"--num-cpus": self.num_cpus, "--num-gpus": self.num_gpus}
        idle = [name for name, value in given.items() if value is not None]
        if self.engine is None and self.workers is None and idle:
            raise ConfigError(f"{idle[0]} says what each of several workers takes: give --workers with it")
        if self.engine == "processes" and self.workers is None:
            raise ConfigError("--engine processes needs --workers, how many of them")
        if self.address is not None:
            check_address(self.address)
        if self.engine == "ray":
            check_installed()

    @property
    def resources(self) -> Resources:
        return Resources(self.num_cpus, self.num_gpus)


SMALL_PARAMETERS = 5_000_000
"""Parameters of a model at most for which a core's own job is faster than all cores at one job."""
_JOB_BYTES = 1_500_000_000
"""Memory of a process that trains such a model: libraries, model, optimizer and a batch."""


NO_REQUEST, NO_DEMAND = EngineRequest(), Demand()


@contextmanager
def chosen(
    wanted: EngineRequest = NO_REQUEST, devices: Sequence[str] = (), demand: Demand = NO_DEMAND
) -> Iterator[Engine]:
    """Yield the wanted engine: Ray, processes on `devices` or all visible devices, or the default.

    The default is one by one, and for trainings of a small model a process for each core, which lives as long as the
    block. The jobs' `demand` fills in resources that are not asked for. Raises `EngineError` and `ConfigError`.
    """
    resources = wanted.resources.over(demand.resources)
    if wanted.engine == "ray":
        if devices:
            raise ConfigError("--devices is for processes; Ray deals out GPUs itself: say --num-gpus for each worker")
        with ray_tasks(wanted.address or AUTO, wanted.workers, resources) as engine:
            yield engine
    elif wanted.workers is None and not devices:
        side_by_side = _side_by_side(demand.parameters) if resources == ANY else None
        with side_by_side.kept() if side_by_side else nullcontext():
            yield side_by_side or ONE_BY_ONE
    else:
        from pool.engines.processes import Processes  # joblib loads slowly

        yield Processes(wanted.workers or len(devices), devices or visible_devices(), resources)


def _side_by_side(parameters: int | None) -> "SideBySide | None":
    """Take a core for each training of a small model, unless a GPU is there or the user has divided the cores."""
    if parameters is None or parameters > SMALL_PARAMETERS or "OMP_NUM_THREADS" in os.environ:
        return None
    import joblib

    places = min(joblib.cpu_count(), int(free_host_memory() // _JOB_BYTES))
    if places < 2 or visible_devices():
        return None
    from pool.engines.processes import SideBySide

    return SideBySide(places)
