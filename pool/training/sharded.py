"""One attempt at a run by several processes of this machine, which hold a shard of the model each.

This process holds the model before and after, whole and on the CPU.
"""

import json
import mmap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from pool.checkpoints.checkpoint import load_model, parameters_of
from pool.engines.dispatch import KILLED
from pool.engines.group import Ending, is_first, run_group
from pool.errors import PoolError
from pool.files.whole import write_text
from pool.progress import say
from pool.tokens.held_out import Tokens
from pool.tokens.stream import map_stream
from pool.training.attempt import Run, TrainingCourse, attempt
from pool.training.run_checkpoints import last_whole_checkpoint
from pool.training.shards import whole

_START, _IMPORTANCE, _END, _COURSE = "start", "importance.safetensors", "end.safetensors", "course.json"


def sharded_attempt(model: PreTrainedModel, run: Run, part: int) -> TrainingCourse | None:
    """Train `model` in place as `attempt` does, sharded as the recipe says; None when memory ran out: it is as it was.

    Where a process of the group is killed, the group goes on from its last checkpoint; the second kill in a row is
    taken to be for want of memory. Raises `PoolError` for fewer GPUs than shards.
    """
    count, folder = run.recipe.fsdp or 1, run.checkpoints
    _check_devices(run.label, count)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / _START)
    if run.needs.importance is not None:  # a model's size: too much for shared memory, where pickled tensors go
        save_file(dict(run.needs.importance), folder / _IMPORTANCE)
    light = replace(run, windows=replace(run.windows, streams=()), needs=replace(run.needs, importance=None))
    work = _Attempt(light, _sources(run.windows.streams), run.needs.importance is not None, part)
    kills, reached = 0, last_whole_checkpoint(folder)
    for name in (_END, _COURSE):
        (folder / name).unlink(missing_ok=True)
    while (ending := run_group(work, count, run.label)) != Ending.WELL:
        before, reached = reached, last_whole_checkpoint(folder)
        kills = kills + 1 if reached == before else 1
        if ending == Ending.NO_MEMORY or kills >= KILLED:
            return None
        say(f"{run.label}: one of its {count} processes was killed; it is gone on with")
    return _take_over(model, folder)


def _check_devices(label: str, wanted: int) -> None:
    seen = torch.cuda.device_count()
    if 0 < seen < wanted:
        raise PoolError(
            f"{label}: fsdp = {wanted} takes {wanted} GPUs, and {seen} of them can be seen: lower it, or show it more "
            f"(by CUDA_VISIBLE_DEVICES, or where several are trained side by side by [recipe] num_gpus = {wanted})"
        )


def _take_over(model: PreTrainedModel, folder: Path) -> TrainingCourse:
    trained = load_file(folder / _END)
    with torch.no_grad():
        for name, parameter in parameters_of(model).items():
            parameter.copy_(trained[name])
    kept = json.loads((folder / _COURSE).read_text(encoding="utf-8"))
    by_step = {key: {int(step): nats for step, nats in kept[key].items()} for key in ("loss_nats", "held_out_nats")}
    return TrainingCourse(kept["steps"], kept["best_step"], **by_step)


@dataclass(frozen=True)
class _Attempt:
    """What each process of the group does; the first one writes what comes of it."""

    run: Run
    streams: Sequence[Path | Tokens]
    weighs: bool
    part: int

    def __call__(self) -> bool:
        streams = tuple(map_stream(one) if isinstance(one, Path) else one for one in self.streams)
        importance = load_file(self.run.checkpoints / _IMPORTANCE) if self.weighs else None
        needs = replace(self.run.needs, importance=importance)
        run = replace(self.run, windows=replace(self.run.windows, streams=streams), needs=needs)
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
    """Name the files of streams that are mapped whole; others cross to other processes as they are."""
    return [
        Path(str(one.filename)) if isinstance(one, np.memmap) and isinstance(one.base, mmap.mmap) else one
        for one in streams
    ]
