"""What a job takes of the machine or node where it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pool.errors import ConfigError


@dataclass(frozen=True)
class Needs:
    """CPUs and GPUs, in Ray's units; None where the engine chooses. Raises `ConfigError` for what no job can take."""

    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        cpus, gpus = (1 if given is None else given for given in (self.cpus, self.gpus))
        if cpus < 0 or gpus < 0 or not cpus + gpus:
            raise ConfigError(f"a job needs some of a node: got {cpus:g} CPUs and {gpus:g} GPUs")
        if gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"a job takes a share of one GPU or whole ones: num_gpus is {gpus:g}")

    def over(self, others: Needs) -> Needs:
        """Return these needs, with the others' where nothing is said here."""
        return Needs(
            others.cpus if self.cpus is None else self.cpus,
            others.gpus if self.gpus is None else self.gpus,
        )

    def __str__(self) -> str:
        given = {"CPUs": self.cpus, "GPUs": self.gpus}
        return " and ".join(f"{value:g} {name}" for name, value in given.items() if value is not None)


ANY = Needs()


def room_of(has: Mapping[str, float], needs: Needs) -> int:
    """Count the jobs that what a machine `has` (its `CPU` and `GPU`) suffices for; what is not needed is no limit.

    A share of a GPU is of one GPU. `needs` must name at least one of the two.
    """
    room = []
    if needs.cpus:
        room.append(has.get("CPU", 0.0) // needs.cpus)
    if needs.gpus:
        gpus = has.get("GPU", 0.0)
        room.append(gpus // needs.gpus if needs.gpus >= 1 else gpus * (1 // needs.gpus))
    return int(min(room))
