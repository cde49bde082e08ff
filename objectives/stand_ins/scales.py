"""Tables at several scales: equal mixtures trained as small and as large models, and the scale to predict.

A column names the scale of each run, or every scale has a folder, or RegMix's files name it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import model_validator

from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable, check_there, read_swarms, scales_in
from objectives.stand_ins.written_numbers import shown
from pool.errors import ConfigError
from pool.files.toml import Config

SAME = 1e-6
"""Largest difference of a weight between two runs of one mixture."""
MOST_LISTED = 6
"""Most scales in a message."""


class ScalesConfig(Config):
    """On a table with runs at several scales, as of models of 70M and 410M parameters: the scale to predict. Every
    value, interval and distance is then of that scale, learnt from its own runs and from those of the other scales.
    """

    target: str
    """The scale to predict, by its name in the table."""
    column: str | None = None
    """The column that names the scale of each run, in ratios.csv, in metrics.csv or in both. Left out: every scale has
    a folder of its own within `table`, or RegMix's train_mixture_<scale>.csv."""
    tables: dict[str, Path] = {}
    """Scale -> its folder within `table`; left out, every folder there with a table is a scale, by its name."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.column is not None and self.tables:
            raise ValueError("a scale is named by `column` or has a folder in [scales.tables]: keep one of the two")
        if self.tables and self.target not in self.tables:
            raise ValueError(f"target {self.target!r} is none of [scales.tables]: {', '.join(self.tables)}")
        if len(self.tables) == 1:
            raise ValueError("[scales.tables] has one scale alone: give the folders of others, or leave [scales] out")
        return self


@dataclass(frozen=True)
class ScaledTables:
    """The runs by scale, with equal partitions in equal order: `target`, its `unseen` runs if any, and the `others`."""

    scale: str
    target: SwarmTable
    unseen: SwarmTable | None
    others: Mapping[str, SwarmTable]


def read_scales(folder: Path, scales: ScalesConfig, *, normalise: bool = False) -> ScaledTables:
    """Read the runs of every scale.

    A metric without numbers at one scale is unusable at all. Raises `ConfigError` for an unknown target, one scale
    alone, other partitions and two runs of one mixture at one scale.
    """
    read = _by_column if scales.column is not None else _by_folder
    found, unseen = read(folder, scales, normalise=normalise)
    tables = {name: found[name] for name in sorted(found, key=_size)}
    if scales.target not in tables:
        some = [f"{shown(name)} ({len(table.runs)} runs)" for name, table in tables.items()]
        runs = ", ".join(some[:MOST_LISTED]) + (f" and {len(some) - MOST_LISTED} more" if some[MOST_LISTED:] else "")
        raise ConfigError(
            f"[scales] target {scales.target!r}: {folder} has no run of that scale, but {runs}; give one of these"
        )
    if len(tables) == 1:
        raise ConfigError(
            f"[scales]: {folder} has the scale {scales.target!r} alone, and learning from smaller models takes "
            "another; leave [scales] out"
        )
    aligned = _aligned(tables, scales.target)
    for name, table in aligned.items():
        _check_mixtures(folder, name, table)
    target = aligned.pop(scales.target)
    tested = _ordered(unseen, target) if unseen is not None and len(unseen.runs) else None
    return ScaledTables(scales.target, target, tested, aligned)


def check_scales_there(folder: Path, scales: ScalesConfig | None) -> None:
    """Raise `ConfigError` unless the folder has the files of a table, or of tables by scale, by their names."""
    if scales is None or scales.column is not None:
        check_there(folder)
    else:
        for place in _folders(folder, scales).values():
            check_there(place)


def row_of(mixture: Floats, weights: Floats) -> int | None:
    """Return the row of runs (N, K) with a mixture (K,); None if no run has the mixture."""
    rows = np.flatnonzero(np.abs(weights - mixture).max(axis=1) <= SAME)
    return int(rows[0]) if len(rows) else None


def _size(name: str) -> tuple[float, str]:
    """Return a key by which 70M comes before 160M, and both before 1B."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*([kmbt]?)", name.lower())
    return (float(found[1]) * 1000.0 ** " kmbt".index(found[2] or " ") if found else float("inf")), name


_Read = tuple[dict[str, SwarmTable], SwarmTable | None]


def _by_column(folder: Path, scales: ScalesConfig, *, normalise: bool) -> _Read:
    table, unseen = read_swarms(folder, normalise=normalise, column=scales.column)
    tested = unseen and _of_scale(unseen, scales.target)
    return {name: _of_scale(table, name) for name in dict.fromkeys(table.scales)}, tested


def _of_scale(table: SwarmTable, scale: str) -> SwarmTable:
    return table.take([row for row, one in enumerate(table.scales) if one == scale])


def _by_folder(folder: Path, scales: ScalesConfig, *, normalise: bool) -> _Read:
    folders = _folders(folder, scales)
    if folders:
        read = {name: read_swarms(place, normalise=normalise) for name, place in folders.items()}
    else:
        read = {name: read_swarms(folder, normalise=normalise, scale=name) for name in scales_in(folder)}
    return {name: table for name, (table, _) in read.items()}, read.get(scales.target, (None, None))[1]


def _folders(folder: Path, scales: ScalesConfig) -> dict[str, Path]:
    """Return the folders of scales by name; none where RegMix's files name them."""
    if scales.tables:
        return {name: folder / place for name, place in scales.tables.items()}
    if not folder.is_dir():
        check_there(folder)
    if scales_in(folder):
        return {}
    found = {place.name: place for place in sorted(folder.iterdir()) if any(place.glob("*.[ct]sv"))}
    if not found:
        raise ConfigError(
            f"[scales]: {folder} has no folder with a table; name the scales by `column`, or give their folders as "
            "[scales.tables]"
        )
    return found


def _aligned(tables: Mapping[str, SwarmTable], target: str) -> dict[str, SwarmTable]:
    """Order partitions as at the target, and keep the metrics that every scale has."""
    unusable = {metric: fault for table in tables.values() for metric, fault in table.unusable.items()}
    for name, table in tables.items():
        for other, another in tables.items():
            for metric in table.metrics:
                if metric not in another.metrics and metric not in unusable:
                    unusable[metric] = f"the metric {metric!r} is at scale {name}, and not at {other}; add it there"
    found = {name: _ordered(table, tables[target], name, target) for name, table in tables.items()}
    kept = [metric for metric in tables[target].metrics if metric not in unusable]
    return {
        name: replace(table, metrics={metric: table.metrics[metric] for metric in kept}, unusable=unusable)
        for name, table in found.items()
    }


def _ordered(table: SwarmTable, like: SwarmTable, name: str = "", target: str = "") -> SwarmTable:
    for partition in sorted({*table.names} ^ {*like.names}):
        here, there = (name, target) if partition in table.names else (target, name)
        raise ConfigError(
            f"[scales]: the partition {shown(partition)} is at scale {here}, and not at {there}; scales are compared "
            "over equal partitions: give it there, with 0 where it was not used"
        )
    order = [table.names.index(partition) for partition in like.names]
    return replace(table, names=like.names, weights=table.weights[:, order])


def _check_mixtures(folder: Path, scale: str, table: SwarmTable) -> None:
    for row, mixture in enumerate(table.weights):
        first = row_of(mixture, table.weights)
        if first != row:
            assert first is not None, "a run has its own mixture"
            raise ConfigError(
                f"{folder}: scale {scale}: runs {shown(table.runs[first])} and {shown(table.runs[row])} have the same "
                "mixture, and scales are joined by mixtures; keep one of them, or one with their mean"
            )
