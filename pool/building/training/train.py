"""The one training path: the seed, members and ground-truth runs all go through `train`.

A killed run resumes from its last checkpoint and ends with the parameters of an undisturbed run: bit for bit on the
processors of one machine with one number of threads. Elsewhere, or in smaller parts of a batch, sums are in another
order. On a GPU the backward pass of attention adds in any order, so even a repeated run differs in the last digits.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel

from pool.building.training.attempt import Run, TrainingCourse, attempt, sharded_attempt
from pool.building.training.inputs import NOTHING, RunInputs, training_windows
from pool.building.training.placement import (
    ADAPTER,
    Trainable,
    device_map_of,
    merged,
    over_devices,
    save_adapter,
    with_adapter,
)
from pool.building.training.run_files import BESIDE, part_windows, take_smaller_part
from pool.checkpoints.checkpoint import check_finite
from pool.config.recipe import Recipe
from pool.engines.resources import free_host_memory, give_back_memory
from pool.errors import PoolError
from pool.mixture import Mixture
from pool.progress import say, size
from pool.tokens.held_out import Tokens

_COPIES = 4
"""Values of a parameter that its training holds: the parameter, its gradient, and both moments of AdamW."""


def memory_line(recipe: Recipe, model_bytes: int, context: int) -> str:
    """Say what each training holds, by the bytes of its model in float32; `--dry-run` measures all of it."""
    held = size(_COPIES * model_bytes) if recipe.lora is None else f"{size(model_bytes)} and little more"
    kinds = "parameters, gradients and moments of AdamW" if recipe.lora is None else "parameters beside its adapters"
    windows = recipe.batch_of_a_process // recipe.accumulate
    return (
        f"each training holds about {held} ({kinds}), and the activations of up to {windows} windows of {context} "
        f"tokens; {size(free_host_memory())} of the host's memory are free"
    )


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a run; `best_step` and `held_out_nats` belong to runs with early stopping.

    seconds: of this call, without the time before a kill; `gpu_seconds` are those times the GPUs, None without one.
    final_loss_nats: mean training loss of about the last tenth of the run.
    best_step: step of the kept parameters.
    held_out_nats: held-out loss by step.
    """

    tokens: int
    final_loss_nats: float
    seconds: float
    best_step: int | None = None
    held_out_nats: Mapping[int, float] = field(default_factory=dict)
    gpu_seconds: float | None = None


def train(
    model: PreTrainedModel,
    train_tokens: Mapping[str, Tokens],
    mixture: Mixture,
    recipe: Recipe,
    *,
    scratch: Path,
    label: str,
    context: int | None = None,
    inputs: RunInputs = NOTHING,
) -> TrainingOutcome:
    """Train `model` in place on `mixture` of the partitions' tokens, in windows of `context` tokens.

    SCRATCH/beside holds files to keep beside the model; the caller removes `scratch` once the outcome is safe. Raises
    `PoolError` for non-finite parameters, or when one window alone does not fit into memory.
    """
    read = mixture if inputs.replayed is None else mixture.blended(inputs.replayed, recipe.replay_share)
    context = context or int(model.config.max_position_embeddings)
    run = Run(recipe, training_windows(train_tokens, read, recipe, context), inputs, scratch, label)
    started = time.monotonic()
    if recipe.lora is None:
        course = _trained_in_parts(model, run)
        torch.nn.Module.to(model, "cpu").train(False)
    else:
        adapted = with_adapter(model, recipe.lora, initial_seed=recipe.order_seed)
        course = _trained_in_parts(adapted, run)
        torch.nn.Module.to(adapted, "cpu").train(False)
        save_adapter(adapted, scratch / BESIDE / ADAPTER)
        merged(adapted)
    check_finite(model, label, "a lower learning_rate is the usual remedy")
    seconds, gpus = time.monotonic() - started, _gpus_of(recipe)
    return TrainingOutcome(
        tokens=course.steps * recipe.batch_windows * context,
        final_loss_nats=course.loss_nats[max(course.loss_nats)],
        seconds=seconds,
        best_step=course.best_step,
        held_out_nats=course.held_out_nats,
        gpu_seconds=seconds * gpus if gpus else None,
    )


def _on_the_host(model: Trainable) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _begun_again(run: Run) -> dict[str, torch.Tensor]:
    """Return the values that a run starts from, made again; a copy would hold a model more all the time."""
    assert run.inputs.start is not None, "asked of runs with a start"
    anew, lora = run.inputs.start(), run.recipe.lora
    whole = anew if lora is None else with_adapter(anew, lora, initial_seed=run.recipe.order_seed)
    return whole.state_dict()


def _gpus_of(recipe: Recipe) -> int:
    """Count the GPUs that a run holds."""
    if not torch.cuda.is_available():
        return 0
    return torch.cuda.device_count() if recipe.fsdp or recipe.device_map is not None else 1


def _trained_in_parts(model: Trainable, run: Run) -> TrainingCourse:
    if run.recipe.fsdp:
        return _trained_while_memory_lasts(run, lambda part: sharded_attempt(cast(PreTrainedModel, model), run, part))
    begun = None if run.inputs.start else _on_the_host(model)

    def from_the_start(part: int) -> TrainingCourse | None:
        course = attempt(model, run, part)
        if course is None:
            model.zero_grad(set_to_none=True)
            give_back_memory()
            model.load_state_dict(_begun_again(run) if begun is None else begun)
        return course

    spread = None
    if run.recipe.device_map is not None:
        whole = model if isinstance(model, PreTrainedModel) else cast(PreTrainedModel, model.get_base_model())
        spread = device_map_of(model, list(whole._no_split_modules or ()), run.label)
    with over_devices(model, spread):
        return _trained_while_memory_lasts(run, from_the_start)


def _trained_while_memory_lasts(run: Run, attempt_in: Callable[[int], TrainingCourse | None]) -> TrainingCourse:
    while (course := attempt_in(part_windows(run.recipe, run.scratch))) is None:
        part = take_smaller_part(run.recipe, run.scratch)
        if part is None:
            raise PoolError(
                f"{run.label}: no memory for one window of {run.windows.context} tokens; take a smaller model or "
                "context, or set gradient_checkpointing = true, or, where there are several GPUs, fsdp or "
                'device_map = "auto"'
            )
        say(f"{run.label}: out of memory; trying {part} of {run.recipe.batch_of_a_process} windows at a time")
    return course
