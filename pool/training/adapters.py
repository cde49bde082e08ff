"""LoRA members: low-rank updates trained by peft, then merged into full weights, so a pool stays one of full models.

The merge is W + B A * alpha / rank in float32 (Hu et al. 2021, arXiv 2106.09685, equation 3); what was added is kept
beside the member as the adapter itself.
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
"""What Trainer is given: a model, or one with adapters in it."""

ADAPTER = "adapter"
"""Folder beside a member's weights."""
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def with_adapter(model: PreTrainedModel, table: Lora, *, initial_seed: int) -> "PeftModel":
    """Put adapters into `model`, which alone are trained; the global random state is left as it was.

    Raises `PoolError` where peft is not installed, where the model has no layer of a name in `targets`, and where a
    layer shares its weights with another one: merged, the update would go into both, which is not what was trained.
    """
    try:
        from peft import LoraConfig, get_peft_model
        from peft.tuners.lora import LoraLayer
    except ImportError:
        raise PoolError("[recipe.lora] needs peft: run `pip install 'mixscout[lora]'`") from None
    targets = table.targets[0] if table.targets == ("all-linear",) else list(table.targets)
    config = LoraConfig(
        r=table.rank, lora_alpha=table.alpha, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    owners = _owners(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(initial_seed)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise PoolError(f"[recipe.lora] targets {', '.join(table.targets)}: {first_line(error)}") from None
    for module in adapted.modules():
        sharing = owners[cast(torch.Tensor, module.base_layer.weight)] if isinstance(module, LoraLayer) else []
        if len(sharing) > 1:
            raise PoolError(
                f"[recipe.lora] targets {', '.join(table.targets)}: {' and '.join(sharing)} are one matrix (tied), and "
                "an adapter on one of them cannot be merged: leave them out of the targets, or untie them"
            )
    return cast("PeftModel", adapted)


def _owners(model: PreTrainedModel) -> dict[torch.Tensor, list[str]]:
    """Name the modules that each weight belongs to: several where it is tied."""
    owners: dict[torch.Tensor, list[str]] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None:
            owners.setdefault(weight, []).append(name)
    return owners


def save_adapter(adapted: "PeftModel", folder: Path) -> None:
    """Write the adapter as safetensors; the folder of the model that it was put into is left out."""
    adapted.peft_config["default"].base_model_name_or_path = None
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card


def merged(adapted: "PeftModel") -> PreTrainedModel:
    """Merge the adapters into the model they were put into, and return it without them."""
    return cast(PreTrainedModel, adapted.merge_and_unload())


def full_model(model: Trainable) -> PreTrainedModel:
    """Return the model with full weights: itself, or a merged copy, so that training goes on bit for bit."""
    return model if isinstance(model, PreTrainedModel) else merged(copy.deepcopy(model))
