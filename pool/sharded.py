"""One attempt at a run by several processes of this machine, which hold a shard of the model each.

torch starts them, and ends all of them where one ends badly or this process is gone; they find each other by a file,
and speak over the loopback device. This process holds the model before and after, whole and on the CPU.
"""

import json
import mmap
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.multiprocessing.spawn import ProcessContext, ProcessException, spawn
from transformers import PreTrainedModel

from pool.attempt import Course, Run, attempt
from pool.checkpoint import load_model, parameters_of
from pool.disk import write_text
from pool.engines.dispatch import KILLED
from pool.engines.engine import Job
from pool.engines.said import Listener, said_into
from pool.errors import MixscoutError, PoolError
from pool.progress import say
from pool.run_checkpoints import last_whole_checkpoint
from pool.shards import is_first, whole
from pool.silence import mute, silent
from pool.tokens import Tokens

_START, _END, _COURSE, _SAID, _REFUSED = "start", "end.safetensors", "course.json", "said", "refused"
_NO_MEMORY, _REFUSES = 77, 78
_POLL_SECONDS = 0.5
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


def sharded_attempt(model: PreTrainedModel, run: Run, part: int) -> Course | None:
    """Train `model` in place as `attempt` does, sharded as the recipe says; None when memory ran out: it is as it was.

    Where a process of the group is killed, the group goes on from its last checkpoint; the second kill in a row is
    taken to be for want of memory. Raises `PoolError` for fewer GPUs than shards.
    """
    _check_devices(run)
    folder = run.checkpoints
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder / _START)
    kills, reached = 0, last_whole_checkpoint(folder)
    while True:
        for name in (_END, _COURSE, _REFUSED):
            (folder / name).unlink(missing_ok=True)
        how = _run_group(run, part)
        if how is None:
            return _take_over(model, folder)
        if how == _REFUSES:
            raise PoolError((folder / _REFUSED).read_text(encoding="utf-8"))
        before, reached = reached, last_whole_checkpoint(folder)
        kills = kills + 1 if reached == before else 1
        if how == _NO_MEMORY or kills >= KILLED:
            return None
        say(f"{run.label}: one of its {run.recipe.fsdp} processes was killed; it is gone on with")


def _check_devices(run: Run) -> None:
    wanted, seen = run.recipe.fsdp or 1, torch.cuda.device_count()
    if 0 < seen < wanted:
        raise PoolError(
            f"{run.label}: fsdp = {wanted} takes {wanted} GPUs, and {seen} of them can be seen: lower it, or give each "
            f"run more by [recipe] num_gpus = {wanted}"
        )


def _run_group(run: Run, part: int) -> int | None:
    """Run the processes to their end: None where it is good, or else what one of them exited with."""
    said = run.checkpoints / _SAID
    job = Job(run.label, lambda: None, said=said)
    with tempfile.TemporaryDirectory() as meeting, Listener([job]) as listener:
        member = _Member(replace(run, windows=replace(run.windows, streams=())), _sources(run.windows.streams), part)
        shared = (Path(meeting) / "meeting", said)
        if (
            multiprocessing.get_start_method(allow_none=True) == "loky"
        ):  # a worker's own, which its children do not know
            multiprocessing.set_start_method("spawn", force=True)
        group: ProcessContext = spawn(member, shared, run.recipe.fsdp or 1, join=False)  # type: ignore[no-untyped-call]
        try:
            with silent("torch.multiprocessing.spawn"):
                while not group.join(timeout=_POLL_SECONDS):
                    listener.listen([job.name])
        except ProcessException:
            codes = [process.exitcode for process in group.processes]
            for code in (_REFUSES, _NO_MEMORY, -9):
                if code in codes:
                    return code
            raise
        finally:
            for process in group.processes:
                process.kill()
    return None


def _take_over(model: PreTrainedModel, folder: Path) -> Course:
    trained = load_file(folder / _END)
    with torch.no_grad():
        for name, parameter in parameters_of(model).items():
            parameter.copy_(trained[name])
    kept = json.loads((folder / _COURSE).read_text(encoding="utf-8"))
    by_step = {key: {int(step): nats for step, nats in kept[key].items()} for key in ("loss_nats", "held_out_nats")}
    return Course(kept["steps"], kept["best_step"], **by_step)


@dataclass(frozen=True)
class _Member:
    """What a process of the group does; called with its number there."""

    run: Run
    streams: Sequence["_Mapped | Tokens"]
    part: int

    def __call__(self, number: int, meeting: Path, said: Path) -> None:
        mute()
        self._meet(number, meeting)
        folder = self.run.checkpoints
        try:
            with said_into(said if is_first() else None):
                ended = self._attempt(load_model(folder / _START))
        except MixscoutError as error:
            write_text(folder / _REFUSED, str(error))
            sys.exit(_REFUSES)
        if not ended:
            sys.exit(_NO_MEMORY)
        torch.distributed.destroy_process_group()

    def _meet(self, number: int, meeting: Path) -> None:
        count = self.run.recipe.fsdp or 1
        named = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        os.environ.update({name: str(value) for name, value in named.items()})
        if sys.platform == "linux":
            os.environ.update(_LOOPBACK)
        has_gpus = torch.cuda.is_available()
        if has_gpus:
            torch.cuda.set_device(number)
        else:
            torch.set_num_threads(max(1, torch.get_num_threads() // count))
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if has_gpus else "gloo", f"file://{meeting}", world_size=count, rank=number
        )

    def _attempt(self, model: PreTrainedModel) -> bool:
        streams = tuple(one.tokens if isinstance(one, _Mapped) else one for one in self.streams)
        run = replace(self.run, windows=replace(self.run.windows, streams=streams))
        course = attempt(model, run, self.part)
        if course is None:
            return False
        trained = {name: whole(tensor).to("cpu") for name, tensor in parameters_of(model).items()}
        if is_first():
            save_file({name: tensor.contiguous() for name, tensor in trained.items()}, run.checkpoints / _END)
            write_text(run.checkpoints / _COURSE, json.dumps(asdict(course)))
        return True


@dataclass(frozen=True)
class _Mapped:
    """Tokens that are mapped from a file: they cross to another process as its name."""

    path: str
    offset: int
    count: int

    @property
    def tokens(self) -> Tokens:
        return np.memmap(self.path, np.int32, "r", self.offset, (self.count,))


def _sources(streams: Sequence[Tokens]) -> list["_Mapped | Tokens"]:
    return [
        _Mapped(str(one.filename), one.offset, len(one))
        if isinstance(one, np.memmap) and isinstance(one.base, mmap.mmap)
        else one
        for one in streams
    ]
