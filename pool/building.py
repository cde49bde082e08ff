"""Who may write into a pool: one process at a time, and what the disk refuses is one line."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pool.config.pool_file import PoolFile
from pool.errors import PoolError
from pool.exchange import finish_exchange
from pool.files.whole import only_one
from pool.progress import say

_FULL = "the disk is full"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def building(config: PoolFile, *, wait_seconds: float = 0) -> Iterator[Path | None]:
    """Let one process at a time write into a pool; the others get a `PoolError`, after some time if they are to wait.

    An exchange that a killed command left half done is finished first; yields where its parts had waited.
    """
    busy = PoolError(f"pool {config.name!r} is being built by another process; wait for it, or stop it")
    try:
        with only_one(config.folder.parent / f".{config.name}.lock", busy, wait_seconds=wait_seconds):
            finished = finish_exchange(config.folder)
            if finished is not None:
                say(f"pool {config.name!r}: put in place what a killed command had made and not yet put there")
            yield finished
    except OSError as error:
        raise _unwritable(config, error.filename, _reason(error.errno) or str(error)) from error
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise _unwritable(config, None, _reason(int(number[1])) if number else str(error).splitlines()[0]) from error
    except RuntimeError as error:  # what torch.save raises when the disk is full
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise _unwritable(config, None, _FULL) from error


def _reason(number: int | None) -> str:
    """Say in words what the operating system refused, empty where it did not say."""
    if number is None:
        return ""
    return f"{_FULL} ({os.strerror(number)})" if number in _NO_ROOM else os.strerror(number)


def _unwritable(config: PoolFile, path: str | None, reason: str) -> PoolError:
    where = path or f"into {config.folder}"
    return PoolError(
        f"pool {config.name!r}: cannot write {where}: {reason}; make room or give write permission, and run the same "
        "command again"
    )
