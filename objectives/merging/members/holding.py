"""How members are held: what a user asks for, and which place has room.

Reading a study file imports this module, so torch loads only when the device is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pool.engines.devices import one_at_a_time
from pool.engines.resources import free_host_memory
from pool.progress import size

if TYPE_CHECKING:
    import torch

Place = Literal["resident", "streamed", "mapped"]
Held = Literal["auto", "resident", "streamed", "mapped"]
StoredAs = Literal["float32", "bfloat16", "int8"]

_PLACES: Sequence[Place] = ("resident", "streamed", "mapped")

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
    devices: the devices over which each model is cut; their number changes no loss
    packed: folder of mapped members, by default the pool's; it changes no value

    Raises `ValueError` for a share outside (0, 1], and for less than one device.
    """

    held: Held = "auto"
    stored: StoredAs = "float32"
    keep_share: float = 1.0
    packed: Path | None = None
    devices: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.keep_share <= 1:
            raise ValueError(f"the share of a task vector that is kept must be in (0, 1]: got {self.keep_share!r}")
        if self.devices < 1:
            raise ValueError(f"a model lies on one device at least: got {self.devices!r}")

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


@contextmanager
def in_turn(devices: Sequence[torch.device]) -> Iterator[None]:
    """Wait for other processes that choose a place on one of the same GPUs, in an order that all of them keep."""
    import torch

    uuids = {str(torch.cuda.get_device_properties(device).uuid) for device in devices if device.type == "cuda"}
    with ExitStack() as turns:
        for uuid in sorted(uuids):
            turns.enter_context(one_at_a_time(f"gpu-{uuid}"))
        yield


class Weighed(Protocol):
    """Members of one shard, by their bytes in all and on their device."""

    nbytes: int
    device_nbytes: int


def held_line(choice: Choice, members: Sequence[Weighed], gpus: Sequence[torch.device]) -> str:
    """Say what each GPU and the host now hold of the members, shard by shard, and what they have left.

    Nothing is said of a CPU.
    """
    import torch

    if gpus[0].type == "cpu":
        return ""
    free = [free_memory(gpu) for gpu in gpus]
    names = [torch.cuda.get_device_properties(gpu).name for gpu in gpus]
    on_gpus = [
        f"{size(one.device_nbytes)} of {name}, {size(left.device)} left"
        for one, name, left in zip(members, names, free, strict=True)
    ]
    beside = sum(one.nbytes - one.device_nbytes for one in members)
    return (
        f"members are {choice.place}: {', '.join(on_gpus)}, and {size(beside)} of the host's memory, "
        f"{size(free[0].host)} left"
    )


def choose(pool_bytes: int, model_bytes: int, device: torch.device, free: Free) -> Choice:
    """Choose the first place with room for members and models: the device, a GPU's host, the disk."""
    beside = MODELS * model_bytes
    needed = f"{_gigabytes(pool_bytes)} of members and {_gigabytes(beside)} for models"
    where = "memory" if device.type == "cpu" else "the GPU" if device.index is None else f"GPU {device.index}"
    if pool_bytes + beside <= SHARE * free.device:
        return Choice("resident", f"{needed} fit into {where}, {_gigabytes(free.device)} free")
    too_much = f"{needed} are too much for {where}, {_gigabytes(free.device)} free"
    if device.type == "cpu":
        return Choice("mapped", too_much)
    if pool_bytes + model_bytes <= SHARE * free.host:
        return Choice("streamed", f"{too_much}, and fit into the host's memory, {_gigabytes(free.host)} free")
    return Choice("mapped", f"{too_much}, and for the host's memory, {_gigabytes(free.host)} free")


def memory_line(count: int, model_bytes: int, holding: Holding, *, by_rows: bool = False) -> str:
    """Say what merges of `count` members hold, by the bytes of one model in float32, and what other types would.

    A merge `by_rows` holds the number of every value's row, too.

    Errors of the types are those of docs/experiments.md, "how members are held in memory".
    """
    sizes = {
        "float32": count * model_bytes,
        "bfloat16": count * model_bytes // 2,
        "int8": (count + 1) * model_bytes // 4,
    }
    others = [f"{size(held)} in {name}" for name, held in sizes.items() if name != holding.stored]
    kept = "" if holding.keep_share == 1 else f", {holding.keep_share:g} of each task vector"
    beside, what = (3, "a merge, its gradient and numbers of rows") if by_rows else (2, "a merge and its gradient")
    held = (sizes[holding.stored] + beside * model_bytes) // holding.devices
    each = "" if holding.devices == 1 else f"; each of {holding.devices} devices about {size(held)} of both"
    return (
        f"merges hold about {size(sizes[holding.stored])} of {count} members in {holding.stored}{kept}, and "
        f"{size(beside * model_bytes)} of {what}{each}; members would take {' or '.join(others)} "
        "([objective] stored, in a study of another name); losses by bfloat16 and int8 were off by at most "
        f"{ERROR_NATS:g} nats where measured"
    )


def choose_for_all(
    pool_bytes: Sequence[int],
    model_bytes: Sequence[int],
    devices: Sequence[torch.device],
    paid: float = 0,
) -> Choice:
    """Choose the first place with room on the device of every shard; shards on one device are counted together.

    Each device may fill its share of the host's memory, of which `paid` bytes hold the members already.
    """
    found = []
    for device in dict.fromkeys(devices):
        pool, model = (
            sum(count for count, one in zip(counts, devices, strict=True) if one == device)
            for counts in (pool_bytes, model_bytes)
        )
        free, share = free_memory(device), pool / sum(pool_bytes)
        found.append(choose(pool, model, device, Free((free.host + paid) * share, free.device)))
    return max(found, key=lambda choice: _PLACES.index(choice.place))


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
