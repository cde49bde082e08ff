"""Checkpoints of a run on the way: their files are recorded by digest, and verified before the run goes on.

SCRATCH/checkpoint-<steps>/  files of `Trainer`  digests.json (written last)
SCRATCH/damaged-checkpoint-<steps>/ (put aside)  age-<steps>.json (digests of a model kept at an age)
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.files.records import Record, read_record, write_record
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
