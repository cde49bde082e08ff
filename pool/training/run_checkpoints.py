"""The checkpoints that `Trainer` leaves in a run's scratch folder, from which a killed run goes on.

Member ages: checkpoints along the way, kept beside the member so that a study can ask which age merges best.

MEMBER/ages/<steps>/ holds weights and configuration; the member's manifest holds their digests.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pool.checkpoints.checkpoint import CONFIG, WEIGHTS
from pool.checkpoints.manifest import AgeDigests
from pool.engines.group import is_first
from pool.files.digests import digest_file
from pool.files.whole import new_folder
from pool.training.shards import whole

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


AGES = "ages"


class KeepAges(TrainerCallback):
    """Writes the model into `folder`/<steps> after every so many optimiser steps but the last one."""

    def __init__(self, model: Callable[[], PreTrainedModel], folder: Path, every_steps: int) -> None:
        self._model, self._folder, self._every = model, folder, every_steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Write, where it is time to; a run gone on with writes the same once more."""
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


def age_digests(member: Path) -> dict[int, AgeDigests]:
    """Digest the ages kept in a member's folder, by steps in order."""
    found = sorted((member / AGES).glob("*"), key=lambda folder: int(folder.name))
    return {
        int(folder.name): AgeDigests(weights=digest_file(folder / WEIGHTS), config=digest_file(folder / CONFIG))
        for folder in found
    }


def age_folder(member: Path, steps: int) -> Path:
    """Folder of a member as it was after so many steps."""
    return member / AGES / str(steps)
