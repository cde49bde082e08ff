"""Tensors of which each process holds a shard: whole again, or cut; and which process of a group speaks for it.

Alone in its process, a tensor is whole, and the process is the first.
"""

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from pool.engines.group import _is_grouped


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a tensor from its shards; every process that holds one must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Put a whole tensor, the same in every process, where a parameter of its shape is, cut into the same shards."""
    there = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor):
        return there
    cut: torch.Tensor = distribute_tensor(there, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return cut


def as_first_says(value: float) -> float:
    """Return the first process's value in all of them: what they decide by it, they decide alike."""
    if not _is_grouped():
        return value
    agreed = torch.tensor(value, dtype=torch.float64)
    torch.distributed.broadcast(agreed, src=0)
    return float(agreed)
