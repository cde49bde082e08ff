"""Jobs for the engines' suite: importable by name, as every job's function must be where it is done elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pool.errors import PoolError
from pool.progress import say, track


@dataclass(frozen=True)
class Noted:
    """Writes down its process and returns `value`; before that it waits for the file `until`, where one is named."""

    folder: Path
    value: int
    until: str | None = None

    def __call__(self) -> int:
        _begin(self.folder, str(self.value))
        while self.until and not (self.folder / self.until).exists():
            time.sleep(0.02)
        return self.value


@dataclass(frozen=True)
class Dying:
    """Is killed the first `times` times, then returns how often it was begun."""

    folder: Path
    times: int

    def __call__(self) -> int:
        if _begin(self.folder, "dying") <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.begun()

    def begun(self) -> int:
        """Count how often it was begun."""
        return len(begun_by(self.folder, "dying"))


@dataclass(frozen=True)
class Meeting:
    """Waits until `places` processes are at such a job, and returns the devices that its own process sees."""

    folder: Path
    places: int

    def __call__(self) -> str | None:
        self.folder.mkdir(exist_ok=True)
        _begin(self.folder, "met")
        while len(set(begun_by(self.folder, "met"))) < self.places:
            time.sleep(0.02)
        return seen("CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Talking:
    """Says three lines, dies once after the first, and makes every noise that a library can make."""

    name: str
    folder: Path

    def __call__(self) -> str:
        say(f"{self.name}: out of memory; trying 4 of 8 windows at a time")
        if _begin(self.folder, self.name) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        print("noise on stdout", flush=True)
        warnings.warn("noise of a library", stacklevel=1)
        os.write(2, b"noise below Python\n")
        subprocess.run(["sh", "-c", "echo noise of another process >&2"], check=True)
        say("not under a name")
        with track(self.name, 3) as advance:
            advance(3, "loss 1.234")
        return self.name


@dataclass(frozen=True)
class Barred:
    """Shows a bar of tqdm's, and is at it for ever; or waits until another one is, and raises."""

    folder: Path
    raises: bool

    def __call__(self) -> None:
        while self.raises:
            if begun_by(self.folder, "bar"):
                refused()
            time.sleep(0.02)
        for _ in tqdm(range(10**9)):
            if not begun_by(self.folder, "bar"):
                _begin(self.folder, "bar")
            time.sleep(0.02)


@dataclass(frozen=True)
class Hungry:
    """Is killed as long as what it wants at a time, 8 at first, is more than `fits`; then returns that."""

    folder: Path
    fits: int

    def __call__(self) -> int:
        _begin(self.folder, "hungry")
        if self._wanted() > self.fits:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._wanted()

    def _wanted(self) -> int:
        path = self.folder / "wanted"
        return int(path.read_text()) if path.exists() else 8

    def spare(self) -> str:
        """Halve what it wants."""
        half = self._wanted() // 2
        if half:
            (self.folder / "wanted").write_text(str(half))
        return f"{half} at a time" if half else ""


def begun_by(folder: Path, name: object) -> list[int]:
    """List the processes that began a job."""
    path = folder / str(name)
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def refused() -> int:
    """Raise an error of ours."""
    raise PoolError("member 'a' has NaN; a lower learning_rate is the usual remedy")


def unreadable() -> int:
    """Raise what the system raises."""
    return len(Path("/proc/version/nothing").read_bytes())


def seen(variable: str) -> str | None:
    """Return what the process sees in a variable of its environment."""
    return os.environ.get(variable)


def _begin(folder: Path, name: str) -> int:
    with (folder / name).open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    return len(begun_by(folder, name))
