"""The terminal: tables and JSON going out, mixtures and numbers coming in, quiet libraries. A notebook gets HTML."""

import copy
import io
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from pool.errors import ConfigError
from pool.files.streams import answer_written, plain
from pool.progress import duration, say, size

if TYPE_CHECKING:
    from pool.building.training.costs import Costs, Seconds
    from pool.mixture import Mixture


@runtime_checkable
class HasJson(Protocol):
    def as_json(self) -> object: ...


class _Answers(Console):
    """Standard output for people: a character that the stream lacks is replaced before the layout counts widths."""

    def render_str(self, text: str, *options: Any, **named: Any) -> Text:
        return super().render_str(plain(text, self.encoding), *options, **named)

    def print(self, *objects: Any, **named: Any) -> None:
        """Print and flush; a table too wide for the terminal in parts. Raises `OutputError`."""
        is_table = len(objects) == 1 and isinstance(objects[0], Table)
        parts = _that_fit(self, objects[0]) if is_table else [objects]
        how: dict[str, Any] = {**named, "crop": False} if is_table else named
        with answer_written():
            for part in parts:
                super().print(*part, **how)

    def on_broken_pipe(self) -> None:
        """Raise the error at hand again: Rich would end the process without a word."""
        raise BrokenPipeError


_BOUNDLESS = 10_000


def _that_fit(console: Console, table: Table) -> list[tuple[Table]]:
    """Divide a table into parts as wide as the terminal at most, each with the first column; no word is broken."""
    boundless = console.options.update(max_width=_BOUNDLESS)
    if Measurement.get(console, boundless, table).maximum <= console.width:
        return [(table,)]
    first, *others = (_unbroken(console, column) for column in table.columns)
    parts = [[first]]
    for column in others:
        wider = _with_columns(table, [*parts[-1], column])
        if len(parts[-1]) > 1 and Measurement.get(console, boundless, wider).minimum > console.width:
            parts.append([first])
        parts[-1].append(column)
    return [(_with_columns(table, part, titled=part is parts[0]),) for part in parts]


def _unbroken(console: Console, column: Column) -> Column:
    """Copy a column that is never narrower than its longest word."""
    copied, texts = copy.copy(column), (column.header, *column.cells, column.footer)
    copied.min_width = max(Measurement.get(console, console.options, text).minimum for text in texts)
    return copied


def _with_columns(table: Table, columns: list[Column], *, titled: bool = True) -> Table:
    part = copy.copy(table)
    part.columns = columns
    part.title = table.title if titled else None
    return part


def console() -> Console:
    """Make the console of answers: as wide as the terminal, or fixed without one."""
    wide = None if sys.stdout.isatty() else 120
    return _Answers(width=wide, highlight=False, markup=False)


def as_html(show: Callable[[Console], None]) -> str:
    """Return for a notebook what `show` prints to a console."""
    page = Console(
        record=True, file=io.StringIO(), width=120, highlight=False, markup=False, force_jupyter=False, no_color=True
    )
    show(page)
    return page.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def plain_table(*headings: str, left: int = 1) -> Table:
    """Make a table for people: the first `left` columns hold text, the others right-aligned numbers."""
    table = Table()
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < left else "right")
    return table


def digits(value: float | None, form: str) -> str:
    """Write a number for people; one that is not defined or not finite as `-`."""
    return "-" if value is None or not math.isfinite(value) else f"{value:{form}}"


def print_costs(costs: "Costs", *, as_json: bool) -> None:
    """Print what a command would cost, and refuse where memory or disk will not do. Raises `PoolError`."""
    if as_json:
        print_json(costs)
    else:
        show_costs(console(), costs)
    costs.check_room()


def show_costs(console: Console, costs: "Costs") -> None:
    """Show costs to people; figures that are zero are left out."""
    console.print(f"The costs of {costs.what}; nothing was done")
    table = plain_table("", "", left=2)
    here = ", ".join(f"{name} ({count})" for name, count in costs.remembered.items() if count)
    memory, more = costs.memory_bytes, costs.more_memory_bytes
    besides = f", and {size(costs.passing_bytes)} more while it runs" if costs.passing_bytes else ""
    rows = {
        "runs to be trained": f"{costs.runs:,}" if costs.runs else "",
        "tokens to train on": f"{costs.train_tokens:,}" if costs.runs else "",
        "merges to be made": f"{costs.merges:,}" if costs.merges else "",
        "held-out tokens to score": f"{costs.scored_tokens:,}" if costs.scored_tokens else "",
        "forward-equivalents": f"{costs.forwards:,}" if costs.forwards else "",
        **{f"time: {name}": _time_span(seconds) for name, seconds in costs.parts.items()},
        "time in all": _time_span(costs.seconds),
        "peak memory": size(memory) + (f", and {size(more)} in other processes" if more else ""),
        "disk": size(costs.disk_bytes) + besides,
        "remembered already": here or "nothing",
    }
    for name, shown in rows.items():
        if shown:
            table.add_row(name, shown)
    console.print(table)
    for note in costs.notes:
        console.print(note)


def print_next(command: str, what: str) -> None:
    """End an answer for people with the next command, and what it does."""
    console().print(f"next: {command}  # {what}", soft_wrap=True)


def _time_span(seconds: "Seconds") -> str:
    low, high = duration(seconds.low), duration(seconds.high)
    return duration(seconds.likely) + (f" ({low} to {high})" if low != high else "")


def since_start() -> float:
    """Return the seconds since this process began: a command's imports and checks, when called behind them."""
    import psutil

    return time.time() - float(psutil.Process().create_time())


def print_json(value: object) -> None:
    """Print one JSON object to stdout. Raises `OutputError`."""
    with answer_written():
        print(json_text(value))


def json_text(value: object) -> str:
    """Dump a value, indented; NaN and infinities, which JSON lacks, become null.

    An answer is dumped by its `as_json`, another dataclass as an object of its fields.
    """
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def named_weights(text: str, names: Sequence[str], *, option: str) -> "Mixture":
    """Read `a=0.5,b=0.5` as a mixture over `names`. Raises `ConfigError` with the part at fault."""
    from pool.mixture import published  # NumPy would slow `--help` down

    weights: dict[str, float] = {}
    for part in _parts(text, names):
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        try:
            weight = float(number)
        except ValueError:
            equals = ""
        if not equals or name in weights:
            raise ConfigError(f"{option}: expected PARTITION=WEIGHT once for each, got {part!r}")
        if name not in names:
            raise ConfigError(f"{option}: {name!r} is no partition of the pool; it has {', '.join(names)}")
        weights[name] = weight
    try:
        mixture, note = published(weights)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None
    if note:
        say(f"{option}: {note}")
    return mixture.over(names)


def _parts(text: str, names: Sequence[str]) -> list[str]:
    """Split at commas; a comma within a partition's name does not split."""
    with_comma = [name for name in names if "," in name]
    longest_first = "|".join(re.escape(name) for name in sorted(with_comma, key=len, reverse=True))
    return re.findall(rf"(?:{longest_first}|[^,])+", text) if with_comma else text.split(",")


def parse_numbers(option: str, text: str, what: str, *, least: int) -> list[int]:
    """Read `8,32,128` without repetitions. Raises `ConfigError` with the part at fault."""
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < least:
            raise ConfigError(f"{option}: {part!r} is no number of {what}, which is {least} or more")
    return list(dict.fromkeys(map(int, text.split(","))))


def parse_partitions(text: str) -> list[int]:
    """Read the numbers of partitions of formulas; an optimum on a face needs three."""
    return parse_numbers("--partitions", text, "partitions", least=3)


_loud = False


@contextmanager
def loud_libraries() -> Iterator[None]:
    """Let `quiet_libraries` leave the messages and bars of libraries alone while the block runs."""
    global _loud
    _loud = True
    try:
        yield
    finally:
        _loud = False


def quiet_libraries() -> None:
    """Keep libraries, Optuna too, from printing over the progress, from looking for a network, and from telemetry."""
    quiet_models()
    if _loud:
        return
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)


def quiet_models() -> None:
    """Keep the libraries of models and text quiet, and import none of them.

    matplotlib tells of every cache folder that it cannot write, and makes one for itself.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", os.environ["HF_HUB_OFFLINE"])
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if _loud:
        return
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    for variable in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    _quiet_loaded()


def _quiet_loaded() -> None:
    """Quiet what was imported earlier, and no longer heeds the environment."""
    if (datasets := sys.modules.get("datasets")) is not None:
        datasets.disable_progress_bars()
    if (transformers := sys.modules.get("transformers")) is not None:
        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, HasJson):
        return _finite(value.as_json())
    if is_dataclass(value) and not isinstance(value, type):
        return _finite(asdict(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(part) for part in value]
    return value
