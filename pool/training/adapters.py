"""LoRA members: peft trains low-rank updates, merged into full weights at the end.

The merge is W + B A * alpha / rank in float32 (Hu et al. 2021, arXiv 2106.09685, equation 3).
"""

import copy
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import torch
from transformers import PreTrainedModel

from pool.config.recipe import Lora
from pool.errors import PoolError, first_line

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


def full_model(model: Trainable) -> PreTrainedModel:
    """Return a model with full weights: itself, or a merged copy, so that training continues bit for bit."""
    return model if isinstance(model, PreTrainedModel) else merged(copy.deepcopy(model))
