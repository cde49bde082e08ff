"""The response surface of a study: what predicts the value of any mixture, and how well it does out of fold.

On a pool it is the gate's own surrogate, fitted to what was merged; on a table the study's own predictors. Both have
conformal intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from objectives.held_out import Floats
from search.gate import Evidence, without_trees
from search.surrogates.conformal import ConformalSurrogate, normal_quantile
from search.surrogates.surrogate import Observations, Prediction
from search.trials import STOPPED_EARLY, value_of
from studies.goal_predictor import GoalPredictor, Interval
from studies.opened_study import OpenedStudy
from studies.swarm_bench import COVERAGE, SwarmBench

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

    @property
    def cautious(self) -> float:
        """Half an interval that is as wide everywhere: the size that the share `COVERAGE` of out-of-fold errors keep.

        The predictor's own deviations are calibrated where most mixtures were evaluated, near the best one; between
        there and the vertices they were found too small. This does not hang on them, and is
        too wide near the best mixture.
        """
        errors = np.sort(np.abs(self.measured - self.out_of_fold.mean))
        return float(errors[min(math.ceil((len(errors) + 1) * COVERAGE), len(errors)) - 1])


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
