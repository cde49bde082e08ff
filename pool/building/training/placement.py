"""The parameters a run trains, and their place: blocks on several GPUs (`device_map`), or shards (`fsdp`).

LoRA members: peft trains low-rank updates, merged into full weights at the end.

The merge is W + B A * alpha / rank in float32 (Hu et al. 2021, arXiv 2106.09685, equation 3).
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.hooks import remove_hook_from_submodules
from accelerate.utils import get_balanced_memory
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from pool.config.recipe import Lora
from pool.engines.group import is_grouped
from pool.errors import PoolError, first_line
from pool.progress import say

if TYPE_CHECKING:
    from peft import PeftModel


Trainable: TypeAlias = "PreTrainedModel | PeftModel"
"""A model as `Trainer` trains it: whole, or with adapters in it."""

ADAPTER = "adapter"
"""Folder beside a member's weights."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def with_adapter(model: PreTrainedModel, table: Lora, *, initial_seed: int) -> "PeftModel":
    """Put adapters into `model`, the only trained parameters; the global random state does not change.

    Raises `PoolError` without peft, for unknown `targets`, and for tied weights: a merge would change both layers.
    """
    try:
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora import LoraLayer
    except ImportError:
        raise PoolError("[recipe.lora] needs peft: run `pip install 'mixscout[lora]'`") from None
    asked = f"[recipe.lora] targets {', '.join(table.targets)}"
    config = LoraConfig(
        r=table.rank,
        lora_alpha=table.alpha,
        target_modules=table.targets[0] if table.targets == ("all-linear",) else list(table.targets),
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    owners: dict[torch.Tensor, list[str]] = {}  # several modules own a tied weight
    for name, layer in model.named_modules():
        if (weight := layer._parameters.get("weight")) is not None:
            owners.setdefault(weight, []).append(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(initial_seed)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise PoolError(f"{asked}: {first_line(error)}") from None
    for module in adapted.modules():
        sharing = owners[cast(torch.Tensor, module.base_layer.weight)] if isinstance(module, LoraLayer) else []
        if len(sharing) > 1:
            raise PoolError(
                f"{asked}: {' and '.join(sharing)} are one matrix (tied), and an adapter on one of them cannot be "
                "merged: leave them out of the targets, or untie them"
            )
    return cast("PeftModel", adapted)


def save_adapter(adapted: "PeftModel", folder: Path) -> None:
    adapted.peft_config["default"].base_model_name_or_path = None  # a path of this machine
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card


def merged(adapted: "PeftModel") -> PreTrainedModel:
    """Merge the adapters into the very model that holds them, and return that model."""
    return cast(PreTrainedModel, adapted.merge_and_unload())


@contextmanager
def embeddings_frozen(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Train all parameters of a model but those of its embedding and its head meanwhile."""
    own = cast(PreTrainedModel, model)
    modules = [own.get_input_embeddings(), own.get_output_embeddings()] if wanted else []  # type: ignore[no-untyped-call]
    frozen = [parameter for module in modules if module is not None for parameter in module.parameters()]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def full_model(model: Trainable) -> PreTrainedModel:
    """Return a model with full weights: itself, or a merged copy, so that training continues bit for bit."""
    return model if isinstance(model, PreTrainedModel) else merged(copy.deepcopy(model))


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
