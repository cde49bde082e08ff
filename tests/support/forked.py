"""The command line in processes forked from one that has loaded the libraries.

Streams, users and permissions are as real as those of the installed command, without the seconds of its imports.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[2]
FEW_CHARACTERS = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
"""Variables under which Python writes ASCII alone."""
_PATIENCE_SECONDS = 120.0
_KEEP_CAPABILITIES, _READ_ALL = 8, 1 << 2
"""PR_SET_KEEPCAPS and CAP_DAC_READ_SEARCH of Linux."""


@dataclass(frozen=True)
class Said:
    """What a command wrote to its streams, and its exit code."""

    code: int
    out: str
    err: str


class Forks:
    """A process with all libraries loaded, which forks itself into commands."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._numbers = folder, count()
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        )

    def run(
        self,
        *words: object,
        out: str | None = "",
        err: str | None = "",
        user: str | None = None,
        until: str | None = None,
    ) -> Said:
        """Run a command. A stream is kept, or goes to the file `out` or `err`, or is closed (None).

        until: text on standard output after which Ctrl-C is pressed.
        """
        number = next(self._numbers)
        kept = [str(self._folder / f"{number}.{name}") for name in ("out", "err")]
        files = [mine if path == "" else path for mine, path in zip(kept, (out, err), strict=True)]
        self._ask({"words": list(map(str, words)), "files": files, "user": user})
        pid = self._number()
        if until is not None:
            _wait_for(until, Path(kept[0]))
            os.kill(pid, signal.SIGINT)
        return Said(self._number(), *map(_text, map(Path, kept)))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, request: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def forks(folder: Path, **environment: str) -> Iterator[Forks]:
    """Start a process to fork from, with these variables."""
    started = Forks(folder, environment)
    try:
        yield started
    finally:
        started.close()


def _wait_for(text: str, path: Path) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while text not in _text(path) and time.monotonic() < end:
        time.sleep(0.05)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _serve() -> None:
    """Fork for every line of standard input: a child returns as the command to run."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(**json.loads(line))
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    os._exit(0)


def _become(words: list[str], files: list[str | None], user: str | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name, path in zip((1, 2), ("stdout", "stderr"), files, strict=True):
        if path is None:
            os.close(number)
            setattr(sys, name, None)
        else:
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
    if user is not None:
        _become_user(user)
    sys.argv = ["mixscout", *words]


def _become_user(name: str) -> None:
    """Become a user who may read everything, wherever Python is installed, and write what permissions let him write."""
    libc, found = ctypes.CDLL(None), pwd.getpwnam(name)
    libc.prctl(_KEEP_CAPABILITIES, 1)
    os.setgroups([])
    os.setgid(found.pw_gid)
    os.setuid(found.pw_uid)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] = sets[1] = sets[1] & _READ_ALL
    assert libc.capset(header, sets) == 0


def _run(command: Callable[[], object]) -> None:
    """Run a command and end as the interpreter does, without its seconds of tearing down so many modules."""
    code = 0
    try:
        command()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            code = 120
    os._exit(code)


if __name__ == "__main__":
    from studies.command_line.app import main
    from studies.terminal import quiet_libraries

    quiet_libraries()
    for floor in ("pool", "objectives", "search", "studies"):
        for module in pkgutil.walk_packages(importlib.import_module(floor).__path__, f"{floor}."):
            importlib.import_module(module.name)
    gc.freeze()  # a collection in a child would copy all of it
    _serve()
    _run(main)
