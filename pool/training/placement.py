"""The place of a model's tensors: blocks on several GPUs (`device_map`), or a shard in each process (`fsdp`)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.hooks import remove_hook_from_submodules
from accelerate.utils import get_balanced_memory
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from pool.engines.group import is_grouped
from pool.progress import say

DeviceMap = Mapping[str, int | str]
"""The name of each block, and its device or the number of its GPU."""


def device_map_of(model: nn.Module, blocks: list[str], label: str) -> DeviceMap | None:
    """Spread a model evenly over the visible GPUs, splitting no class of `blocks`; None for fewer than two GPUs."""
    count = torch.cuda.device_count()
    if count < 2:
        say(
            f"{label}: device_map spreads a model over two GPUs or more, and there are {count}: trained as without it "
            "([recipe] num_gpus says how many each of several runs takes)"
        )
        return None
    most = get_balanced_memory(model, no_split_module_classes=blocks)
    on_gpus = {device: size for device, size in most.items() if isinstance(device, int)}
    found: DeviceMap = infer_auto_device_map(model, max_memory=on_gpus, no_split_module_classes=blocks)
    return found


@contextmanager
def over_devices(model: nn.Module, device_map: DeviceMap | None) -> Iterator[None]:
    """Keep a model's blocks on their devices meanwhile."""
    if device_map is None:
        yield
        return
    dispatch_model(model, dict(device_map), force_hooks=True)
    try:
        yield
    finally:
        remove_hook_from_submodules(model)
        del model.hf_device_map


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a tensor from its shards; every process with a shard must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Cut a whole tensor into the shards of a parameter of its shape."""
    there = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return there
    cut: torch.Tensor = distribute_tensor(there, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return cut


def as_first_says(value: float) -> float:
    """Return the first process's value in all processes: they must decide alike."""
    if not is_grouped():
        return value
    agreed = torch.tensor(value, dtype=torch.float64)
    torch.distributed.broadcast(agreed, src=0)
    return float(agreed)
