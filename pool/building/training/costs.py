"""The costs of work before it is done, and the pace of training: a few steps of the real shape on random tokens.

A recipe's learning rate and text do not change its pace, so any model of the shape serves.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import torch
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainerControl

from pool.building.training.inputs import training_windows
from pool.building.training.placement import Trainable, with_adapter
from pool.building.training.trainer import FirstWindows, RecipeTrainer, training_arguments
from pool.checkpoints.checkpoint import parameters_of
from pool.config.recipe import Recipe
from pool.engines.engine import Engine
from pool.engines.resources import free_host_memory
from pool.errors import PoolError
from pool.files.whole import bytes_of_folder, disk_free
from pool.mixture import Mixture
from pool.progress import size
from pool.tokens.held_out import Tokens

MOST_STEPS, LEAST_STEPS = 16, 3
LONGEST_SECONDS = 4.0
"""A calibration ends after so many steps, or after so long once a few steps are done."""
VALUES_A_PARAMETER = 4
"""In memory during training: parameter, gradient, and both moments of AdamW."""
BYTES_A_VALUE = 4
STREAM_TOKENS = 4096
_PACE = ("batch_windows", "accumulate", "precision", "gradient_checkpointing", "frozen_embeddings", "lora")
BACKWARD = 3
"""Forward passes that a pass forward and backward counts."""


@dataclass(frozen=True)
class Seconds:
    """An expected time, and its range by the slowest and fastest of the measured steps."""

    likely: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Summarise timings of one thing: median, smallest, largest."""
        return cls(statistics.median(samples), min(samples), max(samples))

    @classmethod
    def exactly(cls, seconds: float) -> Self:
        return cls(seconds, seconds, seconds)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.likely + other.likely, self.low + other.low, self.high + other.high)

    def __mul__(self, times: float) -> Seconds:
        return Seconds(self.likely * times, self.low * times, self.high * times)


@dataclass(frozen=True)
class Costs:
    """The costs of a command before it is run.

    what: the command's work, for people
    runs: models to train; their `train_tokens` are read forward and backward
    merges: merges to make and score
    scored_tokens: held-out tokens to score, of merges and trained models; `forwards` are the forward-equivalents
    parts: seconds by part of the work
    memory_bytes: most memory of the process at a time; `more_memory_bytes` are those of further processes
    disk_bytes: bytes that stay; `passing_bytes` are there besides while the work is done
    remembered: parts already done, by name
    place: the folder of the bytes on disk
    notes: limits of the estimate, for people
    """

    what: str
    runs: int = 0
    merges: int = 0
    train_tokens: int = 0
    scored_tokens: int = 0
    forwards: int = 0
    parts: Mapping[str, Seconds] = field(default_factory=dict)
    memory_bytes: int = 0
    more_memory_bytes: int = 0
    disk_bytes: int = 0
    passing_bytes: int = 0
    remembered: Mapping[str, int] = field(default_factory=dict)
    place: Path = Path()
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> Seconds:
        return sum(self.parts.values(), Seconds())

    def beginning_with(self, part: str, seconds: float) -> Self:
        """Put another part of the work before the others."""
        return replace(self, parts={part: Seconds.exactly(seconds), **self.parts})

    def check_room(self) -> None:
        """Raise `PoolError` where memory or disk will not do."""
        check_memory(self.what, self.memory_bytes + self.more_memory_bytes - psutil.Process().memory_info().rss)
        needed, free = self.disk_bytes + self.passing_bytes, disk_free(self.place)
        if needed > free:
            raise PoolError(
                f"{self.what} takes about {size(needed)} of disk, and the disk of {self.place} has "
                f"{size(free)} left; make room, or set `root` to another disk"
            )

    def as_json(self) -> dict[str, object]:
        """Show every figure by name; bytes as bytes, times in seconds."""
        seconds = self.seconds
        counts = ("runs", "merges", "train_tokens", "scored_tokens", "forwards", "memory_bytes", "more_memory_bytes")
        return {
            "what": self.what,
            **{name: getattr(self, name) for name in (*counts, "disk_bytes", "passing_bytes")},
            "seconds": {"likely": seconds.likely, "low": seconds.low, "high": seconds.high},
            "seconds_by_part": {name: part.likely for name, part in self.parts.items()},
            "remembered": dict(self.remembered),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        seconds = self.seconds
        return (
            f"<mixscout.Costs of {self.what}: {self.runs} runs, {self.merges} merges, about {seconds.likely:.0f} s "
            f"({seconds.low:.0f} to {seconds.high:.0f}), {size(self.memory_bytes + self.more_memory_bytes)} of "
            f"memory, {size(self.disk_bytes)} of disk>"
        )


def check_memory(what: str, more_bytes: float) -> None:
    """Raise `PoolError` where so many bytes more are not free; a container's limit counts."""
    free = free_host_memory()
    if more_bytes > free:
        raise PoolError(
            f"{what} takes about {size(more_bytes)} more memory, and {size(free)} is free; take a smaller "
            "model, a smaller batch or context, set `accumulate` or `gradient_checkpointing`, or stop other programs"
        )


@dataclass(frozen=True)
class TrainingPace:
    """The pace of training runs of one shape and recipe on this machine.

    first: seconds that only the first run of a process takes
    start: seconds of a run before and after its steps; `save` are those of a checkpoint
    model_bytes: a model on disk; `checkpoint_bytes` a checkpoint on the way, with the optimizer's state
    """

    first: float
    start: float
    step: Seconds
    save: float
    model_bytes: int
    checkpoint_bytes: int

    def run(self, recipe: Recipe, context: int, *, done: int = 0, forwards: int = 0) -> Seconds:
        """Return the time of a run with `done` steps behind it, and `forwards` windows scored beside it."""
        steps = max(0, recipe.steps(context) - done)
        every = recipe.early_stopping.every_steps if recipe.early_stopping else recipe.checkpoint_steps
        fixed = self.start + (math.ceil(steps / every) + 1) * self.save
        return self.step * (steps + forwards / recipe.batch_windows / BACKWARD) + Seconds.exactly(fixed)

    @property
    def passing_bytes(self) -> int:
        """Bytes of the checkpoints of a run under way: the last two, and one being written."""
        return 3 * self.checkpoint_bytes


@dataclass(frozen=True)
class Setting:
    """Where runs are trained: so many at a time, each with so many threads (None: all), in processes of their own.

    starting: seconds until such a process is ready
    """

    places: int = 1
    threads: int | None = None
    starting: float = 0.0

    @classmethod
    def of(cls, engine: Engine, jobs: int) -> Self:
        """Describe an engine with so many jobs before it; a process is started once, to time it."""
        asked = getattr(engine, "threads", None)
        threads = asked(jobs) if asked is not None else None
        if not engine.elsewhere or jobs < 2:
            return cls(threads=threads)
        begun, path = time.perf_counter(), os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-c", "import pool.building.job"]
        subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": path})
        return cls(min(engine.places, jobs), threads, time.perf_counter() - begun)

    def all(self, times: Sequence[Seconds]) -> Seconds:
        """Return the time of runs that take so long each: as many rounds as the places need."""
        if not times:
            return Seconds()
        rounds = math.ceil(len(times) / self.places)
        return sum(times, Seconds()) * (rounds / len(times)) + Seconds.exactly(self.starting)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pace_key(recipe: Recipe, setting: Setting) -> tuple[object, ...]:
    """Return everything that decides the pace of a run: runs with equal keys share a measurement."""
    return *(getattr(recipe, name) for name in _PACE), setting.threads


def measure_training(
    model: PreTrainedModel, recipe: Recipe, context: int, setting: Setting, *, what: str
) -> TrainingPace:
    """Train `model` for a few steps of a recipe on random tokens, in a temporary folder. Raises `PoolError`.

    The first of two runs warms up; with `fsdp` the whole batch is trained by this process.
    """
    vocabulary = int(model.config.vocab_size)
    parameters = sum(tensor.numel() for tensor in parameters_of(model).values())
    check_memory(what, (VALUES_A_PARAMETER - 1) * BYTES_A_VALUE * parameters)
    trained = with_adapter(model, recipe.lora, initial_seed=0) if recipe.lora else model
    tokens = np.random.default_rng(0).integers(vocabulary, size=max(STREAM_TOKENS, context), dtype=np.int32)
    with tempfile.TemporaryDirectory(prefix="mixscout-costs-") as folder, _threads(setting.threads):
        cold = _trained(trained, tokens, _short(recipe, context, 1), context, Path(folder) / "cold")
        warm = _trained(trained, tokens, _short(recipe, context, MOST_STEPS), context, Path(folder) / "warm")
        kept = bytes_of_folder(Path(folder) / "warm")
    step = Seconds.of(warm.steps)
    start = max(0.0, warm.start - step.likely)
    first = max(0.0, cold.start - step.likely - start)
    return TrainingPace(first, start, step, warm.save, BYTES_A_VALUE * parameters, kept)


@dataclass(frozen=True)
class _Timed:
    """Seconds until the first step was done, of each step after it, and from the last step to the end."""

    start: float
    steps: Sequence[float]
    save: float


class _Clock(TrainerCallback):
    """Notes the end of every step, and ends a slow run after a few."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def on_step_end(self, args: object, state: object, control: TrainerControl, **_: object) -> None:
        self.ended.append(time.perf_counter())
        if len(self.ended) > LEAST_STEPS and self.ended[-1] - self.ended[0] > LONGEST_SECONDS:
            control.should_training_stop = control.should_save = True


def _short(recipe: Recipe, context: int, steps: int) -> Recipe:
    kept = {name: getattr(recipe, name) for name in ("compiled", *_PACE)}
    return Recipe(tokens=steps * recipe.batch_windows * context, **kept)


def _trained(model: Trainable, tokens: Tokens, short: Recipe, context: int, scratch: Path) -> _Timed:
    begun, clock = time.perf_counter(), _Clock()
    windows = training_windows({"any": tokens}, Mixture.uniform(["any"]), short, context)
    trainer = RecipeTrainer(
        short,
        model=model,
        args=training_arguments(short, short.steps(context), scratch, short.batch_windows // short.accumulate),
        train_dataset=FirstWindows(windows, len(windows)),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    over, ended = time.perf_counter(), clock.ended
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    if short.gradient_checkpointing:
        model.activation_checkpointing_disable()
    between = [later - earlier for earlier, later in pairwise(ended)]
    return _Timed(ended[0] - begun, between, over - ended[-1])
