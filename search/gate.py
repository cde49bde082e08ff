"""The gate: prunes a proposal before any merge when it is unlikely to beat the incumbent.

A share of what it would prune is evaluated all the same (an audit), so its false-prune rate is measured, not
assumed. It cannot livelock: after `patience` pruned proposals in a row it lets the next one through.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from pool.mixture import Mixture
from search.per_trial_sampler import derive_seed
from search.surrogates.surrogate import Floats, Surrogate
from search.trials import Verdict


@dataclass(frozen=True)
class GateRule:
    """When to prune: below `threshold` probability of beating the incumbent, once there is enough evidence.

    `audit_rate` is the share of such proposals evaluated all the same. Raises `ValueError` out of range.
    """

    threshold: float = 0.05
    audit_rate: float = 0.1
    min_evidence: int = 12
    patience: int = 25

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or not 0 <= self.audit_rate <= 1:
            raise ValueError("threshold and audit_rate are probabilities: from 0 to 1")
        if self.min_evidence < 3 or self.patience < 1:
            raise ValueError("min_evidence must be at least 3 and patience at least 1")


@dataclass(frozen=True)
class Evidence:
    """Evaluated mixtures (N) and their values (N), in the order of their trials."""

    mixtures: Sequence[Mixture]
    values: Sequence[float]

    @property
    def incumbent(self) -> float:
        """The lowest value yet; infinite when there is none."""
        return min(self.values, default=float("inf"))


@dataclass(frozen=True)
class Decision:
    """A verdict with what it rests on; `mean` and `deviation` are None where nothing was predicted."""

    verdict: Verdict
    incumbent: float
    mean: float | None = None
    deviation: float | None = None


class Gate:
    """Judges proposals by a surrogate. The same evidence, trial number and seed give the same verdict."""

    def __init__(self, rule: GateRule, surrogate: Surrogate, *, seed: int) -> None:
        self.rule = rule
        self._surrogate = surrogate
        self._seed = seed
        self._fitted_on = 0

    def judge(self, mixture: Mixture, evidence: Evidence, *, trial_number: int, pruned_in_a_row: int) -> Decision:
        """Say what to do with a proposal."""
        if len(evidence.values) < self.rule.min_evidence or self.rule.threshold == 0:
            return Decision(Verdict.EVALUATE, evidence.incumbent)
        mean, deviation = self._predict(mixture, evidence)
        chance = norm.cdf((evidence.incumbent - mean) / deviation) if deviation > 0 else mean < evidence.incumbent
        verdict = self._verdict(float(chance), trial_number, pruned_in_a_row)
        return Decision(verdict, evidence.incumbent, mean, deviation)

    def _verdict(self, chance: float, trial_number: int, pruned_in_a_row: int) -> Verdict:
        if chance >= self.rule.threshold:
            return Verdict.EVALUATE
        if pruned_in_a_row >= self.rule.patience:
            return Verdict.FORCED
        draw = np.random.default_rng(derive_seed(self._seed, trial_number, "audit")).random()
        return Verdict.AUDIT if draw < self.rule.audit_rate else Verdict.PRUNE

    def _predict(self, mixture: Mixture, evidence: Evidence) -> tuple[float, float]:
        values = np.array(evidence.values)
        if len(values) != self._fitted_on:
            self._surrogate.fit(np.stack([past.array for past in evidence.mixtures]), values)
            self._fitted_on = len(values)
        prediction = self._surrogate.predict(mixture.array[None, :])
        return float(prediction.mean[0]), float(prediction.deviation[0]) * self._widening(values)

    def _widening(self, values: Floats) -> float:
        """Return by how much leave-one-out errors exceed what the surrogate claims, at least 1."""
        held_out = self._surrogate.out_of_fold()
        return max(1.0, float(np.sqrt(np.mean(((values - held_out.mean) / held_out.deviation) ** 2))))
