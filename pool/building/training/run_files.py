"""The files of a run: checkpoints to resume from in its scratch folder, and files to keep beside the model.

Checkpoints on the way are recorded by digest, and verified before the run goes on.

SCRATCH/checkpoint-<steps>/  files of `Trainer`  digests.json (written last)
SCRATCH/part_windows  beside/  sharded/ (the same of a sharded run)  age-<steps>.json (digests of a model kept)
SCRATCH/damaged-checkpoint-<steps>/ (put aside)
MEMBER/   model  optimizer.safetensors (the seed's)  adapter/  ages/<steps>/
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pool.building.training.placement import sharded_like, whole
from pool.checkpoints.manifest import AGES, AgeDigests, age_digests, age_folder
from pool.config.recipe import Recipe
from pool.engines.group import is_first
from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.files.records import MANIFEST, Record, read_record, write_record
from pool.files.whole import new_folder, write_text
from pool.progress import say

DIGESTS = "digests.json"
_STATE, _ASIDE = "trainer_state.json", "damaged-"


class FileDigests(Record):
    """Files of a folder, by their paths within."""

    files: dict[str, str]


def record_files(folder: Path, record: Path) -> None:
    """Write the digests of all files of a complete folder."""
    files = {path.relative_to(folder).as_posix(): digest_file(path) for path in _files(folder) if path != record}
    write_record(record, FileDigests(files=files))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def last_checkpoint(folder: Path, label: str, ages: Mapping[int, Path]) -> Path | None:
    """Find the newest checkpoint that a run can go on from; None for the start.

    A checkpoint of an interrupted save has no record and is removed. A damaged one is put aside, and said under
    `label`; so is one whose best checkpoint, or one of whose models of earlier `ages`, is damaged.
    """
    said: list[str] = []
    found = None
    for checkpoint in _recorded(folder):
        fault = (
            _fault(checkpoint, checkpoint / DIGESTS) or _fault_of_best(checkpoint) or _fault_of_ages(checkpoint, ages)
        )
        if fault is None:
            found = checkpoint
            break
        aside = checkpoint.with_name(f"{_ASIDE}{checkpoint.name}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        said.append(f"{label}: training cannot go on from {checkpoint.name}: {fault}; it is put aside as {aside.name}")
    for line in said:
        say(f"{line}, and training goes on from {found.name if found else 'the start'}")
    return found


def _recorded(folder: Path) -> Iterator[Path]:
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if (checkpoint / DIGESTS).is_file():
            yield checkpoint
        else:
            shutil.rmtree(checkpoint)


def _fault(folder: Path, record: Path) -> str | None:
    try:
        expected = read_record(record, FileDigests).files
    except PoolError:
        return f"{record} is missing or damaged"
    for name, digest in expected.items():
        try:
            if digest_file(folder / name) != digest:
                return f"{folder / name} was cut short or altered (it is not as {record.name} says)"
        except OSError as error:
            return f"{folder / name}: {error.strerror}"
    return None


def _fault_of_best(checkpoint: Path) -> str | None:
    best = _state(checkpoint).get("best_model_checkpoint")
    if not isinstance(best, str) or Path(best) == checkpoint:
        return None
    return _fault(Path(best), Path(best) / DIGESTS)


def _fault_of_ages(checkpoint: Path, ages: Mapping[int, Path]) -> str | None:
    earlier = (age for steps, age in ages.items() if steps <= step_of(checkpoint))
    faults = (_fault(age, age_record(age)) for age in earlier)
    return next((fault for fault in faults if fault), None)


def age_record(age: Path) -> Path:
    """Return the place of the record of SCRATCH/beside/ages/<steps>: the folder itself is copied to the member."""
    return age.parents[2] / f"age-{age.name}.json"


def step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def has_stopped(checkpoint: Path, patience: int) -> bool:
    """Tell whether early stopping had ended the run at a verified checkpoint."""
    kept = _state(checkpoint).get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    return int(kept.get("attributes", {}).get("early_stopping_patience_counter", 0)) >= patience


def _state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    return state


SHARDED, BESIDE, OPTIMIZER = "sharded", "beside", "optimizer.safetensors"
_PART = "part_windows"
_REMAKE = "run `mixscout pool build POOL.toml --rebuild seed`, which makes the seed again"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def checkpoints_of(scratch: Path) -> list[Path]:
    """List a run's checkpoints, of both folders, half-written or whole."""
    return [*scratch.glob("checkpoint-*"), *scratch.glob(f"{SHARDED}/checkpoint-*")]


def kept_of(folders: Mapping[str, Path]) -> str:
    """Say how many models are finished in their folders, and how far the others have come, by name."""
    finished = sum((folder / MANIFEST).is_file() for folder in folders.values())
    begun = [
        f", {name} up to step {max(map(step_of, found))}"
        for name, folder in folders.items()
        if (found := [one for part in scratches_of(folder) for one in checkpoints_of(part)])
    ]
    return f"{finished} of {len(folders)} models{''.join(begun)}"


def scratches_of(folder: Path) -> list[Path]:
    """List the folders of runs under way to a checkpoint in `folder`."""
    return list(folder.parent.glob(f".{folder.name}.*.scratch"))


def discard_scratch(scratch: Path) -> None:
    """Remove a scratch folder or message file; records go first, lest a half-removed checkpoint looks damaged."""
    if scratch.is_file():
        scratch.unlink()
        return
    for checkpoint in checkpoints_of(scratch):
        (checkpoint / DIGESTS).unlink(missing_ok=True)
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
        raise PoolError(f"{path}: not an optimizer state that can be read: {error}; {_REMAKE}") from None
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
        raise PoolError(f"{path}: holds no state for {name} of shape {tuple(parameter.shape)}; {_REMAKE}")
    return {part: tensor if part == "step" else sharded_like(parameter, tensor) for part, tensor in state.items()}


class KeepAges(TrainerCallback):
    """Writes the model to SCRATCH/beside/ages/<steps> every so many optimiser steps, but not at the last one."""

    def __init__(self, model: Callable[[], PreTrainedModel], scratch: Path, every_steps: int) -> None:
        self._model, self._folder, self._every = model, scratch / BESIDE / AGES, every_steps

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
            age = self._folder / str(state.global_step)
            with new_folder(age) as new:
                model.save_pretrained(new, state_dict=tensors)
            record_files(age, age_record(age))


def ages_on_the_way(scratch: Path, every_steps: int | None, steps: int) -> dict[int, Path]:
    """Return the folders of the models that a run of so many steps keeps at its ages."""
    ages = range(every_steps, steps, every_steps) if every_steps else ()
    return {age: age_folder(scratch / BESIDE, age) for age in ages}


def all_age_digests(member: Path) -> dict[int, AgeDigests]:
    steps = sorted(int(folder.name) for folder in (member / AGES).glob("*"))
    return {age: age_digests(age_folder(member, age)) for age in steps}
