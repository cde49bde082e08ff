"""Command lines against a hub at an address of its own, which the libraries read once, when they are imported.

So they run in another process: it imports everything, then forks for each command line, as many as there are to be run.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Ran:
    """What a command line printed, and its exit code."""

    code: int
    out: str
    err: str


class HubClient:
    """A process in a folder that runs `mixscout` as often as asked; HF_HOME is a folder in it, shared by its like."""

    def __init__(self, endpoint: str, folder: Path, *, offline: bool = False) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_XET": "1",
            "PYTHONPATH": str(ROOT),
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: object, token: str | None = None) -> Ran:
        """Run a command line, with HF_TOKEN set where a token is given."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"arguments": [str(argument) for argument in arguments], "token": token}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return Ran(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def _serve() -> None:
    """Read command lines from stdin, and answer each on stdout."""
    from studies.terminal import quiet_libraries

    quiet_libraries()
    import pool.building.build
    import pool.config.pool_file  # noqa: F401

    gc.freeze()  # what is imported is there for good: children need not search it for rubbish
    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os._exit(_code_of(asked["arguments"], asked["token"]))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = {name: _text(stream) for name, stream in (("out", out), ("err", err))}
        print(json.dumps({"code": code, **texts}), flush=True)


def _code_of(arguments: list[str], token: str | None) -> int:
    """Run a command line as the installed command does; the caller leaves at once, as taking all down is slow."""
    from studies.command_line.app import main

    sys.argv = ["mixscout", *arguments]
    if token:
        os.environ["HF_TOKEN"] = token
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _text(stream: tempfile._TemporaryFileWrapper[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode()


if __name__ == "__main__":
    _serve()
