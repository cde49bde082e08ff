"""Tensors of which each process holds a shard: whole again, or cut; and which process of a group speaks for it.

Alone in its process, a tensor is whole, and the process is the first.
"""

import torch
from torch.distributed.tensor import DTensor, distribute_tensor


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


def is_first() -> bool:
    """Tell whether this process is the first of its group, or alone."""
    grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not grouped or torch.distributed.get_rank() == 0
