"""New parts of a pool in the place of the old ones, all of them or none.

They wait in POOL/.new-<key>/, which nobody else reads, under the names they will have. Its exchange.json, written when
all of them are there, is what decides: without it the pool is as it was, and with it whoever next takes the pool up
does the renames that are left.

Who may write into a pool: one process at a time, and what the disk refuses is one line.
"""

import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pool.errors import PoolError, first_line
from pool.files.records import Record, read_record, write_record
from pool.files.whole import flush, only_one
from pool.parts.layout import MEMBERS
from pool.progress import say

EXCHANGE = "exchange.json"
_STAGES, _OLD = ".new-", ".old"


class Exchange(Record):
    """What takes the place of what: `new` parts, the pool's record last, and what is `gone` without another."""

    new: tuple[str, ...]
    gone: tuple[str, ...]


def stage_folder(folder: Path, key: str) -> Path:
    """Where new parts of the pool in `folder` wait."""
    return folder / f"{_STAGES}{key}"


def is_stage(path: Path) -> bool:
    """Whether a path in a pool's folder is where new parts wait."""
    return path.name.startswith(_STAGES)


def stages(folder: Path) -> list[Path]:
    """List where new parts of the pool in `folder` wait."""
    return sorted(folder.glob(f"{_STAGES}*"))


def discard_stages(folder: Path, but: Path | None = None) -> bool:
    """Remove what was made for other builds than the one that waits in `but`; tell whether there was any."""
    others = [stage for stage in stages(folder) if stage != but]
    for stage in others:
        shutil.rmtree(stage, ignore_errors=True)
    return bool(others)


def check_one_disk(folder: Path) -> None:
    """Raise `PoolError` where the members of the pool in `folder` are on another disk: nothing is renamed to there."""
    members = folder / MEMBERS
    if members.exists() and members.stat().st_dev != folder.stat().st_dev:
        raise PoolError(
            f"{members} is on another disk than {folder}, and new members take the place of old ones by renaming; keep "
            "all of a pool on one disk"
        )


def exchange(stage: Path, new: Collection[str], gone: Collection[str]) -> None:
    """Flush the new parts to disk, decide that they are the pool's, and put them there."""
    for part in (*new, *gone):
        (stage / _OLD / part).parent.mkdir(parents=True, exist_ok=True)
        (stage.parent / part).parent.mkdir(parents=True, exist_ok=True)
    for part in new:
        flush(stage / part)
    write_record(stage / EXCHANGE, Exchange(new=tuple(new), gone=tuple(gone)))
    _finish(stage)


def is_unfinished(folder: Path) -> bool:
    """Whether an exchange in the pool's folder was decided, and not finished."""
    return any(folder.glob(f"{_STAGES}*/{EXCHANGE}"))


def finish_exchange(folder: Path) -> Path | None:
    """Do what is left of an exchange that was decided; return where its parts had waited, None where there is none."""
    for decided in folder.glob(f"{_STAGES}*/{EXCHANGE}"):
        _finish(decided.parent)
        return decided.parent
    return None


def _finish(stage: Path) -> None:
    record = read_record(stage / EXCHANGE, Exchange)
    for part in record.gone:
        if os.path.lexists(stage.parent / part):
            _move(stage.parent / part, stage / _OLD / part)
    for part in record.new:
        if (stage / part).exists():  # or else it was moved before a kill
            if (stage.parent / part).is_dir():
                _move(stage.parent / part, stage / _OLD / part)
            _move(stage / part, stage.parent / part)
    for path in stage.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
    (stage / EXCHANGE).unlink()
    shutil.rmtree(stage, ignore_errors=True)


def _move(path: Path, to: Path) -> None:
    path.replace(to)


_FULL = "the disk is full"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def building(folder: Path, *, wait_seconds: float = 0) -> Iterator[Path | None]:
    """Let one process at a time write into a pool; the others get a `PoolError`, after some time if they are to wait.

    An exchange that a killed command left half done is finished first; yields where its parts had waited.
    """
    busy = PoolError(f"pool {folder.name!r} is being built by another process; wait for it, or stop it")
    try:
        with only_one(folder.with_name(f".{folder.name}.lock"), busy, wait_seconds=wait_seconds):
            finished = finish_exchange(folder)
            if finished is not None:
                say(f"pool {folder.name!r}: put in place what a killed command had made and not yet put there")
            yield finished
    except OSError as error:
        raise _unwritable(folder, error.filename, _reason(error.errno) or str(error)) from error
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise _unwritable(folder, None, _reason(int(number[1])) if number else first_line(error)) from error
    except RuntimeError as error:  # what torch.save raises when the disk is full
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise _unwritable(folder, None, _FULL) from error


def _reason(number: int | None) -> str:
    """Say in words what the operating system refused, empty where it did not say."""
    if number is None:
        return ""
    return f"{_FULL} ({os.strerror(number)})" if number in _NO_ROOM else os.strerror(number)


def _unwritable(folder: Path, path: str | None, reason: str) -> PoolError:
    where = path or f"into {folder}"
    return PoolError(
        f"pool {folder.name!r}: cannot write {where}: {reason}; make room or give write permission, and run the same "
        "command again"
    )
