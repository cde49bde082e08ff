"""What a job takes of the machine or node where it is done.

Which devices training processes share out.

Running out of memory in training: told apart from other errors, and answered with smaller parts of a batch.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pool.errors import ConfigError


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs, in Ray's units; None where the engine chooses. Raises `ConfigError` for what no job can take."""

    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        cpus, gpus = (1 if given is None else given for given in (self.cpus, self.gpus))
        if cpus < 0 or gpus < 0 or not cpus + gpus:
            raise ConfigError(f"a job needs some of a node: got {cpus:g} CPUs and {gpus:g} GPUs")
        if gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"a job takes a share of one GPU or whole ones: num_gpus is {gpus:g}")

    def over(self, others: Resources) -> Resources:
        """Return these needs, with the others' where nothing is said here."""
        return Resources(
            others.cpus if self.cpus is None else self.cpus,
            others.gpus if self.gpus is None else self.gpus,
        )

    def __str__(self) -> str:
        given = {"CPUs": self.cpus, "GPUs": self.gpus}
        return " and ".join(f"{value:g} {name}" for name, value in given.items() if value is not None)


ANY = Resources()


def room_of(has: Mapping[str, float], resources: Resources) -> int:
    """Count the jobs that what a machine `has` (its `CPU` and `GPU`) suffices for; what is not needed is no limit.

    A share of a GPU is of one GPU. `resources` must name at least one of the two.
    """
    room = []
    if resources.cpus:
        room.append(has.get("CPU", 0.0) // resources.cpus)
    if resources.gpus:
        gpus = has.get("GPU", 0.0)
        room.append(gpus // resources.gpus if resources.gpus >= 1 else gpus * (1 // resources.gpus))
    return int(min(room))


NO_DEVICE = "cpu"


def visible_devices() -> tuple[str, ...]:
    """Name the CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES does; none without CUDA."""
    import torch  # seconds, which a command without several processes need not take

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return ()
    return tuple(given.split(",")) if given else tuple(map(str, range(torch.cuda.device_count())))


def shared_out(devices: Sequence[str], gpus: float | None) -> tuple[str, ...]:
    """Return what CUDA_VISIBLE_DEVICES says for each share of `devices`, in their order; empty to leave it as it is.

    A share is one device, or as many as the whole number `gpus` says; those too few for another share are left over.
    `cpu` among the devices, and 0 GPUs, are a share without any.
    """
    if gpus == 0:
        return ("",)
    size = max(1, int(gpus or 1))
    usable = ["" if device == NO_DEVICE else device for device in devices]
    return tuple(",".join(usable[first : first + size]) for first in range(0, len(usable) - size + 1, size))


_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory was too small: the device's, or this machine's as far as Python or torch are told."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def give_back_memory() -> None:
    """Free what a failed attempt left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
