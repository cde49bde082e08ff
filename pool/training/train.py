"""The one training path: the seed, members and ground-truth runs all go through `train`.

A killed run resumes from its last checkpoint and ends with the parameters of an undisturbed run: bit for bit on one
machine with one number of threads. Elsewhere, or in smaller parts of a batch, sums are in another order.

Checkpoints on the way are recorded by digest, and verified before the run goes on:

SCRATCH/checkpoint-<steps>/  files of `Trainer`  digests.json (written last)
SCRATCH/damaged-checkpoint-<steps>/ (put aside)  age-<steps>.json (digests of a model kept at an age)
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from pool.checkpoints.checkpoint import check_finite
from pool.config.recipe import Recipe
from pool.engines.resources import give_back_memory
from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.files.records import Record, read_record, write_record
from pool.mixture import Mixture
from pool.progress import say
from pool.tokens.held_out import Tokens
from pool.training.attempt import Run, TrainingCourse, attempt, sharded_attempt
from pool.training.inputs import NOTHING, RunInputs, training_windows
from pool.training.placement import ADAPTER, Trainable, device_map_of, merged, over_devices, save_adapter, with_adapter
from pool.training.run_files import BESIDE, part_windows, take_smaller_part

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


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a run; the last two fields belong to runs with early stopping.

    seconds: of this call, without the time before a kill.
    final_loss_nats: mean training loss of about the last tenth of the run.
    best_step: step of the kept parameters.
    held_out_nats: held-out loss by step.
    """

    tokens: int
    final_loss_nats: float
    seconds: float
    best_step: int | None = None
    held_out_nats: Mapping[int, float] = field(default_factory=dict)


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
    return TrainingOutcome(
        tokens=course.steps * recipe.batch_windows * context,
        final_loss_nats=course.loss_nats[max(course.loss_nats)],
        seconds=time.monotonic() - started,
        best_step=course.best_step,
        held_out_nats=course.held_out_nats,
    )


def _trained_in_parts(model: Trainable, run: Run) -> TrainingCourse:
    if run.recipe.fsdp:
        return _trained_while_memory_lasts(run, lambda part: sharded_attempt(cast(PreTrainedModel, model), run, part))
    begun = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}

    def from_the_start(part: int) -> TrainingCourse | None:
        course = attempt(model, run, part)
        if course is None:
            give_back_memory()
            model.zero_grad(set_to_none=True)
            model.load_state_dict(begun)
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
