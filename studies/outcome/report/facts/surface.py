"""The response surface of a study: what predicts the value of any mixture, and how well it does out of fold.

On a pool it is the gate's own surrogate, fitted to what was merged; on a table the study's own predictors. Both have
conformal intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from objectives.agreement.statistics import Interval
from objectives.held_out import Floats
from search.gate import Evidence, without_trees
from search.surrogates.surrogate import (
    ConformalSurrogate,
    Observations,
    Prediction,
    conformal_quantile,
    normal_quantile,
)
from search.trials import STOPPED_EARLY, value_of
from studies.answers.goal_predictor import GoalPredictor
from studies.opened.on_table import COVERAGE, SwarmBench
from studies.opened.opened_study import OpenedStudy

_SAME = 1e-6
"""Total variation below which two mixtures are one."""
LEAST_EVALUATIONS = 8
"""Fewer say too little to fit anything, and to calibrate it."""


@dataclass(frozen=True, eq=False)
class Surface:
    """N mixtures `weights` (N, K) with the values `measured` (N,), and predictions of each from the others.

    `predict` takes mixtures (M, K). `measured_are` says in words what was measured.
    """

    weights: Floats
    measured: Floats
    out_of_fold: Prediction
    predict: Callable[[Floats], Prediction]
    measured_are: str

    @property
    def reach(self) -> float:
        """How many deviations from the mean the interval goes."""
        return normal_quantile(COVERAGE)

    def half_widths(self, weights: Floats) -> Floats:
        """Return half the intervals (M,) of predictions at mixtures (M, K): the predictor's own, or what distance says.

        The predictor's are calibrated where most mixtures were evaluated, near the best one; between there and the
        vertices they were found too small (docs/decisions/0046). So the size of an out-of-fold error is also taken as a
        multiple of the distance to the nearest other measured mixture. The multiple that the share `COVERAGE` of them
        keep (conformal prediction), times the distance, is the least half-width there is.
        """
        apart = _distances(self.weights, self.weights)
        np.fill_diagonal(apart, np.inf)
        nearest = np.maximum(apart.min(axis=1), _SAME)
        multiple = conformal_quantile(np.abs(self.measured - self.out_of_fold.mean) / nearest, COVERAGE)
        own = self.reach * self.predict(weights).deviation
        half: Floats = np.maximum(own, multiple * _distances(weights, self.weights).min(axis=1))
        return half


def _distances(some: Floats, others: Floats) -> Floats:
    """Return the total variation (M, N) between mixtures (M, K) and others (N, K)."""
    distances: Floats = np.abs(some[:, None] - others[None]).sum(axis=2) / 2
    return distances


def surface_of(bench: OpenedStudy, trials: Sequence[FrozenTrial]) -> Surface | None:
    """Fit what predicts a study's value; None with too few evaluations. Those stopped early are left out."""
    if isinstance(bench, SwarmBench):
        return _of_table(bench)
    full = [trial for trial in trials if not trial.user_attrs.get(STOPPED_EARLY)]
    if len(full) < LEAST_EVALUATIONS:
        return None
    evidence = Evidence.of(full, bench.space)
    values = np.array([value_of(trial) for trial in full])
    observations = Observations.of_gradients(evidence.weights, values, evidence.gradients)
    surrogate = ConformalSurrogate(without_trees(), coverage=COVERAGE)
    surrogate.fit(observations)
    return Surface(evidence.weights, values, surrogate.out_of_fold(), surrogate.predict, "merges")


def _of_table(bench: SwarmBench) -> Surface:
    predictor = GoalPredictor(bench.swarm, bench.target, coverage=COVERAGE)
    table = bench.swarm.table
    return Surface(
        table.weights,
        predictor.measured(table),
        _prediction(predictor.out_of_fold()),
        lambda weights: _prediction(predictor.predict(weights)),
        "trained models of the table",
    )


def _prediction(intervals: Sequence[Interval]) -> Prediction:
    means = np.array([one.value for one in intervals])
    widths = np.array([one.high - one.low for one in intervals])
    return Prediction(means, widths / (2 * normal_quantile(COVERAGE)))
