"""Which engine does a command's jobs: the one place that decides."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pool.engines.engine import Engine
from pool.engines.needs import Needs
from pool.engines.one_by_one import ONE_BY_ONE
from pool.engines.ray_connection import AUTO, check_address
from pool.engines.ray_tasks import ray_tasks
from pool.errors import ConfigError

EngineName = Literal["processes", "ray"]


@dataclass(frozen=True)
class Wanted:
    """What a command was told: the engine, how many `workers`, and for Ray where the cluster is and what a job needs.

    Raises `ConfigError` at birth for what does not go together.
    """

    engine: EngineName | None = None
    workers: int | None = None
    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None

    def __post_init__(self) -> None:
        given = {"--address": self.address, "--num-cpus": self.num_cpus, "--num-gpus": self.num_gpus}
        idle = [name for name, value in given.items() if value is not None]
        if self.engine != "ray" and idle:
            raise ConfigError(f"{idle[0]} says something about a Ray cluster: give --engine ray with it")
        if self.engine == "processes" and self.workers is None:
            raise ConfigError("--engine processes needs --workers, how many of them")
        if self.address is not None:
            check_address(self.address)

    @property
    def needs(self) -> Needs:
        """What a job needs of a Ray node."""
        return Needs(self.num_cpus, self.num_gpus)


@contextmanager
def chosen(wanted: Wanted, devices: Sequence[str] = ()) -> Iterator[Engine]:
    """Yield the engine that was asked for: Ray, processes with `devices` or those there are, or neither.

    Raises `EngineError` and `ConfigError`.
    """
    if wanted.engine == "ray":
        if devices:
            raise ConfigError("--devices is for processes; Ray deals out GPUs itself: say --num-gpus for each worker")
        with ray_tasks(wanted.address or AUTO, wanted.workers, wanted.needs) as engine:
            yield engine
    elif wanted.workers is None and not devices:
        yield ONE_BY_ONE
    else:
        from pool.devices import visible_devices  # this and joblib take a moment
        from pool.engines.processes import Processes

        yield Processes(wanted.workers or len(devices), devices or visible_devices())
