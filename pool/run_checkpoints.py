"""The checkpoints that `Trainer` leaves in a run's scratch folder, from which a killed run goes on."""

import json
import shutil
from pathlib import Path

_STATE = "trainer_state.json"


SHARDED = "sharded"
"""Folder in a scratch folder for the checkpoints of a sharded run, which are no others' to go on from."""


def checkpoints_of(scratch: Path) -> list[Path]:
    """List the checkpoints of a run, sharded or not, whole or not."""
    return [*scratch.glob("checkpoint-*"), *scratch.glob(f"{SHARDED}/checkpoint-*")]


def last_whole_checkpoint(scratch: Path) -> Path | None:
    """Find the newest checkpoint whose state, written last, is there; half-written ones are removed."""
    whole: list[Path] = []
    for folder in scratch.glob("checkpoint-*"):
        if _is_whole(folder):
            whole.append(folder)
        else:
            shutil.rmtree(folder)
    return max(whole, key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    """Return the optimiser steps done at a checkpoint; 0 for none."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def has_stopped(checkpoint: Path, patience: int) -> bool:
    """Tell whether early stopping had ended the run at this checkpoint."""
    state = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    kept = state.get("stateful_callbacks", {}).get("EarlyStoppingCallback", {})
    return int(kept.get("attributes", {}).get("early_stopping_patience_counter", 0)) >= patience


def discard_scratch(scratch: Path) -> None:
    """Remove a run's checkpoints, their states first, so that a half-removed one is never taken for whole.

    A file of a run, which carried what it said, is removed as well.
    """
    if scratch.is_file():
        scratch.unlink()
        return
    for checkpoint in checkpoints_of(scratch):
        (checkpoint / _STATE).unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
