"""Progress of long work on stderr: a bar on a terminal or in a notebook, plain lines elsewhere; libraries are silenced.

Answers go to stdout.
"""

import io
import logging
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import accumulate
from typing import IO, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text
from tqdm import TqdmWarning, tqdm

SECONDS_BETWEEN_LINES = 10.0
_MEGABYTE = 1_000_000

Advance = Callable[[int, str], None]

_listener: Callable[[str], None] | None = None


def say(line: str) -> None:
    """Print one line of progress to stderr, or hand the line to the listener of `heard_by`."""
    if _listener is not None:
        _listener(line)
    else:
        _write(sys.stderr, f"{line}\n")


def duration(seconds: float) -> str:
    """Write a time for people, in its two largest units: `45 s`, `3 min 20 s`, `5 h 10 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def size(count: float) -> str:
    """Write a number of bytes for people: `31.8 MB`, `0.84 GB`."""
    return f"{count / 1e9:,.2f} GB" if abs(count) >= 1e8 else f"{count / 1e6:,.1f} MB"


def _write(stream: TextIO, text: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # ValueError: closed; AttributeError: None
        stream.write(text)
        stream.flush()


class _StandardError(io.TextIOBase):
    """Standard error of the moment. A closed or full stream, or a terminal that is gone, loses lines, and no work."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(sys.stderr, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        _write(
            getattr(sys.stderr, "rich_proxied_file", sys.stderr), text
        )  # a live bar's stand-in would write here again
        return len(text)

    def isatty(self) -> bool:
        return sys.stderr is not None and sys.stderr.isatty()

    def fileno(self) -> int:
        return sys.stderr.fileno()


_STDERR = _StandardError()


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Hand every line of `say` to `listener` while the block runs."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextmanager
def track(label: str, total: int | None, *, done: int = 0, shown: bool = True) -> Iterator[Advance]:
    """Yield `advance(done, note)`, to show `done` of `total` steps; nothing is printed unless `shown`.

    `total` is None if it is unknown.
    """
    if not shown:
        yield lambda now, note: None
        return
    way = _lines
    if _listener is None:
        way = _notebook_bar if in_notebook() else _bar if _STDERR.isatty() else _lines
    with way(label, total, done) as advance:
        yield advance


class _Shortened(TextColumn):
    """A column of one line that gives way where a terminal is narrow: counts and times stay whole."""

    def __init__(self, form: str) -> None:
        super().__init__(form, table_column=Column())

    def render(self, task: Task) -> Text:
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


def in_notebook() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


@contextmanager
def _notebook_bar(label: str, total: int | None, done: int) -> Iterator[Advance]:
    """Show a widget; where the notebook lacks ipywidgets, tqdm shows text, and need not warn of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm as bar
    with bar(desc=label, total=total, initial=done) as shown:

        def advance(now: int, note: str) -> None:
            shown.set_postfix_str(note, refresh=False)
            shown.update(now - shown.n)

        yield advance


@contextmanager
def _bar(label: str, total: int | None, done: int) -> Iterator[Advance]:
    whole = Column(no_wrap=True)
    columns = (
        _Shortened("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole.copy()),
        _Shortened("{task.fields[note]}"),
    )
    with Progress(*columns, console=_console()) as progress:
        task = progress.add_task(label, total=total, completed=done, note="")
        yield lambda now, note: progress.update(task, completed=now, note=note)


@cache
def _console() -> Console:
    """Share one console: bars on two consoles would write over each other."""
    return Console(file=cast("IO[str]", _STDERR))


@contextmanager
def _lines(label: str, total: int | None, done: int) -> Iterator[Advance]:
    begun = last_shown = time.monotonic()
    before = done
    of_all = "" if total is None else f"/{total}"

    def advance(now: int, note: str) -> None:
        nonlocal last_shown, done
        done = now
        if time.monotonic() - last_shown >= SECONDS_BETWEEN_LINES or now == total:
            last_shown = time.monotonic()
            say(f"{label}: {now}{of_all} {note}".rstrip() + _time_left(last_shown - begun, now - before, total, now))

    if total is not None and done < total:
        say(f"{label}: {done}{of_all}")
    yield advance


def _time_left(seconds: float, steps: int, total: int | None, now: int) -> str:
    """Say how long the rest takes at the pace so far; nothing below a second, or without a total."""
    left = seconds / steps * (total - now) if total is not None and steps > 0 else 0.0
    return f", about {duration(left)} left" if left >= 1 else ""


@contextmanager
def kept(what: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C in the block, note what is kept, for the command's last line."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(what())
        raise


@contextmanager
def track_reading(label: str) -> Iterator[Callable[[str, int], None]]:
    """Yield `advance(place, bytes)`, to show a document of `place` as read.

    Files may be compressed, so the total is unknown.
    """
    done = 0
    with track(f"{label}, MB", None) as show:

        def advance(place: str, size: int) -> None:
            nonlocal done
            before, done = done, done + size
            if before // _MEGABYTE < done // _MEGABYTE:
                show(done // _MEGABYTE, place)

        yield advance


@contextmanager
def track_text(label: str, sizes: Mapping[str, int]) -> Iterator[Callable[[str, float], None]]:
    """Yield `advance(name, share)`, to show all text before a share of one piece as done.

    `sizes` holds the approximate bytes of each piece, in order.
    """
    before = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    last, total = 0, sum(sizes.values())
    with track(f"{label}, MB of text", math.ceil(total / _MEGABYTE)) as show:

        def advance(name: str, share: float) -> None:
            nonlocal last
            done = before[name] + min(1.0, share) * sizes[name]
            now = math.ceil(done / _MEGABYTE) if done == total else int(done // _MEGABYTE)
            if now > last:
                show(now, name)
                last = now

        yield advance


def watched(documents: Iterable[str], size: int, advance: Callable[[float], None]) -> Iterator[str]:
    """Yield documents of about `size` bytes in all; call `advance` with the share read after each."""
    done = 0
    for text in documents:
        yield text
        done += len(text.encode("utf-8", "surrogatepass"))
        advance(done / size)


@contextmanager
def silent(library: str) -> Iterator[None]:
    """Silence the loggers of a library while the block runs: its errors are raised too."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def mute() -> None:
    """Discard all output of this process and of the processes it starts.

    tqdm gets a lock of this process: Python would warn of a system lock left by a killed process.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    tqdm.set_lock(threading.RLock())
