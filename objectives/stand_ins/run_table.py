"""One file of a swarm: columns of numbers by run, and the faults of other columns.

A fault is no error yet: a metric matters only to a target with the metric.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from objectives.held_out import Floats
from objectives.stand_ins.written_numbers import Cell, Column, Marks, listed, read_column, shown
from pool.errors import ConfigError
from pool.files.csv_tables import CsvTable, read_csv

ID_COLUMNS = ("run_id", "run", "index", "name")
"""Columns of run ids: the first in both files joins them. None is ever a partition or a metric."""

_ALIKE = ("runid", "run", "id", "name", "runname", "index", "")
"""Other spellings of such names, in the order of preference; the last is a first column without a name."""
_COUNTED = frozenset({"index", ""})
"""Columns with perhaps only a count of their own file's rows."""


@dataclass(frozen=True)
class RunTable:
    """N runs by id: `columns` of finite numbers, each (N,), in the file's order, and `faults` of other columns.

    lines: the first line of each run in the file.
    texts: columns of words, also among the faults.
    scales: the scale of each run, where a column names one; else empty.
    percents: columns of numbers with percent signs, divided by 100.
    """

    path: Path
    runs: tuple[str, ...]
    lines: tuple[int, ...]
    columns: Mapping[str, Floats]
    faults: Mapping[str, str]
    texts: tuple[str, ...]
    percents: tuple[str, ...]
    notes: tuple[str, ...]
    scales: tuple[str, ...] = ()

    def named_as(self, names: Mapping[str, str]) -> "RunTable":
        return replace(self, runs=tuple(names[run] for run in self.runs))

    def in_order(self, runs: Sequence[str]) -> "RunTable":
        """Return the same runs in another order."""
        places = {run: row for row, run in enumerate(self.runs)}
        rows = [places[run] for run in runs]
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(self, runs=tuple(runs), lines=tuple(self.lines[row] for row in rows), columns=columns)


def read_run_tables(weights: Path, metrics: Path, *, scale: str | None = None) -> tuple[RunTable, RunTable]:
    """Read both files, the second with the runs of the first in their order.

    With `scale`, a column of either file names the scale of each run; the first table then has them. Raises
    `ConfigError`.
    """
    one, other = (read_csv(path, lambda columns: bool(_id_columns(columns)), "run") for path in (weights, metrics))
    keys = _keys(one, other)
    scales: dict[str, str] = {}
    if scale is not None:
        one, other = _named_by_scale((one, other), keys, scale)
        scales = _scales((one, other), keys, scale)
    places = _data_columns(one, keys[0], scale, is_weights=True), _data_columns(other, keys[1], scale, is_weights=False)
    marks = _marks(one, places[0]), _marks(other, places[1])
    first = _run_table(one, keys[0], places[0], marks[0].beside(marks[1]))
    second = _run_table(other, keys[1], places[1], marks[1].beside(marks[0]))
    names = [file.columns[key] for file, key in zip((one, other), keys, strict=True)]
    if _plain_name(names[0], keys[0]) != _plain_name(names[1], keys[1]):
        second = replace(
            second, notes=(*second.notes, f"{shown(names[1])} is joined with {shown(names[0])} of {weights.name}")
        )
    return replace(first, scales=tuple(scales.values())), _joined(first, second)


def _named_by_scale(files: Sequence[CsvTable], keys: Sequence[int], column: str) -> list[CsvTable]:
    """Put the scale before the name of a run, where both files name scales and runs of two scales share a name."""
    if not all(column in file.columns for file in files):
        return list(files)
    if all(
        len({row.fields[key] for row in file.rows}) == len(file.rows) for file, key in zip(files, keys, strict=True)
    ):
        return list(files)
    named = []
    for file, key in zip(files, keys, strict=True):
        at, rows = file.columns.index(column), []
        for row in file.rows:
            name = f"{row.fields[at]}/{row.fields[key]}"
            rows.append(row._replace(fields=(*row.fields[:key], name, *row.fields[key + 1 :])))
        named.append(replace(file, rows=tuple(rows)))
    return named


def _scales(files: Sequence[CsvTable], keys: Sequence[int], column: str) -> dict[str, str]:
    """Return the scale of every run, in the order of the first file. Raises `ConfigError`."""
    found: dict[str, str] = {}
    for file, key in zip(files, keys, strict=True):
        for row in file.rows if column in file.columns else ():
            run, scale = row.fields[key], row.fields[file.columns.index(column)]
            if not scale:
                raise ConfigError(f"{file.path}: line {row.line}, run {shown(run)}: column {shown(column)} is empty")
            if found.setdefault(run, scale) != scale:
                raise ConfigError(
                    f"{file.path}: line {row.line}: run {shown(run)} is of {shown(column)} {shown(scale)} here, and of "
                    f"{shown(found[run])} elsewhere; give the runs of two scales other names, or both files the column"
                )
    if not found:
        raise ConfigError(
            f"[scales] column {shown(column)} is neither in {files[0].path} (it has {listed(files[0].columns)}) nor in "
            f"{files[1].path.name} ({listed(files[1].columns)})"
        )
    return {run: found.get(run, "") for run in (row.fields[keys[0]] for row in files[0].rows)}


def _id_columns(columns: Sequence[str]) -> dict[str, int]:
    """Return the places of possible columns of ids, by their plain name, the preferred first."""
    plain = [_plain_name(name, at) for at, name in enumerate(columns)]
    return {name: plain.index(name) for name in _ALIKE if name in plain}


def _plain_name(name: str, at: int) -> str | None:
    """Return a name in small letters alone; "" for a first column without a name, as pandas writes an index."""
    if not _named(name):
        return "" if at == 0 else None
    return re.sub("[^a-z0-9]", "", name.lower()) or None


def _keys(weights: CsvTable, metrics: CsvTable) -> tuple[int, int]:
    """Return the place of the run ids in each file: by the exact names, then by like ones, names before counts."""
    exact = [name for name in ID_COLUMNS if name in weights.columns and name in metrics.columns]
    one, other = _id_columns(weights.columns), _id_columns(metrics.columns)
    like = [(name, name) for name in one if name in other]
    runs = [pair for pair in like if pair[0].startswith("run")]
    named = [(name, another) for name in one for another in other if not {name, another} & _COUNTED]
    if exact and not (runs and exact[0] in ("index", "name")):
        return weights.columns.index(exact[0]), metrics.columns.index(exact[0])
    for first, second in (*runs, *like, *named):
        return one[first], other[second]
    found = [
        f"{file.path.name} has {listed([file.columns[at] for at in ids.values()] or file.columns)}"
        for file, ids in ((weights, one), (metrics, other))
    ]
    raise ConfigError(
        f"{weights.path} and {metrics.path} share no column that identifies runs; name it one of "
        f"{', '.join(ID_COLUMNS)} in both ({'; '.join(found)})"
    )


def _data_columns(file: CsvTable, key: int, scale: str | None, *, is_weights: bool) -> list[int]:
    """Return the places of partitions or metrics; a column of scales is neither."""
    names = file.columns
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        places = " and ".join(str(at + 1) for at, name in enumerate(names) if name == repeated[0])
        raise ConfigError(
            f"{file.path}: column {shown(repeated[0])} comes more than once, as columns {places}; rename or remove one"
        )
    data: list[int] = []
    for at, name in enumerate(names):
        is_index = at == 0 and (not name or (is_weights and _plain_name(name, at) == ""))
        is_empty = not name and not any(row.fields[at] for row in file.rows)
        if at == key or name in ID_COLUMNS or is_index or is_empty or (name and name == scale):
            continue
        if not name:
            raise ConfigError(f"{file.path}: column {at + 1} has no name; name or remove it")
        data.append(at)
    if not data:
        key_name = names[key] or "that of the runs"
        raise ConfigError(
            f"{file.path}: there is no column but {shown(key_name)}; expected one for each partition or metric"
        )
    return data


def _marks(file: CsvTable, places: Sequence[int]) -> Marks:
    return Marks.of(row.fields[at] for row in file.rows for at in places)


def _run_table(file: CsvTable, key: int, places: Sequence[int], marks: Marks) -> RunTable:
    lines = _lines(file, key)
    found = {file.columns[at]: _column(file, key, at, marks) for at in places}
    columns = {name: column.numbers for name, column in found.items() if not column.fault}
    faults = {name: f"{file.path}: {column.fault}" for name, column in found.items() if column.fault}
    texts = tuple(name for name, column in found.items() if column.is_text)
    percents = tuple(name for name, column in found.items() if column.is_percent)
    notes = [*file.notes, *(["decimal commas"] if marks.commas else [])]
    if not _named(file.columns[key]):
        notes.append("the first column has no name: taken for the runs")
    elif not _named(file.columns[0]) and 0 not in places:
        notes.append("the first column has no name: left out")
    return RunTable(file.path, tuple(lines), tuple(lines.values()), columns, faults, texts, percents, tuple(notes))


def _named(name: str) -> bool:
    """Tell whether a column has a name of its own; pandas reads one without a name as `Unnamed: 0`."""
    return re.fullmatch(r"(Unnamed: ?\d+)?", name) is None


def _lines(file: CsvTable, key: int) -> dict[str, int]:
    """Return the line of every run. Raises `ConfigError` for a repeated run."""
    lines: dict[str, int] = {}
    for row in file.rows:
        run = row.fields[key]
        if run in lines:
            raise ConfigError(
                f"{file.path}: {file.columns[key] or 'run'} {shown(run)} comes more than once, in lines {lines[run]} "
                f"and {row.line}; every run needs its own"
            )
        lines[run] = row.line
    return lines


def _column(file: CsvTable, key: int, at: int, marks: Marks) -> Column:
    cells = [Cell(row.line, row.fields[key], row.fields[at]) for row in file.rows]
    return read_column(file.columns[at], cells, marks)


def _joined(weights: RunTable, metrics: RunTable) -> RunTable:
    """Return the metrics with the runs of the weights in their order. Raises `ConfigError` for a run in one alone."""
    if {*weights.runs} != {*metrics.runs}:
        metrics = metrics.named_as(_same_numbers(weights.runs, metrics.runs))
    if not {*weights.runs} & {*metrics.runs}:
        raise ConfigError(
            f"{weights.path} and {metrics.path} have no run in common: {shown(weights.runs[0])} here, "
            f"{shown(metrics.runs[0])} there; runs are joined by their names"
        )
    for one, other in ((weights, metrics), (metrics, weights)):
        known = {*other.runs}
        gone = [run for run in one.runs if run not in known]
        if gone:
            line = one.lines[one.runs.index(gone[0])]
            more = f" (and {len(gone) - 1} more, {listed(gone[1:])})" if gone[1:] else ""
            raise ConfigError(
                f"{other.path}: run {shown(gone[0])} of {one.path.name} is missing{more}; add it, or remove line "
                f"{line} of {one.path.name}"
            )
    return metrics.in_order(weights.runs)


def _same_numbers(known: Sequence[str], runs: Sequence[str]) -> dict[str, str]:
    """Return for each run its known name: ids may be 0 in one file, and 0.0 or 00 in the other."""
    by_number = {_number(run): run for run in known}
    numbers = [_number(run) for run in runs]
    if len(by_number) < len(known) or len({*numbers}) < len(runs):
        return {run: run for run in runs}
    return {run: by_number.get(number, run) for run, number in zip(runs, numbers, strict=True)}


def _number(run: str) -> str:
    found = re.fullmatch(r"0*(\d+?)([.,](0|00|0000+))?", run)  # 1,000 may be a thousand
    return found[1] if found else run
