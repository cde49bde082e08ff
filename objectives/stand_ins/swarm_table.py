"""Swarms: models trained elsewhere on many mixtures, as the weights and the metrics of every run.

Two forms are read: Olmix's (`ratios.csv` and `metrics.csv`) and RegMix's (`train_mixture_1m.csv` and
`train_pile_loss_1m.csv`, perhaps with a `test_` pair). Runs are joined by id and columns by name, never by position.
One form is written: Olmix's files with RegMix's column names (`train_NAME`, `metric/NAME_val_loss`). Readers strip a
prefix or suffix that every column has, so any name comes back.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from objectives.held_out import Floats
from objectives.stand_ins.run_table import RunTable, read_run_tables
from objectives.stand_ins.written_numbers import MOST_NAMED, listed, shown
from pool.errors import ConfigError
from pool.files.digests import digest_arrays, digest_json
from pool.files.whole import csv_text, new_folder, write_text
from pool.mixture import DUST
from pool.progress import say

SUM_ROUNDING = 0.01
"""How far rounded weights may be from summing to one."""
SAID_ABOVE = 1e-5
"""How far they may be without a word."""

_REGMIX = re.compile(r"(?P<split>train|test)_mixture_(?P<scale>.+)\.csv")


@dataclass(frozen=True)
class SwarmTable:
    """N runs of K partitions: `weights` (N, K), rows summing to one, and `metrics` by name, each (N,), all finite.

    columns: the metrics' columns as a file names them, where they differ
    unusable: the other metrics by name, with the reason in words; `check_metrics` raises it.
    notes: a line for each file with anything but plain CSV of shares.
    scales: the scale of each run, where a column names one; else empty.
    """

    runs: tuple[str, ...]
    names: tuple[str, ...]
    weights: Floats
    metrics: Mapping[str, Floats]
    columns: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        arrays = [self.weights, *self.metrics.values()]
        return digest_json([list(self.names), list(self.metrics), digest_arrays(arrays)])

    def take(self, rows: Sequence[int]) -> "SwarmTable":
        kept = list(rows)
        metrics = {name: values[kept] for name, values in self.metrics.items()}
        runs = tuple(self.runs[row] for row in kept)
        scales = tuple(self.scales[row] for row in kept) if self.scales else ()
        return replace(self, runs=runs, weights=self.weights[kept], metrics=metrics, scales=scales)

    def check_metrics(self, names: Iterable[str]) -> None:
        """Raise `ConfigError` for a metric without a finite number for every run."""
        for name in names:
            if name in self.unusable:
                raise ConfigError(self.unusable[name])


def say_notes(*tables: SwarmTable | None) -> None:
    """Print the notes of tables to stderr, each once."""
    for note in dict.fromkeys(note for table in tables if table is not None for note in table.notes):
        say(note)


def read_swarm(source: Path, metrics: Path | None = None, *, normalise: bool = False) -> SwarmTable:
    """Read a swarm from a folder (its training runs), or from a file of weights and a file of metrics.

    Raises `ConfigError`, naming file, line, run and column.
    """
    if metrics is not None:
        return _read_pair(source, metrics, normalise=normalise)
    return read_swarms(source, normalise=normalise)[0]


def read_swarms(
    folder: Path, *, normalise: bool = False, column: str | None = None, scale: str | None = None
) -> tuple[SwarmTable, SwarmTable | None]:
    """Read the training runs of a folder, and its test runs if there are any, with columns in the same order.

    Weights are divided by their sum: nearly 1, or nearly 100 in percent, or any sum above 0 to `normalise`. `column`
    names the scales of runs; `scale` is that in the names of RegMix's files. Raises `ConfigError` like `read_swarm`.
    """
    train, test = _find_pairs(folder, scale)
    table = _read_pair(*train, normalise=normalise, column=column)
    if test is None:
        return table, None
    unseen = _read_pair(*test, normalise=normalise, column=column)
    metrics, others = ({*one.metrics, *one.unusable} for one in (table, unseen))
    missing = sorted({*table.names} ^ {*unseen.names}) or sorted(metrics ^ others)
    if missing:
        raise ConfigError(
            f"{test[0].parent}: column {shown(missing[0])} is only in one of the training and the test files"
        )
    order = [unseen.names.index(name) for name in table.names]
    unusable = {**unseen.unusable, **table.unusable}
    usable = [name for name in table.metrics if name not in unusable]
    train_metrics, test_metrics = ({name: one.metrics[name] for name in usable} for one in (table, unseen))
    ordered = replace(unseen, names=table.names, weights=unseen.weights[:, order], metrics=test_metrics)
    return replace(table, metrics=train_metrics, unusable=unusable), replace(ordered, unusable=unusable)


_Pair = tuple[Path, Path]


def check_there(folder: Path) -> None:
    """Raise `ConfigError` unless the folder has the files of a table, by their names."""
    _find_pairs(folder)


def scales_in(folder: Path) -> list[str]:
    """List the scales in the names of RegMix's files."""
    found = (_REGMIX.fullmatch(path.name) for path in sorted(folder.glob("*.csv")))
    return [match["scale"] for match in found if match and match["split"] == "train"]


def _find_pairs(folder: Path, scale: str | None = None) -> tuple[_Pair, _Pair | None]:
    if folder.is_file():
        raise ConfigError(f"{folder}: a file; give its folder, with ratios.csv and metrics.csv, or RegMix's tables")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one with ratios.csv and metrics.csv, or RegMix's tables")
    ratios, metrics = (_beside(folder, stem) for stem in ("ratios", "metrics"))
    if ratios.exists() or metrics.exists():
        return (ratios, metrics), None
    tables = sorted(path.name for path in folder.glob("*.[ct]sv"))
    scales = [one for one in scales_in(folder) if scale in (None, one)]
    if len(scales) != 1:
        raise ConfigError(
            f"{folder}: expected ratios.csv and metrics.csv, or one train_mixture_<scale>.csv with its "
            f"train_pile_loss_<scale>.csv: found {len(scales)} of the latter; the folder has "
            f"{listed(tables) if tables else 'no table'}{'; with a section [scales] all are read' if scales else ''}"
        )
    train, test = (
        (folder / f"{split}_mixture_{scales[0]}.csv", folder / f"{split}_pile_loss_{scales[0]}.csv")
        for split in ("train", "test")
    )
    return train, test if test[0].exists() or test[1].exists() else None


def _beside(folder: Path, stem: str) -> Path:
    paths = [folder / f"{stem}{ending}" for ending in (".csv", ".tsv", ".txt")]
    return next((path for path in paths if path.exists()), paths[0])


def _read_pair(weights_path: Path, metrics_path: Path, *, normalise: bool, column: str | None = None) -> SwarmTable:
    weights, metrics = read_run_tables(weights_path, metrics_path, scale=column)
    if not metrics.columns:
        raise ConfigError(next(iter(metrics.faults.values())))
    shares, how = _shares(weights, normalise=normalise)
    names = _stripped(list(weights.columns), "train_", "", weights_path)
    every = [name for name in [*metrics.columns, *metrics.faults] if name not in metrics.texts]
    own = dict(zip(every, _stripped(every, "metric/", "_val_loss", metrics_path), strict=True))
    notes = {weights.path: [*weights.notes, *how], metrics.path: [*metrics.notes, *_left_out(metrics)]}
    values = np.ascontiguousarray(np.array(list(metrics.columns.values())).T)
    columns = {own[name]: name for name in metrics.columns}
    faults = {own.get(name, name): fault for name, fault in metrics.faults.items()}
    return SwarmTable(
        weights.runs,
        names,
        shares,
        dict(zip(columns, values.T, strict=True)),
        columns,
        {name: fault for name, fault in faults.items() if name not in columns},
        tuple(f"{path}: {'; '.join(some)}" for path, some in notes.items() if some),
        weights.scales,
    )


def _shares(file: RunTable, *, normalise: bool) -> tuple[Floats, list[str]]:
    """Return the weights (N, K), each row divided by its sum, and notes. Raises `ConfigError`."""
    faults = [fault for name, fault in file.faults.items() if name not in file.texts or not file.columns]
    if faults:
        raise ConfigError(faults[0])
    weights = np.ascontiguousarray(np.array(list(file.columns.values())).T)
    totals = np.array([math.fsum(row) for row in weights])
    unit = 100.0 if (abs(totals / 100 - 1) <= SUM_ROUNDING).all() else 1.0
    weights = np.where((weights < 0) & (weights >= -DUST * unit), 0.0, weights)
    for row, column in np.argwhere(weights < 0)[:1]:
        where = f"{_place(file, row)}, column {shown(list(file.columns)[column])}"
        raise ConfigError(f"{where}: a weight is never negative, got {float(weights[row, column])!r}; write 0 for none")
    off = abs(totals / unit - 1)
    for row in np.flatnonzero((totals <= 0) if normalise else (off > SUM_ROUNDING))[:1]:
        raise ConfigError(
            f"{_place(file, row)}: the weights must sum to 1 (within {SUM_ROUNDING} for rounding), or to 100 as "
            f"percent: they sum to {totals[row]:.6g}; {_way_out(file, weights, totals)}"
        )
    notes = ["weights are percent: divided by 100"] if unit > 1 or file.percents else []
    if off.max() > SAID_ABOVE:
        least, most = totals.min() / unit, totals.max() / unit
        sums = f"{least:.4g}" if f"{least:.4g}" == f"{most:.4g}" else f"{least:.4g} to {most:.4g}"
        notes.append(f"weights sum to {sums}: divided by their sums")
    return weights / weights.sum(axis=1, keepdims=True), [*notes, *_texts(file)]


def _place(file: RunTable, row: int) -> str:
    return f"{file.path}: line {file.lines[row]}, run {shown(file.runs[row])}"


def _way_out(file: RunTable, weights: Floats, totals: Floats) -> str:
    """Name a column too many, or the key for any sum."""
    for name, column in zip(file.columns, weights.T, strict=True):
        if (abs(totals - column - 1) <= SUM_ROUNDING).all():
            return f"without column {shown(name)} they sum to 1: remove the column if it is no partition"
    if totals.min() <= 0:
        return "give the run a weight, or remove it from both files"
    return "divide each run's weights by their sum, or set normalise = true in the study file"


def _left_out(file: RunTable) -> list[str]:
    """Word the columns left out; a study with one of them as target is told more."""
    notes = [f"column {shown(name)} is percent: divided by 100" for name in file.percents]
    faulty = [name for name in file.faults if name not in file.texts]
    few = [f"metric {shown(name)} lacks a number for some runs: left out" for name in faulty[:MOST_NAMED]]
    more = [f"so do {len(faulty) - MOST_NAMED} more metrics"] if len(faulty) > MOST_NAMED else []
    return [*notes, *few, *more, *_texts(file)]


def _texts(file: RunTable) -> list[str]:
    return [f"text is left out: {listed(file.texts)}"] if file.texts else []


def _stripped(columns: Sequence[str], prefix: str, suffix: str, path: Path) -> tuple[str, ...]:
    """Strip a prefix and a suffix, each if every column has it."""
    before = prefix if all(name.startswith(prefix) for name in columns) else ""
    after = suffix if suffix and all(name.endswith(suffix) for name in columns) else ""
    names = tuple(name.removeprefix(before).removesuffix(after) for name in columns)
    if "" in names:
        raise ConfigError(f"{path}: a column has no name of its own beside {prefix!r} and {suffix!r}; name it")
    return names


def write_swarm(table: SwarmTable, folder: Path) -> None:
    """Write both files into a new folder, whole or not at all; numbers are written in full."""
    weights = [f"train_{name}" for name in table.names]
    metrics = [f"metric/{name}_val_loss" for name in table.metrics]
    columns = zip(*(values.tolist() for values in table.metrics.values()), strict=True)
    with new_folder(folder) as new:
        write_text(new / "ratios.csv", _csv(weights, table.runs, table.weights.tolist()))
        write_text(new / "metrics.csv", _csv(metrics, table.runs, columns))


def _csv(columns: Sequence[str], runs: Sequence[str], rows: Iterable[Sequence[float]]) -> str:
    return csv_text(["run", *columns], ([run, *row] for run, row in zip(runs, rows, strict=True)))
