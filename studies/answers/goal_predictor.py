"""Predicting a study's goal from a table, with intervals calibrated on the goal's own out-of-fold errors.

Metrics err together, as they come from the same models: what is calibrated metric by metric and then added as if
independent may be too narrow, or too wide. So the aggregate is calibrated once more, which needs no refit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import spearmanr

from objectives.agreement.bootstrap import Interval
from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.stand_ins.tabulated_loss import FittedSwarm, aggregated
from objectives.target.target import Goal, Target
from search.surrogates.conformal import calibration_factor, normal_quantile
from search.surrogates.surrogate import Prediction


@dataclass(frozen=True)
class Accuracy:
    """How N runs were predicted by what was not fitted to them.

    `rmse` is in the table's unit, `inside` the share of values in their interval; `spearman` is NaN where it is not
    defined.
    """

    runs: int
    spearman: float
    rmse: float
    inside: float


class GoalPredictor:
    """Predicts a goal's value; `coverage` is the share of values that intervals are to hold."""

    def __init__(self, swarm: FittedSwarm, goal: Goal, *, coverage: float) -> None:
        self._swarm = swarm
        self._goal = goal
        self._coverage = coverage

    @classmethod
    def of_metric(cls, swarm: FittedSwarm, metric: str, *, coverage: float) -> "GoalPredictor":
        """Predict one metric alone."""
        return cls(swarm, Target({metric: 1.0}), coverage=coverage)

    def measured(self, table: SwarmTable) -> Floats:
        """Return the goal's value of each run (N,), from its metrics."""
        means = np.array([table.metrics[name] for name in self._goal.domains])
        return aggregated(self._goal, means, np.zeros_like(means))[0]

    def predict(self, weights: Floats) -> list[Interval]:
        """Predict mixtures (N, K)."""
        return self._intervals(self._calibrated(*self._swarm.predict(self._goal.domains, weights)))

    def out_of_fold(self) -> list[Interval]:
        """Predict each of the table's runs (N,) from others only."""
        return self._intervals(self._calibrated(*self._swarm.out_of_fold(self._goal.domains)))

    def accuracy(self, unseen: SwarmTable | None = None) -> Accuracy:
        """Compare with runs that nothing was fitted to, or out of fold with the table's own."""
        predicted = self.predict(unseen.weights) if unseen else self.out_of_fold()
        return _accuracy(predicted, self.measured(unseen or self._swarm.table))

    @cached_property
    def _factor(self) -> float:
        means, deviations = aggregated(self._goal, *self._swarm.out_of_fold(self._goal.domains))
        return calibration_factor(self.measured(self._swarm.table) - means, deviations, self._coverage)

    def _calibrated(self, means: Floats, deviations: Floats) -> Prediction:
        value, deviation = aggregated(self._goal, means, deviations)
        return Prediction(value, deviation * self._factor)

    def _intervals(self, prediction: Prediction) -> list[Interval]:
        reach = normal_quantile(self._coverage) * prediction.deviation
        ends = zip(prediction.mean, prediction.mean - reach, prediction.mean + reach, strict=True)
        return [Interval(*map(float, one)) for one in ends]


def _accuracy(predicted: Sequence[Interval], measured: Floats) -> Accuracy:
    means = np.array([one.value for one in predicted])
    inside = [one.low <= value <= one.high for one, value in zip(predicted, measured.tolist(), strict=True)]
    defined = np.ptp(means) > 0 and np.ptp(measured) > 0
    spearman = float(spearmanr(means, measured).statistic) if defined else float("nan")
    return Accuracy(len(measured), spearman, float(np.sqrt(np.mean((means - measured) ** 2))), float(np.mean(inside)))
