"""One attempt at a run by transformers' `Trainer`: from its last checkpoint to its end, or until memory is too small.

Alone it is made in this process; of a sharded run every process of a group makes the same one, each on its shards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from pool.config.recipe import Recipe
from pool.engines.resources import is_out_of_memory
from pool.progress import Advance, track
from pool.training.adapters import Trainable, full_model
from pool.training.needs import RunInputs
from pool.training.optimizer_state import OPTIMIZER, load_optimizer_state, save_optimizer_state
from pool.training.run_checkpoints import AGES, SHARDED, KeepAges, has_stopped, last_whole_checkpoint, step_of
from pool.training.trainer import RecipeTrainer, training_arguments
from pool.training.windows import TrainingWindows

BESIDE = "beside"
"""Folder in a run's scratch folder for what is kept beside the model."""


@dataclass(frozen=True)
class Run:
    """What is trained: a recipe on windows, with what its options need; `scratch` is kept until the outcome is safe."""

    recipe: Recipe
    windows: TrainingWindows
    needs: RunInputs
    scratch: Path
    label: str

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints to go on from."""
        return self.scratch / SHARDED if self.recipe.fsdp else self.scratch

    def steps(self, last: Path | None) -> int:
        """Return the steps to be done in all; no more than there are where early stopping ended the run before."""
        early = self.recipe.early_stopping
        if early and last and has_stopped(last, early.patience):
            return step_of(last)
        return self.recipe.steps(self.windows.context)


@dataclass(frozen=True)
class TrainingCourse:
    """How a run went: optimiser steps, and losses in nats by step, of training text and of held-out text."""

    steps: int
    best_step: int | None
    loss_nats: Mapping[int, float]
    held_out_nats: Mapping[int, float]


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


class _ContinueOptimizer(TrainerCallback):
    """Puts the seed's state into an optimizer that has taken no step, once it is of the parameters that are trained."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        if state.global_step == 0:
            load_optimizer_state(parts["optimizer"], parts["model"], self._state)


def attempt(model: Trainable, run: Run, part: int) -> TrainingCourse | None:
    """Train from the last checkpoint on, `part` windows at a time; None when memory ran out: `model` is half trained.

    Of a sharded run, `model` is sharded in place.
    """
    last = last_whole_checkpoint(run.checkpoints)
    steps = run.steps(last)
    text = _Windows(run.windows, steps * run.recipe.batch_windows)
    with track(run.label, steps, done=step_of(last)) as advance:
        trainer = RecipeTrainer(
            run.recipe,
            run.needs,
            model=model,
            args=training_arguments(run.recipe, steps, run.checkpoints, part),
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
    if run.needs.keeps_optimizer:
        assert trainer.optimizer is not None, "it was trained with"
        save_optimizer_state(trainer.optimizer, model, run.scratch / BESIDE / OPTIMIZER)
    return _course(trainer.state)


def _callbacks(model: Trainable, run: Run) -> list[TrainerCallback]:
    early, every = run.recipe.early_stopping, run.recipe.keep_every_steps
    callbacks: list[TrainerCallback] = [EarlyStoppingCallback(early.patience)] if early else []
    if run.needs.optimizer is not None:
        callbacks.append(_ContinueOptimizer(run.needs.optimizer))
    if every:
        callbacks.append(KeepAges(lambda: full_model(model), run.scratch / BESIDE / AGES, every))
    return callbacks


def _course(state: TrainerState) -> TrainingCourse:
    losses = {int(entry["step"]): float(entry["loss"]) for entry in state.log_history if "loss" in entry}
    looks = {int(entry["step"]): float(entry["eval_loss"]) for entry in state.log_history if "eval_loss" in entry}
    return TrainingCourse(state.global_step, state.best_global_step if looks else None, losses, looks)
