"""The gate: prunes a proposal before any merge when it is unlikely to beat the incumbent.

A share of what it would prune is evaluated all the same (an audit), so its false-prune rate is measured, not
assumed, and where it is too high the threshold is lowered. It cannot livelock: after `patience` pruned proposals in a
row it lets the next one through.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial
from scipy.stats import beta, norm

from pool.mixture import Mixture
from search.per_trial_sampler import derive_seed
from search.space import CappedSimplex
from search.surrogates.automatic import AutomaticSurrogate
from search.surrogates.conformal import ConformalSurrogate
from search.surrogates.surrogate import Observations, Surrogate
from search.trials import GRADIENT, INCUMBENT, VERDICT, Verdict, value_of

_SURE = 0.8


@dataclass(frozen=True)
class GateRule:
    """When to prune: below `threshold` probability of beating the incumbent, once there is enough evidence.

    `audit_rate` is the share of such proposals evaluated all the same. Where these audits say that more than
    `max_false_prune_rate` of what is pruned would have won, the threshold is lowered. Raises `ValueError` out of range.
    """

    threshold: float = 0.05
    audit_rate: float = 0.1
    min_evidence: int = 12
    patience: int = 25
    max_false_prune_rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or not 0 <= self.audit_rate <= 1:
            raise ValueError("threshold and audit_rate are probabilities: from 0 to 1")
        if self.min_evidence < 3 or self.patience < 1:
            raise ValueError("min_evidence must be at least 3 and patience at least 1")
        if not 0 < self.max_false_prune_rate <= 1:
            raise ValueError(f"max_false_prune_rate must be above 0, at most 1: got {self.max_false_prune_rate!r}")


@dataclass(frozen=True)
class Evidence:
    """Evaluated mixtures (N) and their values (N), in the order of their trials, with their gradients (K,) if known.

    `audits`, in order, tell of each audit whether it beat the incumbent of its time.
    """

    mixtures: Sequence[Mixture]
    values: Sequence[float]
    gradients: Sequence[Sequence[float] | None] = ()
    audits: Sequence[bool] = ()

    @classmethod
    def of(cls, trials: Sequence[FrozenTrial], space: CappedSimplex) -> "Evidence":
        """Read completed trials; with several objectives the gradient of their mean is not known."""
        return cls(
            [space.mixture_of(trial) for trial in trials],
            [value_of(trial) for trial in trials],
            [trial.user_attrs.get(GRADIENT) if len(trial.values) == 1 else None for trial in trials],
            [value_of(t) < t.user_attrs[INCUMBENT] for t in trials if t.user_attrs.get(VERDICT) == Verdict.AUDIT],
        )

    @property
    def incumbent(self) -> float:
        """The lowest value yet; infinite when there is none."""
        return min(self.values, default=float("inf"))

    @property
    def observations(self) -> Observations:
        """The same for a surrogate. There must be some."""
        gradients = self.gradients or [None] * len(self.values)
        return Observations.of_gradients([past.array for past in self.mixtures], self.values, gradients)


@dataclass(frozen=True)
class Decision:
    """A verdict with what it rests on; `mean` and `deviation` are None where nothing was predicted."""

    verdict: Verdict
    incumbent: float
    mean: float | None = None
    deviation: float | None = None


class Gate:
    """Judges proposals by a surrogate, calibrated; by the automatic one where none is given.

    The same evidence, trial number and seed give the same verdict.
    """

    def __init__(self, rule: GateRule, surrogate: Surrogate | None = None, *, seed: int) -> None:
        self.rule = rule
        self._surrogate = ConformalSurrogate(surrogate or AutomaticSurrogate())
        self._seed = seed
        self._fitted_on = 0

    def threshold(self, evidence: Evidence) -> float:
        """Return the probability of beating the incumbent below which proposals are pruned, given the audits."""
        return adapted_threshold(self.rule.threshold, evidence.audits, most=self.rule.max_false_prune_rate)

    def judge(self, mixture: Mixture, evidence: Evidence, *, trial_number: int, pruned_in_a_row: int) -> Decision:
        """Say what to do with a proposal."""
        if len(evidence.values) < self.rule.min_evidence or self.rule.threshold == 0:
            return Decision(Verdict.EVALUATE, evidence.incumbent)
        mean, deviation = self._predict(mixture, evidence)
        chance = norm.cdf((evidence.incumbent - mean) / deviation) if deviation > 0 else mean < evidence.incumbent
        unlikely = float(chance) < self.threshold(evidence)
        verdict = self._unlikely_verdict(trial_number, pruned_in_a_row) if unlikely else Verdict.EVALUATE
        return Decision(verdict, evidence.incumbent, mean, deviation)

    def _unlikely_verdict(self, trial_number: int, pruned_in_a_row: int) -> Verdict:
        if pruned_in_a_row >= self.rule.patience:
            return Verdict.FORCED
        draw = np.random.default_rng(derive_seed(self._seed, trial_number, "audit")).random()
        return Verdict.AUDIT if draw < self.rule.audit_rate else Verdict.PRUNE

    def _predict(self, mixture: Mixture, evidence: Evidence) -> tuple[float, float]:
        if len(evidence.values) != self._fitted_on:
            self._surrogate.fit(evidence.observations)
            self._fitted_on = len(evidence.values)
        prediction = self._surrogate.predict(mixture.array[None, :])
        return float(prediction.mean[0]), float(prediction.deviation[0])


def adapted_threshold(threshold: float, audits: Sequence[bool], *, most: float) -> float:
    """Lower a probability threshold by halves while audits show more than the share `most` of false prunes.

    `audits`, in order: whether what would have been pruned beat the incumbent of its time. Under a Jeffreys prior, once
    the rate since the last change is above `most` with probability 0.8 the threshold is halved; once it is below with
    that probability it is doubled, up to `threshold`. Without audits it stays.
    """
    current, false, seen = threshold, 0, 0
    for was_false in audits:
        false, seen = false + was_false, seen + 1
        above = float(beta.sf(most, 0.5 + false, 0.5 + seen - false))
        if 1 - _SURE < above < _SURE:
            continue
        current = current / 2 if above >= _SURE else min(threshold, current * 2)
        false, seen = 0, 0
    return current
