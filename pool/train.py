"""The one training path: seed, members and confirmation runs all go through `train`.

transformers' `Trainer` does the work. A run that is killed goes on from its last checkpoint in `scratch`, and
ends with the same parameters as an undisturbed run (the order of windows is fixed, there is no dropout).
Bit-for-bit equality holds on one machine with one number of threads; elsewhere, and where memory was too small for
whole batches, sums are in another order.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from pool.adapters import ADAPTER, Trainable, full_model, merged, save_adapter, with_adapter
from pool.ages import AGES, KeepAges
from pool.checkpoint import check_finite
from pool.device_map import DeviceMap, device_map_of, over_devices
from pool.errors import PoolError
from pool.memory import give_back_memory, is_out_of_memory
from pool.mixture import Mixture
from pool.needs import NOTHING, Needs
from pool.optimizer_state import OPTIMIZER, save_optimizer_state
from pool.part_size import part_windows, take_smaller_part
from pool.progress import Advance, say, track
from pool.recipe import Recipe
from pool.recipe_trainer import RecipeTrainer
from pool.run_checkpoints import has_stopped, last_whole_checkpoint, step_of
from pool.tokens import Tokens
from pool.training_arguments import training_arguments
from pool.windows import TrainingWindows, training_windows

BESIDE = "beside"
"""Folder in a run's scratch folder for what is kept beside the model."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run did: tokens read, mean training loss of about its last tenth (nats), seconds of this call.

    Where it could stop early: the step whose parameters were kept, and the held-out loss in nats by step.
    """

    tokens: int
    final_loss_nats: float
    seconds: float
    best_step: int | None = None
    held_out_nats: Mapping[int, float] = field(default_factory=dict)


class _Windows(Dataset[dict[str, torch.Tensor]]):
    """The first `count` windows. Were there more, Trainer would take one step too many when it resumes at its last."""

    def __init__(self, windows: TrainingWindows, count: int) -> None:
        self._windows, self._count = windows, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        window = torch.from_numpy(self._windows[index])
        return {"input_ids": window, "labels": window}


class _Watch(TrainerCallback):
    """Shows progress, and keeps the losses that Trainer logs."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._note = ""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self._advance(state.global_step, self._note)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if "loss" in state.log_history[-1]:
            self._note = f"loss {state.log_history[-1]['loss']:.3f}"


def train(
    model: PreTrainedModel,
    train_tokens: Mapping[str, Tokens],
    mixture: Mixture,
    recipe: Recipe,
    *,
    scratch: Path,
    label: str,
    context: int | None = None,
    needs: Needs = NOTHING,
) -> TrainingOutcome:
    """Train `model` in place on `mixture` of the partitions' tokens, by `recipe`.

    The window length is `context`, or the model's own. `scratch` holds checkpoints to go on from; `discard_scratch`
    removes it once the outcome is safe. Where memory is too small for a batch, its gradient is summed over smaller
    parts, also when it is gone on with; the optimiser's steps stay the same. `needs` holds what the recipe's options
    need; files that belong beside the model (BESIDE) are left in the scratch folder. Raises `PoolError` when the
    parameters end up non-finite, or when one window alone does not fit.
    """
    read = mixture if needs.replayed is None else mixture.blended(needs.replayed, recipe.replay_share)
    context = context or int(model.config.max_position_embeddings)
    run = _Run(recipe, training_windows(train_tokens, read, recipe, context), needs, scratch, label)
    started = time.monotonic()
    if recipe.lora is None:
        trainer = _trained_in_parts(model, run)
        torch.nn.Module.to(model, "cpu").train(False)
    else:
        adapted = with_adapter(model, recipe.lora, initial_seed=recipe.order_seed)
        trainer = _trained_in_parts(adapted, run)
        torch.nn.Module.to(adapted, "cpu").train(False)
        save_adapter(adapted, scratch / BESIDE / ADAPTER)
        merged(adapted)
    check_finite(model, label, "a lower learning_rate is the usual remedy")
    if needs.keeps_optimizer:
        assert trainer.optimizer is not None, "it was trained with"
        save_optimizer_state(trainer.optimizer, model, scratch / BESIDE / OPTIMIZER)
    return _outcome(trainer, run, time.monotonic() - started)


def _outcome(trainer: Trainer, run: "_Run", seconds: float) -> TrainingOutcome:
    state = trainer.state
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    looks = {int(entry["step"]): float(entry["eval_loss"]) for entry in state.log_history if "eval_loss" in entry}
    tokens = state.global_step * run.recipe.batch_windows * run.windows.context
    return TrainingOutcome(tokens, float(losses[-1]), seconds, state.best_global_step if looks else None, looks)


@dataclass(frozen=True)
class _Run:
    recipe: Recipe
    windows: TrainingWindows
    needs: Needs
    scratch: Path
    label: str

    def steps(self, last: Path | None) -> int:
        """Return the steps to be done in all; no more than there are where early stopping ended the run before."""
        early = self.recipe.early_stopping
        if early and last and has_stopped(last, early.patience):
            return step_of(last)
        return self.recipe.steps(self.windows.context)


def _trained_in_parts(model: Trainable, run: _Run) -> Trainer:
    """Train, in smaller and smaller parts of a batch while memory is too small."""
    begun = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
    with over_devices(model, _device_map(model, run)):
        return _trained_while_memory_lasts(model, run, begun)


def _device_map(model: Trainable, run: _Run) -> DeviceMap | None:
    if run.recipe.device_map is None:
        return None
    whole = model if isinstance(model, PreTrainedModel) else cast(PreTrainedModel, model.get_base_model())
    return device_map_of(model, list(whole._no_split_modules or ()), run.label)


def _trained_while_memory_lasts(model: Trainable, run: _Run, begun: Mapping[str, torch.Tensor]) -> Trainer:
    batch = run.recipe.batch_windows
    while (trainer := _trained(model, run, part_windows(run.recipe, run.scratch))) is None:
        part = take_smaller_part(run.recipe, run.scratch)
        if part is None:
            raise PoolError(
                f"{run.label}: no memory for one window of {run.windows.context} tokens; take a smaller model or "
                'context, or set gradient_checkpointing = true, or device_map = "auto" where there are several GPUs'
            )
        say(f"{run.label}: out of memory; trying {part} of {batch} windows at a time")
        give_back_memory()
        model.zero_grad(set_to_none=True)
        model.load_state_dict(begun)
    return trainer


def _trained(model: Trainable, run: _Run, part: int) -> Trainer | None:
    """Train from the last checkpoint on; None when memory ran out, and the model is then half trained."""
    last = last_whole_checkpoint(run.scratch)
    steps = run.steps(last)
    text = _Windows(run.windows, steps * run.recipe.batch_windows)
    with track(run.label, steps, done=step_of(last)) as advance:
        trainer = RecipeTrainer(
            run.recipe,
            run.needs,
            model=model,
            args=training_arguments(run.recipe, steps, run.scratch, part),
            train_dataset=text,
            eval_dataset=text if run.recipe.early_stopping else None,  # asked for, and never read
            callbacks=[_Watch(advance), *_callbacks(model, run)],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
    # accelerate leaves the mixed precision of training in the model's forward, and no later loss is meant to have it
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if run.recipe.gradient_checkpointing:
        model.activation_checkpointing_disable()
    return trainer


def _callbacks(model: Trainable, run: _Run) -> list[TrainerCallback]:
    early, every = run.recipe.early_stopping, run.recipe.keep_every_steps
    callbacks: list[TrainerCallback] = [EarlyStoppingCallback(early.patience)] if early else []
    if every:
        callbacks.append(KeepAges(lambda: full_model(model), run.scratch / BESIDE / AGES, every))
    return callbacks
