"""Processes of this machine for one piece of work: a group that begins and ends together, or one with a time limit.

A group meets through a file and talks over loopback. All die with their starter.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

import torch
from torch.multiprocessing.spawn import spawn

from pool.engines.engine import Job, Listener, said_into
from pool.engines.resources import device_fault
from pool.errors import MixscoutError, PoolError, first_line
from pool.progress import duration, mute


def is_first() -> bool:
    return not is_grouped() or torch.distributed.get_rank() == 0


def is_grouped() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


_NO_MEMORY, _REFUSES, _RAISED = 77, 78, 79
_POLL_SECONDS = 0.5
_LINGER_SECONDS = 2.0
"""After one process fails, the others get this time to fail because of it."""
_SET_SIGNAL_OF_PARENTS_DEATH = 1
"""PR_SET_PDEATHSIG of <linux/prctl.h>."""
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


class Ending(Enum):
    WELL = "well"
    NO_MEMORY = "out of memory"
    KILLED = "a process was killed"


def run_group(work: Callable[[], bool], count: int, label: str) -> Ending:
    """Have `count` processes do `work` together, a GPU each if there are any; repeat the first one's lines by `label`.

    `work` is pickled, and returns whether memory sufficed. Raises `PoolError` for our own errors, and `RuntimeError`
    with the traceback for others.
    """
    with tempfile.TemporaryDirectory() as name:
        member = _Member(work, count, Path(name), os.getpid())
        with Listener([Job(label, lambda: None, said=member.said)]) as listener:
            if multiprocessing.get_start_method(allow_none=True) == "loky":
                multiprocessing.set_start_method("spawn", force=True)  # children do not know a loky worker's own method
            processes: Sequence[BaseProcess] = spawn(member, nprocs=count, join=False).processes  # type: ignore[no-untyped-call]
            try:
                codes = _codes(processes, lambda: listener.listen([label]))
            finally:
                for process in processes:
                    process.kill()
                for process in processes:
                    process.join()  # until its memory is free
        return _ending(codes, member, label)


Sent = TypeVar("Sent")


@dataclass(frozen=True)
class _Failure:
    reason: str


def run_limited(work: Callable[[Callable[[Sent], None]], None], limit: float, *, forked: bool) -> Iterator[Sent]:
    """Yield at once what `work` hands to its argument, in a process that is killed after `limit` seconds.

    `forked` begins without imports; the process must not use a GPU then. Raises `PoolError` saying why a work ended
    early.
    """
    context = multiprocessing.get_context("fork" if forked else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work_alone, args=(work, theirs, os.getpid()))  # type: ignore[attr-defined]
    process.start()
    theirs.close()
    deadline = time.monotonic() + limit
    try:
        while ours.poll(max(0.0, deadline - time.monotonic())):
            try:
                sent = ours.recv()
            except EOFError:
                process.join()
                if process.exitcode:
                    raise PoolError(f"the process ended with exit code {process.exitcode}") from None
                return
            if isinstance(sent, _Failure):
                raise PoolError(sent.reason)
            yield sent
        raise PoolError(f"the process was ended after {duration(limit)}")
    finally:
        process.kill()
        process.join()


def _work_alone(work: Callable[[Callable[[Sent], None]], None], to: Connection, starter: int) -> None:
    _die_with_starter()
    if os.getppid() != starter:
        os._exit(_RAISED)  # the starter died before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mute()
    try:
        work(to.send)
    except Exception as error:
        to.send(_Failure(f"{type(error).__name__}: {first_line(error)}"))


def _codes(processes: Sequence[BaseProcess], listen: Callable[[], None]) -> list[int | None]:
    """Wait until all end or one fails; return the exit codes, None for running processes."""
    while alive := [process.sentinel for process in processes if process.exitcode is None]:
        wait(alive, _POLL_SECONDS)
        listen()
        if any(process.exitcode for process in processes):
            time.sleep(_LINGER_SECONDS)
            break
    return [process.exitcode for process in processes]


def _ending(codes: Sequence[int | None], member: "_Member", label: str) -> Ending:
    """Find the cause: after one process dies, the others fail too, because they cannot reach it."""
    if not any(codes):
        return Ending.WELL
    if _REFUSES in codes:
        raise PoolError(member.written(codes.index(_REFUSES)))
    if _NO_MEMORY in codes:
        return Ending.NO_MEMORY
    if -signal.SIGKILL in codes:
        return Ending.KILLED
    raised = [member.written(number) for number, code in enumerate(codes) if code == _RAISED]
    raise RuntimeError("\n".join([f"{label}: its processes ended with {codes}", *raised]))


def _die_with_starter() -> None:
    """Have Linux kill this process when its starter dies: torch asks for SIGINT, which a process may miss."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong)
        if libc.prctl(_SET_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"prctl(PR_SET_PDEATHSIG): {os.strerror(number)}")


@dataclass(frozen=True)
class _Member:
    work: Callable[[], bool]
    count: int
    folder: Path
    starter: int

    @property
    def said(self) -> Path:
        return self.folder / "said"

    def written(self, number: int) -> str:
        return (self.folder / str(number)).read_text(encoding="utf-8")

    def __call__(self, number: int) -> None:
        _die_with_starter()
        if os.getppid() != self.starter:
            os._exit(_RAISED)  # the starter died before
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the starter gets SIGINT too, and ends the group
        mute()
        try:
            self._meet(number)
            with said_into(self.said if is_first() else None):
                code = 0 if self.work() else _NO_MEMORY
        except MixscoutError as error:
            code, text = _REFUSES, str(error)
        except Exception as error:
            fault = device_fault(error)
            code, text = (_REFUSES, fault) if fault else (_RAISED, traceback.format_exc())
        if code in (_REFUSES, _RAISED):
            (self.folder / str(number)).write_text(text, encoding="utf-8")
        if code:
            os._exit(code)  # an orderly exit might wait for the others
        torch.distributed.destroy_process_group()

    def _meet(self, number: int) -> None:
        named = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": self.count, "LOCAL_WORLD_SIZE": self.count}
        os.environ.update({name: str(value) for name, value in named.items()})
        if sys.platform == "linux":
            os.environ.update(_LOOPBACK)
        has_gpus = torch.cuda.is_available()
        if has_gpus:
            torch.cuda.set_device(number)
        else:
            torch.set_num_threads(max(1, torch.get_num_threads() // self.count))
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if has_gpus else "gloo",
            f"file://{self.folder / 'meeting'}",
            world_size=self.count,
            rank=number,
        )
