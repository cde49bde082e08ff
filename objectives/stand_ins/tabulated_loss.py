"""An objective without merges: predictions from a swarm, one predictor a metric.

Predictions are aggregated to the target, so another target needs no refit. Predictors are handed in: this floor knows
no surrogate.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.target import Goal
from pool.files.digests import digest_json
from pool.mixture import Mixture


class Predicted(Protocol):
    """Mean and standard deviation of one metric, both (N,)."""

    @property
    def mean(self) -> Floats: ...

    @property
    def deviation(self) -> Floats: ...


class Predictor(Protocol):
    """A predictor of one metric, fitted to the runs of a swarm."""

    def predict(self, weights: Floats, /) -> Predicted: ...

    def out_of_fold(self) -> Predicted:
        """Predict each of the runs (N,) from others only."""


class Swarm(Protocol):
    """Runs of one scale with predictions of any mixture in their metrics.

    errors_alike: correlation of errors between metrics.
    calibrates: whether the runs are enough to calibrate an aggregate's intervals.
    places: the mixtures (M, K) of all runs that predictions stand on.
    """

    table: SwarmTable
    method: str
    digest: str

    @property
    def errors_alike(self) -> float: ...

    @property
    def calibrates(self) -> bool: ...

    @property
    def places(self) -> Floats: ...

    def predict(self, metrics: Iterable[str], weights: Floats) -> tuple[Floats, Floats]:
        """Predict E metrics of mixtures (N, K): means and standard deviations, both (E, N)."""

    def out_of_fold(self, metrics: Iterable[str]) -> tuple[Floats, Floats]:
        """Predict E metrics of the N runs, each from others only: means and standard deviations, both (E, N)."""


FitPredictor = Callable[[Floats, Floats], Predictor]
"""Learns from mixtures (N, K) and one metric's values (N,)."""


class FittedSwarm:
    """A swarm with a predictor for each metric, fitted at its first use.

    `method` names `fit_predictor` and its settings, for the digest. `watch` is told the metric before each fit.
    `maximised` metrics are fitted negated: predictors have the shape of losses. Predictions have their own sign.
    """

    def __init__(
        self,
        table: SwarmTable,
        fit_predictor: FitPredictor,
        *,
        method: str,
        maximised: Collection[str] = (),
        watch: Callable[[str], None] = lambda metric: None,
    ) -> None:
        self.table = table
        self.method = method
        self._fit_predictor = fit_predictor
        self._maximised = frozenset(maximised)
        self._watch = watch
        self._fitted: dict[str, Predictor] = {}
        self.digest = digest_json({"swarm": table.digest, "method": method})

    errors_alike = 0.0
    calibrates = True

    @property
    def places(self) -> Floats:
        return self.table.weights

    def predict(self, metrics: Iterable[str], weights: Floats) -> tuple[Floats, Floats]:
        """Predict E metrics of mixtures (N, K): means and standard deviations, both (E, N)."""
        return self._together({name: self._predictor(name).predict(weights) for name in metrics})

    def out_of_fold(self, metrics: Iterable[str]) -> tuple[Floats, Floats]:
        """Predict E metrics of the N runs, each from others only: means and standard deviations, both (E, N)."""
        return self._together({name: self._predictor(name).out_of_fold() for name in metrics})

    def _predictor(self, metric: str) -> Predictor:
        if metric not in self._fitted:
            self._watch(metric)
            values = self._sign(metric) * self.table.metrics[metric]
            self._fitted[metric] = self._fit_predictor(self.table.weights, values)
        return self._fitted[metric]

    def _together(self, predictions: Mapping[str, Predicted]) -> tuple[Floats, Floats]:
        means = np.array([self._sign(name) * one.mean for name, one in predictions.items()])
        return means, np.array([one.deviation for one in predictions.values()])

    def _sign(self, metric: str) -> float:
        return -1.0 if metric in self._maximised else 1.0


class TabulatedLoss:
    """The value of a mixture by the predictors of a swarm, in the unit of its metrics: the goal's domains.

    `standard_error` is the predictors' deviation. Raises `ValueError` for a goal the
    swarm cannot serve.
    """

    gradient = challenge = foundation = None

    def __init__(self, swarm: Swarm, goal: Goal) -> None:
        missing = [name for name in goal.domains if name not in swarm.table.metrics]
        if missing:
            known = ", ".join(swarm.table.metrics)
            raise ValueError(f"the target's {missing[0]!r} is no metric of the table; it has {known}")
        if any(target.aggregate == "micro" for target in goal.targets.values()):
            raise ValueError("aggregate 'micro' needs token counts, which the table has not; use weighted or macro")
        self._swarm = swarm
        self._goal = goal
        self.digest = digest_json({"tabulated": swarm.digest, "target": goal.digest_parts})

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._swarm.table.names

    def __call__(self, mixture: Mixture) -> Evaluation:
        """Predict a mixture. Raises `NonFiniteLossError`."""
        started = time.perf_counter()
        weights = mixture.over(self.partitions).array
        means, deviations = self._swarm.predict(self._goal.domains, weights[None])
        values, errors = aggregated(self._goal, means, deviations, alike=self._swarm.errors_alike)
        measures, sizes = means[:, 0], np.ones(len(means))
        return Evaluation(
            mixture,
            value=float(values[0]),
            values=self._goal.values_of(measures, sizes),
            standard_error=float(errors[0]),
            domains={},
            kind="tabulated",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=0,
            violation=max([0.0, *self._goal.violations_of(measures).values()]),
        )


def aggregated(goal: Goal, means: Floats, deviations: Floats, *, alike: float = 0.0) -> tuple[Floats, Floats]:
    """Aggregate E metrics of N mixtures, both (E, N), to the goal's value and its deviation, both (N,).

    Errors of two metrics correlate by `alike`, and every domain counts as of equal size. With slopes s and deviations
    d, variance = alike (sum |s| d)^2 + (1 - alike) sum s^2 d^2.
    """
    sizes = np.ones(len(means))
    slopes = np.array([goal.slopes_of(column, sizes) for column in means.T])
    values = np.array([goal.value_of(column, sizes) for column in means.T])
    apart: Floats = (slopes.T**2 * deviations**2).sum(axis=0)
    if not alike:
        return values, np.sqrt(apart)
    together: Floats = np.abs(slopes.T * deviations).sum(axis=0)
    return values, np.sqrt(alike * together**2 + (1 - alike) * apart)
