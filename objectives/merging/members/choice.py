"""Where members go when nobody said so: the first place with room, of the device, the host, the disk.

Which form a `Holding` asks for.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from objectives.merging.members.codes import EightBits, SixBits
from objectives.merging.members.form import Form
from objectives.merging.members.holding import Holding, Place
from objectives.merging.members.layout import FlatLayout
from objectives.merging.members.pruned import PrunedForm
from objectives.merging.members.steps import StepsForm
from objectives.merging.members.whole import WholeForm

SHARE = 0.8
"""Of what is free, so much is taken at most: scoring needs some, and so does whoever else is on the machine."""
MODELS = 3
"""Models beside the pool: the resident one, its gradient, and the one being loaded."""


@dataclass(frozen=True)
class Free:
    """Bytes that are free now: of the host, and of the device, which for a CPU is the host."""

    host: float
    device: float


@dataclass(frozen=True)
class Choice:
    """A place, and a line that says why."""

    place: Place
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


def free_memory(device: torch.device) -> Free:
    """Ask the operating system and the device; a container's limit counts where there is one."""
    host = min(psutil.virtual_memory().available, _free_of_container(Path("/sys/fs/cgroup")))
    return Free(host, torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host)


def choose(pool_bytes: int, model_bytes: int, device: torch.device, free: Free) -> Choice:
    """Choose where members of so many bytes in all go, beside models of so many bytes each.

    Resident where the device has room for both; else streamed from the host's memory, where a GPU merges; else mapped.
    """
    beside = MODELS * model_bytes
    needed = f"{_gigabytes(pool_bytes)} of members and {_gigabytes(beside)} for models"
    where = "memory" if device.type == "cpu" else "the GPU"
    if pool_bytes + beside <= SHARE * free.device:
        return Choice("resident", f"{needed} fit into {where}, {_gigabytes(free.device)} free")
    too_much = f"{needed} are too much for {where}, {_gigabytes(free.device)} free"
    if device.type != "cpu" and pool_bytes + model_bytes <= SHARE * free.host:
        return Choice("streamed", f"{too_much}, and fit into the host's memory, {_gigabytes(free.host)} free")
    host = "" if device.type == "cpu" else f", and for the host's memory, {_gigabytes(free.host)} free"
    return Choice("mapped", too_much + host)


def _free_of_container(group: Path) -> float:
    """Return the bytes that a control group (version 2) has left; infinity where it has no limit.

    Files in the cache count as free: checking the pool has just read all of it.
    """
    try:
        limit, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        counters = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no group, or "max"
        return float("inf")
    return max(0, limit - taken + int(counters.get("file", 0)))


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


_DTYPES = {"bfloat16": torch.bfloat16, "int8": torch.int8}


def form_of(holding: Holding, count: int, layout: FlatLayout, seed: torch.Tensor | None, computed: torch.dtype) -> Form:
    """Return the form of K members, merged in the dtype `computed`. Task vectors take the `seed` (P,) they start at.

    Raises `ValueError` where they have none.
    """
    stored = _DTYPES.get(holding.stored, computed)
    if not holding.starts_at_seed:
        return WholeForm(count, layout.size, stored, computed)
    if seed is None:
        raise ValueError("int8, int6 and pruned members are steps from a seed: give the pool's folder, which has one")
    if holding.keep_share < 1:
        return PrunedForm(count, layout, seed, holding.keep_share, stored)
    codes = SixBits(layout) if holding.stored == "int6" else EightBits(layout)
    return StepsForm(count, layout, seed, codes)
