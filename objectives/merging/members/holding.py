"""How members are held: what a user asks for, and which place has room.

Reading a study file imports this module, so torch loads only when the device is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pool.engines.resources import free_host_memory
from pool.progress import size

if TYPE_CHECKING:
    import torch

Place = Literal["resident", "streamed", "mapped"]
Held = Literal["auto", "resident", "streamed", "mapped"]
StoredAs = Literal["float32", "bfloat16", "int8"]

SHARE = 0.8
"""Largest share of free memory for members and models."""
ERROR_NATS = 1.3e-4
"""Largest error of a loss by members in bfloat16 or int8, on two pools: see docs/experiments.md."""
MODELS = 3
"""Models beside the pool: the resident one, its gradient, and one that is being loaded."""


@dataclass(frozen=True)
class Holding:
    """How members are held.

    held: the place of their bytes; it changes no value
    stored: the type of their values; `float32` stands for the pool's own dtype
    keep_share: the share of every task vector that is kept
    packed: folder of mapped members, by default the pool's; it changes no value

    Raises `ValueError` for a share outside (0, 1].
    """

    held: Held = "auto"
    stored: StoredAs = "float32"
    keep_share: float = 1.0
    packed: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.keep_share <= 1:
            raise ValueError(f"the share of a task vector that is kept must be in (0, 1]: got {self.keep_share!r}")

    @property
    def starts_at_seed(self) -> bool:
        """Whether members are stored as steps from the seed (task vectors)."""
        return self.stored == "int8" or self.keep_share < 1

    @property
    def digest_parts(self) -> dict[str, object]:
        """Everything that decides a value, in JSON types: empty for members as trained.

        All places merge by the same sums on a CPU, so values agree there in every bit.
        """
        as_trained = self.stored == "float32" and self.keep_share == 1
        return {} if as_trained else {"members": {"stored": self.stored, "keep_share": self.keep_share}}


@dataclass(frozen=True)
class Free:
    """Free bytes of the host and of the device; for a CPU the device is the host."""

    host: float
    device: float


@dataclass(frozen=True)
class Choice:
    """A place and its reason."""

    place: Place
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


def free_memory(device: torch.device) -> Free:
    """Ask the operating system and the device; a container's limit counts."""
    import torch

    host = free_host_memory()
    return Free(host, torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host)


def choose(pool_bytes: int, model_bytes: int, device: torch.device, free: Free) -> Choice:
    """Choose the first place with room for members and models: the device, a GPU's host, the disk."""
    beside = MODELS * model_bytes
    needed = f"{_gigabytes(pool_bytes)} of members and {_gigabytes(beside)} for models"
    where = "memory" if device.type == "cpu" else "the GPU"
    if pool_bytes + beside <= SHARE * free.device:
        return Choice("resident", f"{needed} fit into {where}, {_gigabytes(free.device)} free")
    too_much = f"{needed} are too much for {where}, {_gigabytes(free.device)} free"
    if device.type == "cpu":
        return Choice("mapped", too_much)
    if pool_bytes + model_bytes <= SHARE * free.host:
        return Choice("streamed", f"{too_much}, and fit into the host's memory, {_gigabytes(free.host)} free")
    return Choice("mapped", f"{too_much}, and for the host's memory, {_gigabytes(free.host)} free")


def memory_line(count: int, model_bytes: int, holding: Holding) -> str:
    """Say what merges of `count` members hold, by the bytes of one model in float32, and what other types would.

    Errors of the types are those of docs/experiments.md, "how members are held in memory".
    """
    sizes = {
        "float32": count * model_bytes,
        "bfloat16": count * model_bytes // 2,
        "int8": (count + 1) * model_bytes // 4,
    }
    others = [f"{name} {size(held)}" for name, held in sizes.items() if name != holding.stored]
    kept = "" if holding.keep_share == 1 else f", {holding.keep_share:g} of each task vector,"
    return (
        f"merges hold about {size(sizes[holding.stored])} of {count} members in {holding.stored}{kept} and "
        f"{size(2 * model_bytes)} of a merge and its gradient ({' or '.join(others)} by [objective] stored, another "
        f"study; float32 is exact, the others were off by at most {ERROR_NATS:g} nats where measured)"
    )


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
