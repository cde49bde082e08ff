"""The places of a pool's parts, and how new parts take the place of old ones: all of them or none.

Parts bear the names of their folders under POOL/. New parts wait in POOL/.new-<key>/ until all are there; then
exchange.json is written there. Without that file the pool is as it was. With it, the next process that opens or builds
the pool finishes the renames.
"""

import errno
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from pool.errors import PoolError, first_line
from pool.files.names import file_name
from pool.files.records import Record, read_record, write_record
from pool.files.whole import flush, one_of_several, only_one
from pool.progress import say

TOKENIZER, CORPUS, SEED, MEMBERS = "tokenizer", "corpus", "seed", "members"
COMMANDS_FILE = "commands.jsonl"
POOL_RECORD = "pool.json"
EXCHANGE = "exchange.json"
_STAGES, _OLD = ".new-", ".old"
_PROBED_BYTES = 2**22
_PATIENCE_SECONDS = 5.0
"""How long those who add wait for one who is alone for a moment."""


@dataclass(frozen=True)
class PoolLayout:
    """A pool in `folder`; its `new` parts are in `stage`."""

    folder: Path
    stage: Path | None = None
    new: frozenset[str] = frozenset()

    def of(self, part: str) -> Path:
        return self.stage / part if self.stage is not None and part in self.new else self.folder / part

    @property
    def tokenizer(self) -> Path:
        return self.of(TOKENIZER)

    @property
    def corpus(self) -> Path:
        return self.of(CORPUS)

    @property
    def seed(self) -> Path:
        return self.of(SEED)

    def member(self, name: str) -> Path:
        return self.of(member_part(name))


def member_part(name: str) -> str:
    return f"{MEMBERS}/{file_name(name)}"


def member_folder(folder: Path, name: str) -> Path:
    return folder / member_part(name)


class Exchange(Record):
    """The `new` parts, the pool's record last, and `gone` parts without a successor."""

    new: tuple[str, ...]
    gone: tuple[str, ...]


def stage_folder(folder: Path, key: str) -> Path:
    return folder / f"{_STAGES}{key}"


def is_stage(path: Path) -> bool:
    return path.name.startswith(_STAGES)


def stages(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_STAGES}*"))


def discard_stages(folder: Path, but: Path | None = None) -> bool:
    """Remove the stages of other builds than `but`; tell whether there were any."""
    others = [stage for stage in stages(folder) if stage != but]
    for stage in others:
        shutil.rmtree(stage, ignore_errors=True)
    return bool(others)


def discard_leftovers(folder: Path) -> None:
    """Remove what killed commands had half written under temporary names."""
    for within in (folder, folder / MEMBERS, folder / SEED, folder / CORPUS):
        for path in (*within.glob(".*.tmp"), *within.glob(".*.old")):
            path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def check_one_disk(folder: Path) -> None:
    """Raise `PoolError` where the members of a pool are on another disk: renames do not reach it."""
    members = folder / MEMBERS
    if members.exists() and members.stat().st_dev != folder.stat().st_dev:
        raise PoolError(
            f"{members} is on another disk than {folder}, and new members take the place of old ones by renaming; keep "
            "all of a pool on one disk"
        )


def exchange(stage: Path, new: Collection[str], gone: Collection[str]) -> None:
    """Flush the new parts, write the decision for them, and put them in their places."""
    for part in (*new, *gone):
        (stage / _OLD / part).parent.mkdir(parents=True, exist_ok=True)
        (stage.parent / part).parent.mkdir(parents=True, exist_ok=True)
    for part in new:
        flush(stage / part)
    write_record(stage / EXCHANGE, Exchange(new=tuple(new), gone=tuple(gone)))
    _finish(stage)


def is_unfinished(folder: Path) -> bool:
    return any(folder.glob(f"{_STAGES}*/{EXCHANGE}"))


def _finish(stage: Path) -> None:
    remedy = "run `mixscout pool build POOL.toml --rebuild all`: it says which parts of the pool were to be exchanged"
    record = read_record(stage / EXCHANGE, Exchange, remedy)
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


def _finished(folder: Path, stage: Path, *, anew: bool) -> Path | None:
    try:
        _finish(stage)
    except PoolError:
        if not anew:
            raise
        shutil.rmtree(stage)
        return None
    say(f"pool {folder.name!r}: put in place what a killed command had made and not yet put there")
    return stage


def _move(path: Path, to: Path) -> None:
    path.replace(to)


@contextmanager
def building(folder: Path, *, wait_seconds: float = 0, anew: bool = False) -> Iterator[Path | None]:
    """Let one process at a time write into a pool; first finish a half-done exchange, and yield its stage.

    A build of everything `anew` needs no exchange whose record is damaged: the exchange is discarded.
    Raises `PoolError` while another process writes, after `wait_seconds`, and when the disk refuses a write.
    """
    with _writing(folder), only_one(_lock(folder), _busy(folder), wait_seconds=wait_seconds):
        decided = next(folder.glob(f"{_STAGES}*/{EXCHANGE}"), None)
        yield _finished(folder, decided.parent, anew=anew) if decided is not None else None


@contextmanager
def adding_beside_others(folder: Path) -> Iterator[None]:
    """Let processes add parts of their own to a pool at a time, each named by its content, and nobody build.

    Raises `PoolError` while another process builds, and when the disk refuses a write.
    """
    with _writing(folder), one_of_several(_lock(folder), _busy(folder), wait_seconds=_PATIENCE_SECONDS):
        yield


def _busy(folder: Path) -> PoolError:
    return PoolError(f"pool {folder.name!r} is being built by another process; wait for it, or stop it")


def _lock(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Explain what the disk refuses in the block. Raises `PoolError`."""
    try:
        yield
    except OSError as error:
        number = _refusal(folder) if error.errno is None else error.errno  # SQLite does not tell
        raise _explained(folder, number, first_line(error), path=error.filename) from error
    except SafetensorError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        raise _explained(folder, int(told[1]) if told else None, first_line(error)) from error
    except RuntimeError as error:  # torch.save does not tell a full disk from other failures
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise _explained(folder, _refusal(folder), first_line(error)) from error


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def _explained(folder: Path, number: int | None, otherwise: str, *, path: str | None = None) -> PoolError:
    """Say what the system refused, and the remedy for that."""
    reason = otherwise if number is None else os.strerror(number)
    where = f"pool {folder.name!r}: cannot write {path or f'into {folder}'}: "
    if number in _NO_ROOM:
        limit = ", or a limit on the size of files is reached" if number == errno.EFBIG else ""
        return PoolError(f"{where}the disk is full{limit} ({reason}); make room there, and run the same command again")
    if number in _NOT_ALLOWED and path and os.path.lexists(path) and not os.access(path, os.R_OK):
        return PoolError(
            f"pool {folder.name!r}: cannot read {path}: {reason}; give read permission, and run the same command again"
        )
    if number in _NOT_ALLOWED:
        return PoolError(f"{where}{reason}; give write permission, and run the same command again")
    return PoolError(f"pool {folder.name!r}: {path or folder}: {reason}; run the same command again")


def _refusal(folder: Path) -> int | None:
    """Write a little, and return the number of the error that comes, if any."""
    probe = folder / ".room.tmp"
    try:
        probe.write_bytes(bytes(_PROBED_BYTES))
    except OSError as error:
        return error.errno
    finally:
        probe.unlink(missing_ok=True)
    return None
