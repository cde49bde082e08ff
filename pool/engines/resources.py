"""Resources of a job, devices of this machine, and errors of full memory; torch loads only when needed."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import psutil

from pool.errors import ConfigError, first_line


@dataclass(frozen=True)
class Resources:
    """CPUs and GPUs of a job; None lets the engine choose. Raises `ConfigError` for impossible amounts."""

    cpus: float | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        cpus, gpus = (1 if given is None else given for given in (self.cpus, self.gpus))
        if cpus < 0 or gpus < 0 or not cpus + gpus:
            raise ConfigError(f"a job needs some of a node: got {cpus:g} CPUs and {gpus:g} GPUs")
        if gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"a job takes a share of one GPU or whole ones: num_gpus is {gpus:g}")

    def over(self, others: Resources) -> Resources:
        """Return these resources, with unset ones taken from `others`."""
        return Resources(
            others.cpus if self.cpus is None else self.cpus,
            others.gpus if self.gpus is None else self.gpus,
        )

    def __str__(self) -> str:
        given = {"CPUs": self.cpus, "GPUs": self.gpus}
        return " and ".join(f"{value:g} {name}" for name, value in given.items() if value is not None)


ANY = Resources()


@dataclass(frozen=True)
class Demand:
    """What a training takes: the resources of its recipe, and about so many parameters (None: unknown)."""

    resources: Resources = ANY
    parameters: int | None = None


def room_of(has: Mapping[str, float], resources: Resources) -> int:
    """Count the jobs with room on a machine that `has` so many `CPU` and `GPU`.

    A fraction of a GPU lies on one GPU. `resources` must set CPUs or GPUs.
    """
    room = []
    if resources.cpus:
        room.append(has.get("CPU", 0.0) // resources.cpus)
    if resources.gpus:
        gpus = has.get("GPU", 0.0)
        room.append(gpus // resources.gpus if resources.gpus >= 1 else gpus * (1 // resources.gpus))
    return int(min(room))


NO_DEVICE = "cpu"


def shared_out(devices: Sequence[str], gpus: float | None) -> tuple[str, ...]:
    """Divide `devices` into shares of `gpus` devices, at least one; return the CUDA_VISIBLE_DEVICES of each share.

    Devices too few for another share stay unused. `cpu` and 0 GPUs give a share without devices.
    """
    if gpus == 0:
        return ("",)
    size = max(1, int(gpus or 1))
    usable = ["" if device == NO_DEVICE else device for device in devices]
    return tuple(",".join(usable[first : first + size]) for first in range(0, len(usable) - size + 1, size))


_NO_GPU = ("no nvidia driver", "no cuda gpus are available", "not compiled with cuda")


def device_line(precision: str, devices: int = 1) -> str:
    """Say where models compute, in a precision: on GPUs by their name, or on the CPU, and why a GPU is not used.

    PyTorch falls back to the CPU without a word where the driver is too old for its CUDA.
    """
    import torch

    if torch.cuda.is_available():
        count, name = torch.cuda.device_count(), torch.cuda.get_device_name()
        used = "one" if devices == 1 else f"{min(devices, count)}"
        line = f"computing on {name}{f', {used} of {count} GPUs' if count > 1 else ''}, in {precision}"
        faster = '; precision = "bfloat16" takes about a fifth of the time there (estimated), and changes losses'
        return line + faster if precision == "float32" else line
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        if not any(sign in str(error).lower() for sign in _NO_GPU):
            return f"computing on the CPU, in {precision}: PyTorch cannot use a GPU here ({first_line(error)})"
    return f"computing on the CPU, in {precision}"


_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


_FAULTS = (
    *("illegal memory access", "device-side assert", "unspecified launch failure", "misaligned address"),
    *("illegal instruction", "hardware stack error", "uncorrectable ecc", "invalid program counter"),
)
"""Words of CUDA's errors that stay: all later calls of the process fail with them."""


def device_fault(error: BaseException) -> str | None:
    """Say that an error was a GPU's and stays until the process ends; None for other errors.

    Unknown words are judged by the devices in use themselves: a context that can no longer synchronize is lost.
    """
    if not isinstance(error, RuntimeError) or (torch := sys.modules.get("torch")) is None or is_out_of_memory(error):
        return None
    if not any(fault in str(error).lower() for fault in _FAULTS):
        try:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
                for number in range(torch.cuda.device_count()):
                    if torch.cuda.memory_reserved(number):  # else a context would be made
                        torch.cuda.synchronize(number)
            return None
        except RuntimeError as again:
            error = again
    return (
        f"a GPU failed, and this process can use it no more ({first_line(error)}): what was finished is kept; run the "
        "same command again, and where the fault comes back, with CUDA_LAUNCH_BLOCKING=1 to see its place"
    )


def give_back_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_host_memory() -> float:
    """Ask the operating system for the host's free bytes; a container's limit counts."""
    return min(float(psutil.virtual_memory().available), _free_of_container(Path("/sys/fs/cgroup")))


def _free_of_container(group: Path) -> float:
    """Return the free bytes of a control group (version 2), cached files included, or infinity without a limit."""
    try:
        limit, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        counters = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no group, or "max"
        return float("inf")
    return max(0, limit - taken + int(counters.get("file", 0)))


def processor_seconds() -> float:
    """Return the processor time of this process so far, and of its ended children, as the operating system counts."""
    used = [getrusage(whose) for whose in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


_elsewhere = 0.0


def add_elsewhere(seconds: float) -> None:
    """Add the processor time of work that this process gave to processes which are not its children."""
    global _elsewhere
    _elsewhere += seconds


def all_processor_seconds() -> float:
    """Return the processor time of this process and of all that it has started: ended, alive, or elsewhere."""
    return processor_seconds() + _of_living_children(psutil.Process()) + _elsewhere


_REPORTS_ITSELF = "raylet"
"""Its tasks come by `add_elsewhere`, as it ends without counting them."""


def _of_living_children(process: psutil.Process) -> float:
    total = 0.0
    with suppress(psutil.Error):
        for child in process.children():
            with suppress(psutil.Error):  # it ended a moment ago, and is not waited for yet
                if child.name() != _REPORTS_ITSELF:
                    used = child.cpu_times()
                    own = used.user + used.system + used.children_user + used.children_system
                    total += own + _of_living_children(child)
    return total


class Peak:
    """The most memory of this process while a block of `watched_memory` runs."""

    bytes: int = 0


@contextmanager
def watched_memory() -> Iterator[Peak]:
    """Look at this process's memory every few milliseconds while the block runs."""
    peak, process, over = Peak(), psutil.Process(), threading.Event()

    def look() -> None:
        peak.bytes = max(peak.bytes, process.memory_info().rss)

    def watch() -> None:
        while not over.wait(0.005):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    look()
    thread.start()
    try:
        yield peak
    finally:
        look()
        over.set()
        thread.join()
