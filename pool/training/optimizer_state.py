"""AdamW's state beside the seed, as safetensors, for members that go on with it.

Trainer's own checkpoints keep it by the number of each parameter, as a pickle; here it is kept by name and whole, so
that a member whose weight decay groups parameters otherwise, or that is sharded otherwise, finds its own.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pool.engines.group import is_first
from pool.errors import PoolError
from pool.training.shards import sharded_like, whole

OPTIMIZER = "optimizer.safetensors"
_PARTS = ("step", "exp_avg", "exp_avg_sq")


def save_optimizer_state(optimizer: torch.optim.Optimizer, model: torch.nn.Module, path: Path) -> None:
    """Write the step (a scalar) and both moments (in the shape of its parameter) of every parameter.

    Every process that holds a shard calls it, and the first one writes.
    """
    state = {
        f"{name}:{part}": whole(optimizer.state[parameter][part].detach()).to("cpu", torch.float32).contiguous()
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for part in _PARTS
    }
    if is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, path)


def load_optimizer_state(optimizer: torch.optim.Optimizer, model: torch.nn.Module, path: Path) -> None:
    """Put the state at `path` into an AdamW that has taken no step.

    Raises `PoolError` when the file cannot be read or is not of this model.
    """
    try:
        kept = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PoolError(f"{path}: not an optimizer state that can be read: {error}; rebuild the seed") from None
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    packed = optimizer.state_dict()
    for mine, group in zip(optimizer.param_groups, packed["param_groups"], strict=True):
        for parameter, number in zip(mine["params"], group["params"], strict=True):
            packed["state"][number] = _state_of(names[id(parameter)], parameter, kept, path)
    optimizer.load_state_dict(packed)


def _state_of(
    name: str, parameter: torch.Tensor, kept: Mapping[str, torch.Tensor], path: Path
) -> dict[str, torch.Tensor]:
    state = {part: kept[f"{name}:{part}"] for part in _PARTS if f"{name}:{part}" in kept}
    if len(state) < len(_PARTS) or state["exp_avg"].shape != parameter.shape:
        raise PoolError(f"{path}: holds no state for {name} of shape {tuple(parameter.shape)}; rebuild the seed")
    return {part: tensor if part == "step" else sharded_like(parameter, tensor) for part, tensor in state.items()}
