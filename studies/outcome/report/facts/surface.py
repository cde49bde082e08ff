"""The response surface of a study: a predictor of any mixture's value, and its out-of-fold errors.

On a pool the predictor is the gate's surrogate, fitted to the merges. On a swarm it is the study's own predictor.
Both have conformal intervals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from objectives.agreement.statistics import Interval, conformal_quantile
from objectives.held_out import Floats
from search.gate import Evidence, without_trees
from search.surrogates.surrogate import ConformalSurrogate, Observations, Prediction, normal_quantile
from search.trials import in_full, value_of
from studies.answers.goal_predictor import GoalPredictor
from studies.opened.on_table import COVERAGE, SwarmBench
from studies.opened.opened_study import OpenedStudy

_SAME = 1e-6
"""Total variation below which two mixtures count as one."""
LEAST_EVALUATIONS = 8
"""Fewer are too few to fit a predictor and to calibrate it."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A predictor with the N mixtures it was fitted to.

    weights: the mixtures (N, K).
    measured: their values (N,).
    out_of_fold: prediction of each mixture from the others.
    predict: prediction at mixtures (M, K).
    measured_are: the evaluated things in words.
    """

    weights: Floats
    measured: Floats
    out_of_fold: Prediction
    predict: Callable[[Floats], Prediction]
    measured_are: str

    @property
    def reach(self) -> float:
        """The half-width of an interval in standard deviations."""
        return normal_quantile(COVERAGE)

    def half_widths(self, weights: Floats) -> Floats:
        """Return half the interval (M,) of the predictions at mixtures (M, K).

        half = max(reach * deviation, multiple * distance to the nearest measured mixture). The deviations are
        calibrated near the best mixture, and were found too small towards the vertices (docs/decisions/0046).
        `multiple` is the conformal quantile of |out-of-fold error| / distance to the nearest other mixture.
        """
        apart = _distances(self.weights, self.weights)
        np.fill_diagonal(apart, np.inf)
        nearest = np.maximum(apart.min(axis=1), _SAME)
        multiple = float(conformal_quantile(np.abs(self.measured - self.out_of_fold.mean) / nearest, COVERAGE))
        own = self.reach * self.predict(weights).deviation
        half: Floats = np.maximum(own, multiple * _distances(weights, self.weights).min(axis=1))
        return half


def _distances(some: Floats, others: Floats) -> Floats:
    """Return the total variation (M, N) between mixtures (M, K) and (N, K)."""
    distances: Floats = np.abs(some[:, None] - others[None]).sum(axis=2) / 2
    return distances


def surface_of(bench: OpenedStudy, trials: Sequence[FrozenTrial]) -> Surface | None:
    """Fit the surface, without evaluations stopped early; None with too few others."""
    if isinstance(bench, SwarmBench):
        return _of_table(bench)
    full = in_full(trials)
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
