"""The files of a run: checkpoints to resume from in its scratch folder, and files to keep beside the model.

SCRATCH/  checkpoint-<steps>/ (by `Trainer`)  part_windows  beside/  sharded/ (the same of a sharded run)
MEMBER/   model  optimizer.safetensors (the seed's)  adapter/  ages/<steps>/
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pool.checkpoints.checkpoint import CONFIG, WEIGHTS
from pool.checkpoints.manifest import AgeDigests
from pool.config.recipe import Recipe
from pool.engines.group import is_first
from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.files.whole import new_folder, write_text
from pool.training.placement import sharded_like, whole

SHARDED, BESIDE, OPTIMIZER, _AGES = "sharded", "beside", "optimizer.safetensors", "ages"
_STATE, _PART = "trainer_state.json", "part_windows"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def checkpoints_of(scratch: Path) -> list[Path]:
    """List a run's checkpoints, of both folders, half-written or whole."""
    return [*scratch.glob("checkpoint-*"), *scratch.glob(f"{SHARDED}/checkpoint-*")]


def last_whole_checkpoint(scratch: Path) -> Path | None:
    """Find the newest checkpoint with a readable state, written last; remove the half-written."""
    complete: list[Path] = []
    for folder in scratch.glob("checkpoint-*"):
        try:
            json.loads((folder / _STATE).read_text(encoding="utf-8"))
            complete.append(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder)
    return max(complete, key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def has_stopped(checkpoint: Path, patience: int) -> bool:
    state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    kept = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    return int(kept.get("attributes", {}).get("early_stopping_patience_counter", 0)) >= patience


def discard_scratch(scratch: Path) -> None:
    """Remove a scratch folder or message file; states go first, lest a half-removed checkpoint looks whole."""
    if scratch.is_file():
        scratch.unlink()
        return
    for checkpoint in checkpoints_of(scratch):
        (checkpoint / _STATE).unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def smaller_part(part_windows: int, batch_windows: int) -> int:
    """Return the largest divisor of the batch up to half of a part above 1: parts sum to the batch."""
    return next(part for part in range(part_windows // 2, 0, -1) if batch_windows % part == 0)


def part_windows(recipe: Recipe, scratch: Path) -> int:
    """Return how many windows a process trains at a time: fewer than the recipe asks after memory ran out."""
    batch = recipe.batch_of_a_process
    asked = batch // recipe.accumulate
    try:
        kept = int((scratch / _PART).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return asked
    return kept if 0 < kept < asked and batch % kept == 0 else asked


def take_smaller_part(recipe: Recipe, scratch: Path) -> int | None:
    """At least halve the part for the run's next attempts; None below one window."""
    part = part_windows(recipe, scratch)
    if part == 1:
        return None
    smaller = smaller_part(part, recipe.batch_of_a_process)
    scratch.mkdir(parents=True, exist_ok=True)
    write_text(scratch / _PART, f"{smaller}\n")
    return smaller


def save_optimizer_state(optimizer: torch.optim.Optimizer, model: torch.nn.Module, path: Path) -> None:
    """Write the step and both moments of every parameter, by name and unsharded, for members with other groups.

    Every process with a shard calls this; the first one writes.
    """
    state = {
        f"{name}:{part}": whole(optimizer.state[parameter][part].detach()).to("cpu", torch.float32).contiguous()
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for part in _MOMENTS
    }
    if is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, path)


def load_optimizer_state(optimizer: torch.optim.Optimizer, model: torch.nn.Module, path: Path) -> None:
    """Put the state at `path` into a fresh AdamW. Raises `PoolError` for a file of another model."""
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
    state = {part: kept[f"{name}:{part}"] for part in _MOMENTS if f"{name}:{part}" in kept}
    if len(state) < len(_MOMENTS) or state["exp_avg"].shape != parameter.shape:
        raise PoolError(f"{path}: holds no state for {name} of shape {tuple(parameter.shape)}; rebuild the seed")
    return {part: tensor if part == "step" else sharded_like(parameter, tensor) for part, tensor in state.items()}


class KeepAges(TrainerCallback):
    """Writes the model to SCRATCH/beside/ages/<steps> every so many optimiser steps, but not at the last one."""

    def __init__(self, model: Callable[[], PreTrainedModel], scratch: Path, every_steps: int) -> None:
        self._model, self._folder, self._every = model, scratch / BESIDE / _AGES, every_steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        if state.global_step % self._every == 0 and state.global_step < state.max_steps:
            model = self._model()
            tensors = {}
            for name, tensor in model.state_dict().items():
                gathered = whole(tensor)  # by all, one after the other: together they may not fit the device
                if is_first():
                    tensors[name] = gathered.to("cpu")
            if not is_first():
                return
            for name, source in model.all_tied_weights_keys.items():
                tensors[name] = tensors[source]  # gathered, they are no longer one
            with new_folder(self._folder / str(state.global_step)) as new:
                model.save_pretrained(new, state_dict=tensors)


def age_folder(member: Path, steps: int) -> Path:
    return member / _AGES / str(steps)


def age_digests(age: Path) -> AgeDigests:
    return AgeDigests(weights=digest_file(age / WEIGHTS), config=digest_file(age / CONFIG))


def all_age_digests(member: Path) -> dict[int, AgeDigests]:
    steps = sorted(int(folder.name) for folder in (member / _AGES).glob("*"))
    return {age: age_digests(age_folder(member, age)) for age in steps}
