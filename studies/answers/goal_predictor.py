"""Predict a study's goal from a swarm, with intervals calibrated on out-of-fold errors.

Errors of metrics correlate, so the aggregate is calibrated once more, without a refit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from objectives.agreement.statistics import Interval
from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.stand_ins.tabulated_loss import FittedSwarm, aggregated
from objectives.target import Goal
from search.surrogates.surrogate import Prediction, calibration_factor, normal_quantile
from studies.answers.score import rank_correlation


@dataclass(frozen=True)
class Accuracy:
    """Errors of predictions of N runs.

    spearman: None where undefined
    rmse: in the swarm's unit
    inside: share of values in their intervals
    """

    runs: int
    spearman: float | None
    rmse: float
    inside: float


class GoalPredictor:
    """Predicts a goal's value, `shown` with the metrics' own sign; intervals hold the share `coverage` of values."""

    def __init__(self, swarm: FittedSwarm, goal: Goal, *, coverage: float) -> None:
        self._swarm = swarm
        self._goal = goal
        self._coverage = coverage

    @classmethod
    def of_metric(cls, swarm: FittedSwarm, metric: str, *, coverage: float) -> "GoalPredictor":
        return cls(swarm, Goal.of({metric: 1.0}), coverage=coverage)

    def measured(self, table: SwarmTable) -> Floats:
        """Return the goal's measured values (N,)."""
        return self._sign * self._measured(table)

    def predict(self, weights: Floats) -> list[Interval]:
        """Predict mixtures (N, K)."""
        return self._intervals(self._calibrated(*self._swarm.predict(self._goal.domains, weights)))

    def out_of_fold(self) -> list[Interval]:
        """Predict each run from the other runs only."""
        return self._intervals(self._calibrated(*self._swarm.out_of_fold(self._goal.domains)))

    def accuracy(self, unseen: SwarmTable | None = None) -> Accuracy:
        """Judge predictions of unseen runs, or out of fold of the swarm's own."""
        predicted = self.predict(unseen.weights) if unseen else self.out_of_fold()
        return _accuracy(predicted, self.measured(unseen or self._swarm.table))

    @cached_property
    def _factor(self) -> float:
        means, deviations = aggregated(self._goal, *self._swarm.out_of_fold(self._goal.domains))
        return calibration_factor(self._measured(self._swarm.table) - means, deviations, self._coverage)

    @property
    def _sign(self) -> float:
        return self._goal.shown(1.0)

    def _measured(self, table: SwarmTable) -> Floats:
        """Return what is minimised of the measured metrics (N,)."""
        means = np.array([table.metrics[name] for name in self._goal.domains])
        return aggregated(self._goal, means, np.zeros_like(means))[0]

    def _calibrated(self, means: Floats, deviations: Floats) -> Prediction:
        value, deviation = aggregated(self._goal, means, deviations)
        return Prediction(self._sign * value, deviation * self._factor)

    def _intervals(self, prediction: Prediction) -> list[Interval]:
        reach = normal_quantile(self._coverage) * prediction.deviation
        ends = zip(prediction.mean, prediction.mean - reach, prediction.mean + reach, strict=True)
        return [Interval(*map(float, one)) for one in ends]


def _accuracy(predicted: Sequence[Interval], measured: Floats) -> Accuracy:
    means = np.array([one.value for one in predicted])
    inside = [one.low <= value <= one.high for one, value in zip(predicted, measured.tolist(), strict=True)]
    spearman = rank_correlation(means.tolist(), measured.tolist())
    rmse = float(np.sqrt(np.mean((means - measured) ** 2)))
    return Accuracy(len(measured), spearman, rmse, float(np.mean(inside)))
