"""Swarms: models trained elsewhere on many mixtures, as the weights and the metrics of every run.

Two forms are read: Olmix's (`ratios.csv` and `metrics.csv`) and RegMix's (`train_mixture_1m.csv` and
`train_pile_loss_1m.csv`, perhaps with a `test_` pair). Runs are joined by id and columns by name, never by position.
One form is written: Olmix's files with RegMix's column names (`train_NAME`, `metric/NAME_val_loss`). Readers strip a
prefix or suffix that every column has, so any name comes back.
"""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from objectives.held_out import Floats
from pool.errors import ConfigError
from pool.files.digests import digest_arrays, digest_json
from pool.files.whole import csv_text, new_folder, write_text

ID_COLUMNS = ("run_id", "run", "index", "name")
"""Columns of run ids: the first in both files joins them. None is ever a partition or a metric."""
SUM_ROUNDING = 0.01
"""How far rounded weights may be from summing to one."""

_REGMIX = re.compile(r"(?P<split>train|test)_mixture_(?P<scale>.+)\.csv")


@dataclass(frozen=True)
class SwarmTable:
    """N runs of K partitions: `weights` (N, K), rows summing to one, and `metrics` by name, each (N,), all finite.

    columns: the metrics' columns as a file names them, where they differ
    """

    runs: tuple[str, ...]
    names: tuple[str, ...]
    weights: Floats
    metrics: Mapping[str, Floats]
    columns: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        arrays = [self.weights, *self.metrics.values()]
        return digest_json([list(self.names), list(self.metrics), digest_arrays(arrays)])

    def take(self, rows: Sequence[int]) -> "SwarmTable":
        kept = list(rows)
        metrics = {name: values[kept] for name, values in self.metrics.items()}
        return replace(self, runs=tuple(self.runs[row] for row in kept), weights=self.weights[kept], metrics=metrics)


def read_swarm(source: Path, metrics: Path | None = None) -> SwarmTable:
    """Read a swarm from a folder (its training runs), or from a file of weights and a file of metrics.

    Weights are divided by their sum, not quite one after rounding. Raises `ConfigError`, naming file, run and column.
    """
    if metrics is not None:
        return _read_pair(source, metrics)
    return read_swarms(source)[0]


def read_swarms(folder: Path) -> tuple[SwarmTable, SwarmTable | None]:
    """Read the training runs of a folder, and its test runs if there are any, with columns in the same order.

    Raises `ConfigError` like `read_swarm`.
    """
    train, test = _find_pairs(folder)
    table = _read_pair(*train)
    if test is None:
        return table, None
    unseen = _read_pair(*test)
    missing = sorted({*table.names} ^ {*unseen.names}) or sorted({*table.metrics} ^ {*unseen.metrics})
    if missing:
        raise ConfigError(f"{test[0].parent}: column {missing[0]!r} is only in one of the training and the test files")
    order = [unseen.names.index(name) for name in table.names]
    ordered = {name: unseen.metrics[name] for name in table.metrics}
    return table, SwarmTable(unseen.runs, table.names, unseen.weights[:, order], ordered)


_Pair = tuple[Path, Path]


def _find_pairs(folder: Path) -> tuple[_Pair, _Pair | None]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one with ratios.csv and metrics.csv, or RegMix's tables")
    if (folder / "ratios.csv").exists() or (folder / "metrics.csv").exists():
        return (folder / "ratios.csv", folder / "metrics.csv"), None
    found = [match for path in sorted(folder.iterdir()) if (match := _REGMIX.fullmatch(path.name))]
    scales = [match["scale"] for match in found if match["split"] == "train"]
    if len(scales) != 1:
        raise ConfigError(
            f"{folder}: expected ratios.csv and metrics.csv, or one train_mixture_<scale>.csv with its "
            f"train_pile_loss_<scale>.csv: found {len(scales)} of the latter"
        )
    train, test = (
        (folder / f"{split}_mixture_{scales[0]}.csv", folder / f"{split}_pile_loss_{scales[0]}.csv")
        for split in ("train", "test")
    )
    return train, test if test[0].exists() or test[1].exists() else None


def _read_pair(weights_path: Path, metrics_path: Path) -> SwarmTable:
    weights_rows, metrics_rows = _read_rows(weights_path), _read_rows(metrics_path)
    key = _key(weights_rows, metrics_rows, weights_path, metrics_path)
    weights, metrics = _numbers(weights_rows, key, weights_path), _numbers(metrics_rows, key, metrics_path)
    _check_joined(weights, metrics, weights_path, metrics_path)
    for run, row in weights.items():
        _check_weights(run, row, weights_path)
    first_weights, first_metrics = next(iter(weights.values())), next(iter(metrics.values()))
    names = _stripped(list(first_weights), "train_", "", weights_path)
    metric_names = _stripped(list(first_metrics), "metric/", "_val_loss", metrics_path)
    table = np.array([list(row.values()) for row in weights.values()])
    columns = np.array([list(metrics[run].values()) for run in weights]).T
    return SwarmTable(
        tuple(weights),
        names,
        table / table.sum(axis=1, keepdims=True),
        dict(zip(metric_names, columns, strict=True)),
        dict(zip(metric_names, first_metrics, strict=True)),
    )


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; a swarm is a table of weights and a table of metrics") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: not a CSV file in UTF-8: {error}") from None
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise ConfigError(f"{path}: expected a line of column names and a line for each run: there are {len(rows)}")
    header = [name.strip() for name in rows[0]]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ConfigError(f"{path}: column {repeated[0]!r} comes more than once; rename or remove one")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise ConfigError(f"{path}: line {number} has {len(row)} fields where the first line has {len(header)}")
    return [dict(zip(header, row, strict=True)) for row in rows[1:]]


def _key(weights: list[dict[str, str]], metrics: list[dict[str, str]], *paths: Path) -> str:
    for name in ID_COLUMNS:
        if name in weights[0] and name in metrics[0]:
            return name
    known = ", ".join(ID_COLUMNS)
    raise ConfigError(f"{paths[0]} and {paths[1]} share no column that identifies runs; name it one of {known}")


def _numbers(rows: list[dict[str, str]], key: str, path: Path) -> dict[str, dict[str, float]]:
    columns = [name for name in rows[0] if name not in ID_COLUMNS]
    if not columns:
        raise ConfigError(f"{path}: there is no column but {key!r}; expected one for each partition or metric")
    table: dict[str, dict[str, float]] = {}
    for row in rows:
        run = row[key].strip()
        if run in table:
            raise ConfigError(f"{path}: {key} {run!r} comes more than once; every run needs its own")
        table[run] = {name: _number(row[name], f"{path}: run {run!r}, column {name!r}") for name in columns}
    return table


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(f"{where}: expected a number, got {text!r}") from None
    if not math.isfinite(number):
        raise ConfigError(f"{where}: expected a finite number, got {text!r}; remove the run from both files")
    return number


def _check_joined(
    weights: Mapping[str, object], metrics: Mapping[str, object], weights_path: Path, metrics_path: Path
) -> None:
    if not {*weights} & {*metrics}:
        run, other = next(iter(weights)), next(iter(metrics))
        raise ConfigError(f"{weights_path} and {metrics_path} have no run in common: {run!r} here, {other!r} there")
    both = (weights, weights_path), (metrics, metrics_path)
    for (rows, path), (others, other_path) in (both, both[::-1]):
        for run in rows:
            if run not in others:
                raise ConfigError(f"{other_path}: run {run!r} of {path.name} is missing; add or remove it")


def _check_weights(run: str, row: Mapping[str, float], path: Path) -> None:
    for name, weight in row.items():
        if weight < 0:
            raise ConfigError(f"{path}: run {run!r}, column {name!r}: a weight is never negative, got {weight!r}")
    total = math.fsum(row.values())
    if abs(total - 1) > SUM_ROUNDING:
        raise ConfigError(
            f"{path}: run {run!r}: the weights must sum to 1 (within {SUM_ROUNDING} for rounding): "
            f"they sum to {total:.6g}"
        )


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
