"""The runs behind a study on a swarm: diverged runs are left out, and the others must teach something."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from objectives.stand_ins.diverged import Diverged, diverged_runs
from objectives.stand_ins.scales import ScaledTables, read_scales
from objectives.stand_ins.swarm_table import SwarmTable, read_swarms
from objectives.target import Goal
from pool.errors import ConfigError
from studies.study_file.study_file import StudyFile

LEAST_RUNS = 8
"""Fewer trained models are too few to choose a family and to calibrate."""
LEAST_AT_TARGET = 2
"""Fewer runs at the target of [scales] leave none to judge the other scales by."""


@dataclass(frozen=True)
class LearntRuns:
    """The runs to fit, the unseen runs to test on, if any, and the runs left out of the former as far outside.

    others: with [scales], the runs of the other scales that have enough.
    notes: a line for each scale with too few.
    """

    table: SwarmTable
    unseen: SwarmTable | None
    diverged: Sequence[Diverged]
    others: Mapping[str, SwarmTable] = field(default_factory=dict)
    notes: Sequence[str] = ()


def read_tables(config: StudyFile) -> ScaledTables:
    """Read the table of a study; without [scales] there is one scale, without a name. Raises `ConfigError`."""
    assert config.table is not None, "asked of a study on a table"
    if config.scales is not None:
        return read_scales(config.table, config.scales, normalise=config.normalise)
    table, unseen = read_swarms(config.table, normalise=config.normalise)
    return ScaledTables("", table, unseen, {})


def learnt_runs(config: StudyFile, table: SwarmTable, unseen: SwarmTable | None, goal: Goal) -> LearntRuns:
    """Leave out the runs far outside in a metric of the goal, unless the study file keeps them.

    Raises `ConfigError` for an unknown run to keep, too few runs, equal mixtures and a constant target.
    """
    return learnt_at_scales(config, ScaledTables("", table, unseen, {}), goal)


def learnt_at_scales(config: StudyFile, tables: ScaledTables, goal: Goal) -> LearntRuns:
    """Do the same at every scale; other scales with too few runs are left out. Raises `ConfigError`."""
    _check_kept(config, tables)
    unseen, diverged = tables.unseen, _diverged(config, tables.target, goal)
    learnt = _without(tables.target, diverged)
    least = LEAST_AT_TARGET if tables.others else LEAST_RUNS
    if len(learnt.runs) < least:
        raise ConfigError(_too_few(config, learnt, diverged, least))
    _check_learnable(config, learnt, goal)
    found = LearntRuns(
        learnt, unseen and _without(unseen, diverged_runs(unseen, goal.domains, maximised=goal.maximised)), diverged
    )
    return _with_others(config, tables, goal, found) if tables.others else found


def _with_others(config: StudyFile, tables: ScaledTables, goal: Goal, found: LearntRuns) -> LearntRuns:
    diverged = {name: _diverged(config, table, goal) for name, table in tables.others.items()}
    others = {name: _without(table, diverged[name]) for name, table in tables.others.items()}
    enough = {name: table for name, table in others.items() if len(table.runs) >= LEAST_RUNS}
    few = {name: len(table.runs) for name, table in others.items() if name not in enough}
    if not enough:
        had = ", ".join(f"{name} has {count}" for name, count in few.items())
        raise ConfigError(
            f"{config.table}: no other scale than {tables.scale} has the {LEAST_RUNS} runs to learn from: {had}; give "
            "more runs there"
        )
    for table in enough.values():
        _check_learnable(config, table, goal)
    notes = [
        f"scale {name}: {count} runs are too few to learn from ({LEAST_RUNS}), so it is left out"
        for name, count in few.items()
    ]
    every = [*found.diverged, *(one for name in enough for one in diverged[name])]
    return replace(found, diverged=every, others=enough, notes=notes)


def _without(table: SwarmTable, diverged: Iterable[Diverged]) -> SwarmTable:
    gone = {one.run for one in diverged}
    kept = [row for row, run in enumerate(table.runs) if run not in gone]
    return table.take(kept) if gone else table


def _diverged(config: StudyFile, table: SwarmTable, goal: Goal) -> tuple[Diverged, ...]:
    kept = config.keep_diverged
    if isinstance(kept, bool):
        return () if kept else diverged_runs(table, goal.domains, maximised=goal.maximised)
    return tuple(one for one in diverged_runs(table, goal.domains, maximised=goal.maximised) if one.run not in kept)


def _check_kept(config: StudyFile, tables: ScaledTables) -> None:
    """Raise `ConfigError` for a run to keep that is in no table."""
    kept = config.keep_diverged
    for run in () if isinstance(kept, bool) else kept:
        if not any(run in table.runs for table in (tables.target, *tables.others.values())):
            raise ConfigError(
                f"keep_diverged: {config.table} has no run {run!r}; its first is {tables.target.runs[0]!r}"
            )


def _too_few(config: StudyFile, learnt: SwarmTable, diverged: Sequence[Diverged], least: int) -> str:
    without = f" without those far outside ({'; '.join(map(str, diverged))})" if diverged else ""
    kept = ", or keep_diverged = true" if diverged else ""
    scale = f" at scale {config.scales.target}" if config.scales else ""
    return f"{config.table}: {len(learnt.runs)} runs{scale}{without} are too few to predict from; give {least}{kept}"


def _check_learnable(config: StudyFile, learnt: SwarmTable, goal: Goal) -> None:
    """Raise `ConfigError` for equal mixtures, and for a target of constant metrics alone."""
    runs = len(learnt.runs)
    if not np.ptp(learnt.weights, axis=0).any():
        raise ConfigError(f"{config.table}: all {runs} runs have the same mixture, so nothing can be learnt from them")
    for target in goal.targets.values():
        if all(metric in constant_metrics(learnt, target.domains) for metric in target.domains):
            metric, value = target.domains[0], learnt.metrics[target.domains[0]][0]
            raise ConfigError(
                f"{config.table}: the metric {metric!r} is constant, {value:g} in all {runs} runs, so nothing can be "
                "learnt from it; name another metric in the target"
            )


def constant_metrics(table: SwarmTable, metrics: Iterable[str]) -> list[str]:
    """Name the metrics with one value in all runs."""
    return [metric for metric in metrics if not np.ptp(table.metrics[metric])]
