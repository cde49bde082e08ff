"""The gate: prunes a proposal before any merge if it is unlikely to beat the incumbent, or to add to the front.

A share of the unlikely is evaluated all the same (an audit), so the false-prune rate is measured, and too high a rate
lowers the threshold. After `patience` pruned proposals in a row the next one is evaluated: no livelock.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial
from scipy.special import betaincc, ndtr

from pool.mixture import Mixture
from search.per_trial_sampler import derive_seed
from search.space import CappedSimplex
from search.surrogates.automatic import FAMILIES, AutomaticSurrogate
from search.surrogates.surrogate import ConformalSurrogate, Floats, Observations, Prediction, Surrogate
from search.trials import GRADIENT, INTERVAL_COVERAGE, Verdict, audit_outcomes, interval_errors

_SURE = 0.8
_MOST_AUDITS = 0.1
"""Largest share of audits in the merges: near an optimum a small share of the pruned would be most of the merges."""
_WIDENING = 0.3
"""Step of the logarithm of the intervals' width: N predictions miss their coverage by at most 1 / (N step)."""
_REMEMBERED = 50
"""Latest errors behind the width of intervals."""
_LEAST_USUAL = 1e-9
_WIDEST = 3.0
"""Bound of the logarithm of the width, either way."""
_DRAWS = 2_000
"""Samples of a prediction of several objectives: enough for a chance within 0.005 at the default threshold."""


def without_trees() -> Surrogate:
    """Make the automatic surrogate without boosted trees: they take most of its time, and are never best on merges."""
    return AutomaticSurrogate({name: make for name, make in FAMILIES.items() if name != "boosted_trees"})


@dataclass(frozen=True)
class GateRule:
    """The rule of pruning.

    threshold: proposals below this probability of winning are pruned.
    audit_rate: the share of them evaluated all the same.
    min_evidence: evaluations before the first pruning.
    patience: pruned proposals in a row before the next is evaluated.
    max_false_prune_rate: the threshold falls while audits show a higher rate of wins.

    Raises `ValueError` for values out of range.
    """

    threshold: float = 0.2
    audit_rate: float = 0.02
    min_evidence: int = 12
    patience: int = 100
    max_false_prune_rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or not 0 <= self.audit_rate <= 1:
            raise ValueError("threshold and audit_rate are probabilities: from 0 to 1")
        if self.min_evidence < 3 or self.patience < 1:
            raise ValueError("min_evidence must be at least 3 and patience at least 1")
        if not 0 < self.max_false_prune_rate <= 1:
            raise ValueError(f"max_false_prune_rate must be above 0, at most 1: got {self.max_false_prune_rate!r}")


@dataclass(frozen=True, eq=False)
class Evidence:
    """The completed trials, in the order of their numbers.

    weights: their mixtures (N, K).
    values: (N, D), in D objectives.
    gradients: N gradients (K,), None if unknown, as always with several objectives.
    audits: of each audit, whether it won.
    errors: of each predicted evaluation, its errors (D,) in halves of its intervals.
    """

    weights: Floats
    values: Floats
    gradients: Sequence[Sequence[float] | None]
    audits: Sequence[bool] = ()
    errors: Sequence[tuple[float, ...]] = ()

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], space: CappedSimplex) -> "Evidence":
        return cls.of_mixtures(trials, [space.mixture_of(trial) for trial in trials])

    @classmethod
    def of_mixtures(cls, trials: Sequence[FrozenTrial], mixtures: Sequence[Mixture]) -> "Evidence":
        objectives = len(trials[0].values) if trials else 1
        partitions = len(mixtures[0].names) if mixtures else 0
        return cls(
            np.array([mixture.array for mixture in mixtures]).reshape(len(trials), partitions),
            np.array([trial.values for trial in trials]).reshape(len(trials), objectives),
            [None if objectives > 1 else trial.user_attrs.get(GRADIENT) for trial in trials],
            audit_outcomes(trials),
            interval_errors(trials),
        )

    @property
    def front(self) -> Floats:
        """The values (M, D) beaten by no others in every objective; with one objective, the incumbent's."""
        if self.values.shape[1] == 1:
            return np.array([[self.values.min()]])
        values: Floats = np.unique(self.values, axis=0)
        no_worse = np.all(values[:, None] <= values[None], axis=2)
        np.fill_diagonal(no_worse, False)
        front: Floats = values[~np.any(no_worse, axis=0)]
        return front

    def observations(self, objective: int) -> Observations:
        return Observations.of_gradients(self.weights, self.values[:, objective], self.gradients)


@dataclass(frozen=True)
class Decision:
    """A verdict, with the chance of winning, its threshold and the predictions (D,), None or empty without any."""

    verdict: Verdict
    chance: float | None = None
    threshold: float | None = None
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()


class Gate:
    """Judges proposals by calibrated surrogates, one an objective.

    Evidence, trial number and seed decide the verdict.
    """

    def __init__(self, rule: GateRule, make_surrogate: Callable[[], Surrogate] = without_trees, *, seed: int) -> None:
        self.rule = rule
        self._make = make_surrogate
        self._seed = seed
        self._surrogates: list[ConformalSurrogate] = []
        self._widths: list[float] = []
        self._fitted_on = 0

    def threshold(self, evidence: Evidence) -> float:
        return adapted_threshold(self.rule.threshold, evidence.audits, most=self.rule.max_false_prune_rate)

    def judge(
        self,
        mixture: Mixture,
        evidence: Evidence,
        *,
        trial_number: int,
        pruned_in_a_row: int,
        patience: int | None = None,
    ) -> Decision:
        """Judge a proposal. `patience` defaults to the rule's."""
        if len(evidence.values) < self.rule.min_evidence or self.rule.threshold == 0:
            return Decision(Verdict.EVALUATE)
        prediction = self._predict(mixture, evidence)
        chance = chance_of_winning(prediction, evidence.front, seed=derive_seed(self._seed, trial_number, "front"))
        threshold = self.threshold(evidence)
        verdict = Verdict.EVALUATE
        if chance < threshold:
            may_audit = len(evidence.audits) < _MOST_AUDITS * len(evidence.values)
            patience = self.rule.patience if patience is None else patience
            is_forced = pruned_in_a_row >= patience
            verdict = Verdict.FORCED if is_forced else self._unlikely_verdict(trial_number, may_audit=may_audit)
        means, deviations = prediction.mean.tolist(), prediction.deviation.tolist()
        return Decision(verdict, chance, threshold, tuple(means), tuple(deviations))

    def _unlikely_verdict(self, trial_number: int, *, may_audit: bool) -> Verdict:
        if not may_audit:
            return Verdict.PRUNE
        draw = np.random.default_rng(derive_seed(self._seed, trial_number, "audit")).random()
        return Verdict.AUDIT if draw < self.rule.audit_rate else Verdict.PRUNE

    def _predict(self, mixture: Mixture, evidence: Evidence) -> Prediction:
        count, objectives = evidence.values.shape
        if not self._surrogates:
            self._surrogates = [ConformalSurrogate(self._make(), coverage=INTERVAL_COVERAGE) for _ in range(objectives)]
        if count != self._fitted_on:
            for objective, surrogate in enumerate(self._surrogates):
                surrogate.fit(evidence.observations(objective))
            self._widths = [interval_width(one) for one in zip(*evidence.errors, strict=True)] or [1.0] * objectives
            self._fitted_on = count
        predictions = [surrogate.predict(mixture.array[None, :]) for surrogate in self._surrogates]
        return Prediction(
            np.concatenate([one.mean for one in predictions]),
            np.concatenate([width * one.deviation for width, one in zip(self._widths, predictions, strict=True)]),
        )


def chance_of_winning(prediction: Prediction, front: Floats, *, seed: int) -> float:
    """Return the probability of no point of the front (M, D) being at least as good in every objective.

    `prediction` (D,) is normal and independent between objectives. Exact for one objective, else from draws.
    """
    mean, deviation = prediction.mean, prediction.deviation
    if front.shape[1] == 1:
        return float(ndtr((front[0, 0] - mean[0]) / max(float(deviation[0]), 1e-300)))
    drawn = mean + deviation * np.random.default_rng(seed).standard_normal((_DRAWS, len(mean)))
    beaten = np.any(np.all(front[None] <= drawn[:, None], axis=2), axis=1)
    return 1.0 - float(np.mean(beaten))


def adapted_threshold(threshold: float, audits: Sequence[bool], *, most: float) -> float:
    """Lower a probability threshold while audits, in order, show more than the share `most` of false prunes.

    Under a Jeffreys prior of the rate since the last change, the threshold is halved once the rate is above `most` with
    probability 0.8, and doubled, up to `threshold`, once below with that probability.
    """
    current, false, seen = threshold, 0, 0
    for was_false in audits:
        false, seen = false + was_false, seen + 1
        above = float(betaincc(0.5 + false, 0.5 + seen - false, most))
        if 1 - _SURE < above < _SURE:
            continue
        current = current / 2 if above >= _SURE else min(threshold, current * 2)
        false, seen = 0, 0
    return current


def interval_width(errors: Sequence[float]) -> float:
    """Return the factor of deviations, given the errors so far in halves of their intervals.

    A search asks away from its evidence, so calibration on the evidence does not carry over. The latest errors give the
    width (conformal prediction's quantile); a miss widens it and a hit narrows it, to keep the share of hits at
    `INTERVAL_COVERAGE` for any surrogate (quantile tracking: Gibbs and Candes 2021, arXiv 2106.00170; Angelopoulos,
    Candes and Tibshirani 2023, arXiv 2307.16895, eq. 3 and 5).
    """
    width, logarithm = 1.0, 0.0
    scores: list[float] = []
    for error in errors:
        scores = [*scores[-_REMEMBERED + 1 :], error * width]
        logarithm += _WIDENING * (INTERVAL_COVERAGE - (error <= 1))
        logarithm = min(max(logarithm, -_WIDEST), _WIDEST)
        rank = math.ceil((len(scores) + 1) * INTERVAL_COVERAGE)
        usual = sorted(scores)[rank - 1] if rank <= len(scores) else 1.0
        width = min(max(usual, _LEAST_USUAL), 1 / _LEAST_USUAL) * math.exp(logarithm)
    return width
