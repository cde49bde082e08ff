"""One attempt at a run, from its last checkpoint on: by this process, or by a group with a shard of the model each."""

import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import EarlyStoppingCallback, PreTrainedModel, PrinterCallback, TrainerCallback

from pool.building.training import run_files
from pool.building.training.inputs import RunInputs, TrainingWindows
from pool.building.training.placement import Trainable, full_model, whole
from pool.building.training.run_files import (
    BESIDE,
    OPTIMIZER,
    SHARDED,
    KeepAges,
    ages_on_the_way,
    has_stopped,
    last_checkpoint,
    step_of,
)
from pool.building.training.trainer import (
    ContinueOptimizer,
    FirstWindows,
    RecipeTrainer,
    ShowProgress,
    training_arguments,
)
from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.config.recipe import Recipe
from pool.engines.dispatch import KILLED
from pool.engines.group import Ending, is_first, run_group
from pool.engines.resources import is_out_of_memory
from pool.errors import PoolError
from pool.files.whole import write_text
from pool.progress import say, track
from pool.tokens.held_out import Tokens
from pool.tokens.stream import map_stream

_START, _IMPORTANCE, _END, _COURSE = "start", "importance.safetensors", "end.safetensors", "course.json"


@dataclass(frozen=True)
class Run:
    """A recipe on windows, with the inputs of its options; `scratch` stays until the outcome is safe."""

    recipe: Recipe
    windows: TrainingWindows
    inputs: RunInputs
    scratch: Path
    label: str

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints; sharded ones serve no other run."""
        return self.scratch / SHARDED if self.recipe.fsdp else self.scratch

    def last_checkpoint(self) -> Path | None:
        steps = self.recipe.steps(self.windows.context)
        ages = ages_on_the_way(self.scratch, self.recipe.keep_every_steps, steps)
        return last_checkpoint(self.checkpoints, self.label, ages)

    def steps(self, last: Path | None) -> int:
        """Return all steps of the run; those of `last` after an early stop."""
        early = self.recipe.early_stopping
        if early and last and has_stopped(last, early.patience):
            return step_of(last)
        return self.recipe.steps(self.windows.context)


@dataclass(frozen=True)
class TrainingCourse:
    """Optimiser steps of a run, and losses in nats by step."""

    steps: int
    best_step: int | None
    loss_nats: Mapping[int, float]
    held_out_nats: Mapping[int, float]


def attempt(model: Trainable, run: Run, part: int) -> TrainingCourse | None:
    """Train `part` windows at a time; None, with `model` half trained, when memory runs out.

    With shards, `model` is cut into its shards in place.
    """
    last = run.last_checkpoint()
    steps = run.steps(last)
    text = FirstWindows(run.windows, steps * run.recipe.batch_windows)
    with track(run.label, steps, done=step_of(last)) as advance:
        trainer = RecipeTrainer(
            run.recipe,
            run.inputs,
            model=model,
            args=training_arguments(run.recipe, steps, run.checkpoints, part, saves=run.inputs.saves),
            train_dataset=text,
            eval_dataset=text if run.recipe.early_stopping else None,  # Trainer asks for it and never reads it
            callbacks=[ShowProgress(advance), *_callbacks(model, run)],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None
    # accelerate leaves training's mixed precision in the model's forward; later losses must not have it
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if run.recipe.gradient_checkpointing:
        model.activation_checkpointing_disable()
    if run.inputs.keeps_optimizer:
        assert trainer.optimizer is not None, "training made one"
        run_files.save_optimizer_state(trainer.optimizer, model, run.scratch / BESIDE / OPTIMIZER)
    history = trainer.state.log_history
    losses = {int(entry["step"]): float(entry["loss"]) for entry in history if "loss" in entry}
    looks = {int(entry["step"]): float(entry["eval_loss"]) for entry in history if "eval_loss" in entry}
    return TrainingCourse(trainer.state.global_step, trainer.state.best_global_step if looks else None, losses, looks)


def _callbacks(model: Trainable, run: Run) -> list[TrainerCallback]:
    early, every = run.recipe.early_stopping, run.recipe.keep_every_steps
    callbacks: list[TrainerCallback] = [EarlyStoppingCallback(early.patience)] if early else []
    if run.inputs.optimizer is not None:
        callbacks.append(ContinueOptimizer(run.inputs.optimizer))
    if every:
        callbacks.append(KeepAges(lambda: full_model(model), run.scratch, every))
    return callbacks


def sharded_attempt(model: PreTrainedModel, run: Run, part: int) -> TrainingCourse | None:
    """Train `model` by a group of processes; None, with `model` unchanged, when memory runs out.

    A group with a killed process resumes; the second kill without progress counts as a lack of memory. Raises
    `PoolError` for too few GPUs.
    """
    count, folder, importance = run.recipe.fsdp or 1, run.checkpoints, run.inputs.importance
    if 0 < (seen := torch.cuda.device_count()) < count:
        raise PoolError(
            f"{run.label}: fsdp = {count} takes {count} GPUs, and {seen} of them can be seen: lower it, or show it "
            f"more (by CUDA_VISIBLE_DEVICES, or where several are trained side by side by [recipe] num_gpus = {count})"
        )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / _START)
    if importance is not None:  # a model's size: too much for shared memory, where pickled tensors go
        save_file(dict(importance), folder / _IMPORTANCE)
    light = replace(run, windows=replace(run.windows, streams=()), inputs=replace(run.inputs, importance=None))
    work = _ShardedAttempt(light, _sources(run.windows.streams), importance is not None, part)
    kills, reached = 0, run.last_checkpoint()
    for name in (_END, _COURSE):
        (folder / name).unlink(missing_ok=True)
    while (ending := run_group(work, count, run.label)) != Ending.WELL:
        before, reached = reached, run.last_checkpoint()
        kills = kills + 1 if reached == before else 1
        if ending == Ending.NO_MEMORY or kills >= KILLED:
            return None
        say(f"{run.label}: one of its {count} processes was killed; the run goes on")
    return _take_over(model, folder)


def _take_over(model: PreTrainedModel, folder: Path) -> TrainingCourse:
    trained = load_file(folder / _END)
    with torch.no_grad():
        for name, parameter in parameters_of(model).items():
            parameter.copy_(trained[name])
    kept = json.loads((folder / _COURSE).read_text(encoding="utf-8"))
    by_step = {key: {int(step): nats for step, nats in kept[key].items()} for key in ("loss_nats", "held_out_nats")}
    return TrainingCourse(kept["steps"], kept["best_step"], **by_step)


@dataclass(frozen=True)
class _ShardedAttempt:
    """The work of each process of a group; the first process writes the outcome."""

    run: Run
    streams: Sequence[Path | Tokens]
    weighs: bool
    part: int

    def __call__(self) -> bool:
        streams = tuple(map_stream(one) if isinstance(one, Path) else one for one in self.streams)
        importance = load_file(self.run.checkpoints / _IMPORTANCE) if self.weighs else None
        inputs = replace(self.run.inputs, importance=importance)
        run = replace(self.run, windows=replace(self.run.windows, streams=streams), inputs=inputs)
        model = load_model(run.checkpoints / _START)
        course = attempt(model, run, self.part)
        if course is None:
            return False
        trained = {name: whole(tensor).to("cpu").contiguous() for name, tensor in parameters_of(model).items()}
        if is_first():
            save_file(trained, run.checkpoints / _END)
            write_text(run.checkpoints / _COURSE, json.dumps(asdict(course)))
        return True


def _sources(streams: Sequence[Tokens]) -> list[Path | Tokens]:
    """Name the files of memory-mapped streams; other streams cross to the processes as they are."""
    return [
        Path(str(one.filename)) if isinstance(one, np.memmap) and isinstance(one.base, mmap.mmap) else one
        for one in streams
    ]
