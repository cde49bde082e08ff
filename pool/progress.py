"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere.

Answers go to stdout and are never mixed with this.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0

Advance = Callable[[int, str], None]


def say(line: str) -> None:
    """Print one plain line of progress to stderr."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def track(label: str, total: int | None, *, done: int = 0, shown: bool = True) -> Iterator[Advance]:
    """Yield `advance(done, note)`, which shows that `done` of `total` steps are finished, or nothing if not `shown`.

    Where nobody knows how many there are, `total` is None.
    """
    if not shown:
        yield lambda now, note: None
        return
    way = _bar if sys.stderr.isatty() else _lines
    with way(label, total, done) as advance:
        yield advance


@contextmanager
def _bar(label: str, total: int | None, done: int) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=_console()) as progress:
        task = progress.add_task(label, total=total, completed=done, note="")
        yield lambda now, note: progress.update(task, completed=now, note=note)


@cache
def _console() -> Console:
    """The one of all bars: two of them at a time would write over each other otherwise."""
    return Console(stderr=True)


@contextmanager
def _lines(label: str, total: int | None, done: int) -> Iterator[Advance]:
    last_shown = time.monotonic()
    of_all = "" if total is None else f"/{total}"

    def advance(now: int, note: str) -> None:
        nonlocal last_shown, done
        done = now
        if time.monotonic() - last_shown >= SECONDS_BETWEEN_LINES or now == total:
            say(f"{label}: {now}{of_all} {note}".rstrip())
            last_shown = time.monotonic()

    if total is not None and done < total:
        say(f"{label}: {done}{of_all}")
    yield advance
