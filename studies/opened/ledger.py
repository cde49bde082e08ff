"""Who is charged with a command: the ledger of its pool or of its study, once, when it ends well or badly.

Nothing in the way of a ledger makes a command fail: it is then not kept, and the bill says what it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from pool.config.pool_file import PoolFile, read_pool_file
from pool.parts.commands import Command, Meter, keep_in_pool
from pool.progress import heard_by
from studies.database.commands import keep_in_study
from studies.study_file.place import address_of_study
from studies.study_file.study_file import StudyFile, read_study_file

_within: ContextVar[bool] = ContextVar("within a charged call", default=False)


def charge(config: StudyFile | PoolFile, command: Command) -> None:
    """Keep a command in the ledger of a study or a pool; where that is impossible, in none."""
    with suppress(Exception), heard_by(lambda line: None):  # a file has changed meanwhile, say
        if isinstance(config, PoolFile):
            keep_in_pool(config.folder, command)
        else:
            keep_in_study(address_of_study(config), config.name, command)


def charge_process(verb: str, file: Path, *, to_pool: bool) -> None:
    """Charge a study file or a pool file with all that this process has spent on its command."""
    with suppress(Exception), heard_by(lambda line: None):
        charge((read_pool_file if to_pool else read_study_file)(file), Meter(verb, of_process=True).read())


@contextmanager
def charged(config: StudyFile | PoolFile, verb: str) -> Iterator[None]:
    """Charge what the block spends, unless it is part of a charged block."""
    if _within.get():
        yield
        return
    meter, token = Meter(verb), _within.set(True)
    try:
        yield
    finally:
        _within.reset(token)
        charge(config, meter.read())


class _OfStudy(Protocol):
    config: StudyFile


_Self = TypeVar("_Self", bound=_OfStudy)
_Options = ParamSpec("_Options")
_Answer = TypeVar("_Answer")


def charging(
    method: Callable[Concatenate[_Self, _Options], _Answer],
) -> Callable[Concatenate[_Self, _Options], _Answer]:
    """Charge the study of an object with every call of a method, under the method's name."""

    @wraps(method)
    def call(self: _Self, /, *given: _Options.args, **named: _Options.kwargs) -> _Answer:
        with charged(self.config, method.__name__):
            return method(self, *given, **named)

    return call
