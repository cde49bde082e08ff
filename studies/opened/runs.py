"""The runs behind a study on a swarm: diverged runs are left out, and the others must teach something."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from objectives.stand_ins.diverged import Diverged, diverged_runs
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.target import Goal
from pool.errors import ConfigError
from studies.study_file.study_file import StudyFile

LEAST_RUNS = 8
"""Fewer trained models are too few to choose a family and to calibrate."""


@dataclass(frozen=True)
class LearntRuns:
    """The runs to fit, the unseen runs to test on, if any, and the runs left out of the former as far outside."""

    table: SwarmTable
    unseen: SwarmTable | None
    diverged: Sequence[Diverged]


def learnt_runs(config: StudyFile, table: SwarmTable, unseen: SwarmTable | None, goal: Goal) -> LearntRuns:
    """Leave out the runs far outside in a metric of the goal, unless the study file keeps them.

    Raises `ConfigError` for an unknown run to keep, too few runs, equal mixtures and a constant target.
    """
    diverged = _diverged(config, table, goal)
    learnt = _without(table, diverged)
    if len(learnt.runs) < LEAST_RUNS:
        raise ConfigError(_too_few(config, learnt, diverged))
    _check_learnable(config, learnt, goal)
    return LearntRuns(
        learnt, unseen and _without(unseen, diverged_runs(unseen, goal.domains, maximised=goal.maximised)), diverged
    )


def _without(table: SwarmTable, diverged: Iterable[Diverged]) -> SwarmTable:
    gone = {one.run for one in diverged}
    kept = [row for row, run in enumerate(table.runs) if run not in gone]
    return table.take(kept) if gone else table


def _diverged(config: StudyFile, table: SwarmTable, goal: Goal) -> tuple[Diverged, ...]:
    kept = config.keep_diverged
    if isinstance(kept, bool):
        return () if kept else diverged_runs(table, goal.domains, maximised=goal.maximised)
    for run in kept:
        if run not in table.runs:
            raise ConfigError(f"keep_diverged: {config.table} has no run {run!r}; its first is {table.runs[0]!r}")
    return tuple(one for one in diverged_runs(table, goal.domains, maximised=goal.maximised) if one.run not in kept)


def _too_few(config: StudyFile, learnt: SwarmTable, diverged: Sequence[Diverged]) -> str:
    without = f" without those far outside ({'; '.join(map(str, diverged))})" if diverged else ""
    kept = ", or keep_diverged = true" if diverged else ""
    return f"{config.table}: {len(learnt.runs)} runs{without} are too few to predict from; give {LEAST_RUNS}{kept}"


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
