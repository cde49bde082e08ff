"""A finished model made smaller: weights pruned to zero, or stored as packed integers that `from_pretrained` reads.

compressed-tensors is an extra, for writing and for reading. transformers makes floats of the integers as it loads them:
what they save is disk and transfer, not memory. Everything stays safetensors.
"""

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from pool.checkpoints.checkpoint import parameters_of

Quantisation = Literal["int8", "int4"]
Pruning = Literal["wanda", "magnitude"]
BITS: dict[Quantisation, int] = {"int8": 8, "int4": 4}
GROUP = 32
"""Weights of a row that share a scale, in four bits; in eight bits a whole row does."""
FORMAT = "pack-quantized"


def prune(model: PreTrainedModel, share: float, pruning: Pruning, windows: torch.Tensor) -> None:
    """Set a share of every linear layer's weights to zero in place; embeddings and the head stay whole.

    `magnitude` drops the smallest |W| of a matrix. `wanda` drops the smallest |W_ij| * ||x_j|| of every output i, where
    x_j are all values of input j for `windows` (B, T) (Sun et al. 2023, arXiv 2306.11695, equation 1). One pass prunes
    each layer as its input arrives, so that later layers see what the pruning before them leaves. Raises `ValueError`
    for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of pruned weights is above 0 and below 1: got {share!r}")
    layers = [module for module in model.base_model.modules() if isinstance(module, nn.Linear | Conv1D)]

    def reached(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        _zero(layer, share, inputs[0].flatten(0, -2).float().norm(dim=0) if pruning == "wanda" else None)

    hooks = [layer.register_forward_pre_hook(reached) for layer in layers]
    try:
        with torch.no_grad():
            model.base_model(input_ids=windows.to(model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()


def _zero(layer: nn.Module, share: float, norms: torch.Tensor | None) -> None:
    """Zero the smallest scores: of each output's weights with `norms` (I,) of the inputs, else of the whole matrix."""
    weight = cast(torch.Tensor, layer.weight).data
    rows = weight.T if isinstance(layer, Conv1D) else weight  # (O, I)
    scores = rows.abs() if norms is None else rows.abs() * norms
    scores = scores.reshape(1, -1) if norms is None else scores
    least = scores.argsort(dim=1, stable=True)[:, : round(share * scores.shape[1])]
    kept = torch.ones_like(scores, dtype=torch.bool).scatter_(1, least, False)
    rows.mul_(kept.view(rows.shape))


def zeros_of(model: PreTrainedModel) -> float:
    """Return the share of parameters that are zero."""
    tensors = parameters_of(model).values()
    return sum(int((one == 0).sum()) for one in tensors) / sum(one.numel() for one in tensors)


def save_quantised(model: PreTrainedModel, folder: Path, quantisation: Quantisation) -> None:
    """Save a model with the matrices of its linear layers and embeddings as packed integers; a tied head once.

    Scales are symmetric: w = s * q. Eight bits have one s for a row, four bits one for each `GROUP` of its weights.
    config.json tells transformers to make floats of them. Needs compressed-tensors.
    """
    args = importlib.import_module("compressed_tensors.quantization")  # an extra
    compressors = importlib.import_module("compressed_tensors.compressors")
    tensors, matrices = {name: one.detach() for name, one in model.state_dict().items()}, dict(_matrices(model))
    size = math.gcd(GROUP, *(weight.shape[1] for weight in matrices.values())) if quantisation == "int4" else None
    by = "channel" if size is None else "group"
    weights = args.QuantizationArgs(num_bits=BITS[quantisation], symmetric=True, strategy=by, group_size=size)
    scheme = args.QuantizationScheme(targets=["Linear", "Embedding"], weights=weights, format=FORMAT)
    packer = compressors.BaseCompressor.get_value_from_registry(FORMAT)
    for name, weight in matrices.items():
        scale = _scales(weight, size, 2 ** BITS[quantisation] - 1)
        packed = packer.compress({"weight": weight, "weight_scale": scale}, scheme)
        prefix = name.removesuffix("weight")
        tensors |= {f"{prefix}{part}": tensor for part, tensor in packed.items()}
        del tensors[name]
    for name in getattr(model, "all_tied_weights_keys", {}):
        tensors.pop(name, None)
    config = args.QuantizationConfig(
        config_groups={"matrices": scheme}, format=FORMAT, quantization_status="compressed", ignore=[]
    )
    model.config.quantization_config = {**config.model_dump(), "dequantize": True}
    model.save_pretrained(folder, state_dict=tensors)


def _matrices(model: PreTrainedModel) -> Iterator[tuple[str, torch.Tensor]]:
    own = parameters_of(model)  # a tied head is not among them
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D | nn.Embedding) and f"{prefix}.weight" in own:
            yield f"{prefix}.weight", own[f"{prefix}.weight"]


def _scales(weight: torch.Tensor, size: int | None, steps: int) -> torch.Tensor:
    """Return s (rows, groups): the largest |w| of a group is the largest integer; 1 for a group of zeros."""
    groups = weight.reshape(len(weight), -1, size or weight.shape[1])
    largest = groups.abs().amax(dim=2) / (steps / 2)
    return torch.where(largest > 0, largest, torch.ones_like(largest))
