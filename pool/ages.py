"""Member ages: checkpoints along the way, kept beside the member so that a study can ask which age merges best.

MEMBER/ages/<steps>/ holds weights and configuration; the member's manifest holds their digests.
"""

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pool.checkpoints.checkpoint import CONFIG, WEIGHTS
from pool.checkpoints.manifest import AgeDigests
from pool.engines.group import is_first
from pool.files.digests import digest_file
from pool.files.whole import new_folder
from pool.shards import whole

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
