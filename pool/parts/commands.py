"""The ledger of commands: what each command took, written down when it ends, well or badly.

A pool's ledger is a file in its folder; a study's is a table of its database (`studies.database.commands`).
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pool.engines.resources import all_processor_seconds
from pool.parts.layout import COMMANDS_FILE


@dataclass(frozen=True)
class Command:
    """A command that has ended.

    began_unix: Unix seconds
    seconds: wall time
    processor_seconds: of its process and of all processes that it started, each counted once
    """

    verb: str
    began_unix: float
    seconds: float
    processor_seconds: float

    def saw(self, moment_unix: float) -> bool:
        """Tell whether a moment lies within the command."""
        return self.began_unix <= moment_unix <= self.began_unix + self.seconds


_Moment = tuple[float, float]
"""Unix seconds, and all processor seconds of this process by then."""

_charged: _Moment | None = None


def _now() -> _Moment:
    return time.time(), all_processor_seconds()


class Meter:
    """Measures what this process spends from now on; `of_process`: from its start, or from its last command's end."""

    def __init__(self, verb: str, *, of_process: bool = False) -> None:
        self._verb = verb
        self._begun = (_charged or (psutil.Process().create_time(), 0.0)) if of_process else _now()

    def read(self) -> Command:
        """Return what was spent since the beginning, or since the last reading."""
        global _charged
        (began, before), (ended, after) = self._begun, _now()
        self._begun = _charged = ended, after
        return Command(self._verb, began, max(0.0, ended - began), max(0.0, after - before))


def keep_in_pool(folder: Path, command: Command) -> None:
    """Append a command to a pool's ledger. A folder that is not there, or not writable, keeps none."""
    with suppress(OSError):
        if folder.is_dir():
            with (folder / COMMANDS_FILE).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(command)) + "\n")


def kept_in_pool(folder: Path) -> list[Command]:
    """Read a pool's ledger, the earliest command first. A line that a full disk has cut short is left out."""
    found = list[Command]()
    with suppress(OSError):
        for line in (folder / COMMANDS_FILE).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, TypeError):
                found.append(Command(**json.loads(line)))
    return found
