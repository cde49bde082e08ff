"""Predict a study's goal from a swarm, with intervals calibrated on out-of-fold errors.

Errors of metrics correlate, so the aggregate is calibrated once more, without a refit. Of a swarm at several scales:
what each scale tells of the target, and the mixture to train there next.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from statistics import NormalDist

import numpy as np

from objectives.agreement.statistics import Interval, bootstrap, spearman
from objectives.held_out import Floats
from objectives.stand_ins.scaled_swarm import ScaledSwarm
from objectives.stand_ins.scales import row_of
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.stand_ins.tabulated_loss import Swarm, aggregated
from objectives.target import Goal
from pool.mixture import Mixture
from search.strategies.surrogate import expected_improvement
from search.surrogates.surrogate import Prediction, calibration_factor, normal_quantile
from studies.answers.score import Json, rank_correlation

LEAST_SHARED = 8
"""Fewer mixtures trained at two scales leave their rank correlation open."""


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


@dataclass(frozen=True)
class ScaleFigures:
    """What one scale tells of the target's runs: `out_of_fold`, each predicted from the others and from this scale."""

    runs: int
    out_of_fold: Accuracy


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of two scales over the `shared` mixtures, with its 95 % interval.

    Of fewer than `LEAST_SHARED`, resamples repeat a perfect ranking by chance, and the interval is -1 to 1.
    """

    scales: tuple[str, str]
    shared: int
    spearman: Interval

    @property
    def in_words(self) -> str:
        if self.shared >= LEAST_SHARED:
            return str(self.spearman)
        value = self.spearman.value
        return f"{'not defined' if math.isnan(value) else f'{value:.3f}'}, too few for an interval"


@dataclass(frozen=True)
class NextRun:
    """A mixture to train at the target.

    predicted: its value.
    expected: the expected improvement on the best run there, E[max(best - value, 0)], never negative.
    chance: the probability of an improvement.
    """

    mixture: Mixture
    predicted: Interval
    expected: float
    chance: float


@dataclass(frozen=True)
class ScalesAnswer:
    """What the scales of a table tell of the target.

    runs: at the target.
    source: the scale that predicts.
    next_run: None where every candidate has a run.
    """

    target: str
    runs: int
    source: str
    scales: Mapping[str, ScaleFigures]
    agreements: Sequence[Agreement]
    next_run: NextRun | None

    @property
    def with_target(self) -> Agreement:
        """The agreement of the scale that predicts with the target."""
        return next(one for one in self.agreements if set(one.scales) == {self.source, self.target})

    def as_json(self) -> Json:
        after = self.next_run
        return {
            "target": self.target,
            "source": self.source,
            "scales": {name: asdict(one) for name, one in self.scales.items()},
            "agreements": [asdict(one) for one in self.agreements],
            "next_run": {**asdict(after), "mixture": after.mixture.as_dict()} if after else None,
        }


class GoalPredictor:
    """Predicts a goal's value, `shown` with the metrics' own sign; intervals hold the share `coverage` of values."""

    def __init__(self, swarm: Swarm, goal: Goal, *, coverage: float) -> None:
        self._swarm = swarm
        self._goal = goal
        self._coverage = coverage

    @classmethod
    def of_metric(cls, swarm: Swarm, metric: str, *, coverage: float) -> "GoalPredictor":
        return cls(swarm, Goal.of({metric: 1.0}), coverage=coverage)

    def measured(self, table: SwarmTable) -> Floats:
        """Return the goal's measured values (N,)."""
        return self._sign * self._measured(table)

    def known(self) -> Floats:
        """Return the measured values, and with several scales the predictions of mixtures trained at another."""
        measured = self.measured(self._swarm.table)
        if not isinstance(self._swarm, ScaledSwarm):
            return measured
        return np.array([*measured, *(one.value for one in self.predict(self._swarm.places))])

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

    def accuracy_to_judge(self) -> Accuracy:
        """Judge predictions out of fold; with too few runs at a target scale, those of the scale that predicts."""
        if isinstance(self._swarm, ScaledSwarm) and not self._swarm.calibrates:
            other = self._swarm.others[self._swarm.source]
            return GoalPredictor(other, self._goal, coverage=self._coverage).accuracy()
        return self.accuracy()

    def scales(self, candidates: Iterable[Mixture]) -> ScalesAnswer | None:
        """Tell what every scale tells, and which of some mixtures to train next; None with one scale alone."""
        swarm = self._swarm
        if not isinstance(swarm, ScaledSwarm):
            return None
        figures = {name: ScaleFigures(len(one.table.runs), self._of_scale(name)) for name, one in swarm.others.items()}
        tables = {**{name: one.table for name, one in swarm.others.items()}, swarm.target: swarm.table}
        agreements = [self._agreement(pair, tables) for pair in combinations(tables, 2)]
        new = [one for one in dict.fromkeys(candidates) if row_of(one.array, swarm.table.weights) is None]
        after = self._next_run(new) if new else None
        return ScalesAnswer(swarm.target, len(swarm.table.runs), swarm.source, figures, agreements, after)

    def _of_scale(self, scale: str) -> Accuracy:
        assert isinstance(self._swarm, ScaledSwarm), "asked of several scales"
        predicted = self._calibrated(*self._swarm.out_of_fold(self._goal.domains, scale))
        return _accuracy(self._intervals(predicted), self.measured(self._swarm.table))

    def _agreement(self, pair: tuple[str, str], tables: Mapping[str, SwarmTable]) -> Agreement:
        one, other = (tables[name] for name in pair)
        rows = [(at, row_of(mixture, other.weights)) for at, mixture in enumerate(one.weights)]
        shared = np.array([(at, row) for at, row in rows if row is not None], dtype=np.int64).reshape(-1, 2)
        values = self.measured(one)[shared[:, 0]], self.measured(other)[shared[:, 1]]
        if len(shared) >= LEAST_SHARED:
            return Agreement(pair, len(shared), bootstrap({"": spearman}, *values)[""])
        found = rank_correlation(*(some.tolist() for some in values))
        return Agreement(pair, len(shared), Interval(math.nan if found is None else found, -1.0, 1.0))

    def _next_run(self, candidates: Sequence[Mixture]) -> NextRun:
        """Choose the candidate of the largest expected improvement on the best run, by a normal law."""
        best = float((self._sign * self.measured(self._swarm.table)).min())
        predicted = self.predict(np.array([one.array for one in candidates]))
        means = np.array([self._sign * one.value for one in predicted])
        halves = np.array([(one.high - one.low) / 2 for one in predicted])
        deviations = np.maximum(halves / normal_quantile(self._coverage), 1e-12)
        expected = np.maximum(expected_improvement(Prediction(means, deviations), best), 0.0).tolist()
        chances = [NormalDist().cdf(one) for one in ((best - means) / deviations).tolist()]
        at = max(range(len(expected)), key=lambda row: (expected[row], chances[row]))
        return NextRun(candidates[at], predicted[at], expected[at], chances[at])

    @cached_property
    def _factor(self) -> float:
        if not self._swarm.calibrates:
            return 1.0
        means, deviations = self._aggregated(*self._swarm.out_of_fold(self._goal.domains))
        return calibration_factor(self._measured(self._swarm.table) - means, deviations, self._coverage)

    @property
    def _sign(self) -> float:
        return self._goal.shown(1.0)

    def _measured(self, table: SwarmTable) -> Floats:
        """Return what is minimised of the measured metrics (N,)."""
        means = np.array([table.metrics[name] for name in self._goal.domains])
        return aggregated(self._goal, means, np.zeros_like(means))[0]

    def _aggregated(self, means: Floats, deviations: Floats) -> tuple[Floats, Floats]:
        return aggregated(self._goal, means, deviations, alike=self._swarm.errors_alike)

    def _calibrated(self, means: Floats, deviations: Floats) -> Prediction:
        value, deviation = self._aggregated(means, deviations)
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
