"""Truths predicted from merges by several rules, each rule as far as the truths speak for it.

A merge rule is one more size of the model of both fidelities: the marginal likelihood of the truths weighs rule and law
together, which errs less than the one rule with the smallest errors. Rules with a small share are left out of
predictions, so that a prediction takes few merges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from objectives.agreement.statistics import Interval, conformal_quantile, shares_of
from objectives.agreement.two_fidelity import ENOUGH_FOR_CONFORMAL, LEVEL, Truth, TwoFidelity, Yardstick, pooled
from objectives.held_out import Floats

LEAST_TRUTHS = 6
"""Fewer truths say too little for a prediction."""
LEAST_SHARE = 0.05
"""Rules with a smaller share are left out."""


@dataclass(frozen=True, eq=False)
class RuleAverage:
    """A model of N truths for each merge rule.

    models: by rule, without widening of their own; the rule with the largest share first.
    shares: by rule, summing to one.
    truth: (N, E).
    """

    models: Mapping[str, TwoFidelity]
    shares: Mapping[str, float]
    truth: Floats

    @classmethod
    def fit(
        cls, weights: Floats, proxies: Mapping[str, Floats], truth: Floats, *, noise: Floats | None = None
    ) -> RuleAverage:
        """Learn from mixtures (N, K), proxies (N, E) by rule, and truths (N, E).

        noise: (E,), the deviation of a truth trained again; NaN, not known.
        Raises `ValueError` for fewer than `LEAST_TRUTHS`.
        """
        if len(truth) < LEAST_TRUTHS:
            raise ValueError(f"a prediction takes {LEAST_TRUTHS} trained mixtures or more: there are {len(truth)}")
        models = {
            rule: TwoFidelity.unwidened(weights, proxy, truth, Yardstick.of(weights, proxy, noise=noise))
            for rule, proxy in proxies.items()
        }
        found = shares_of(np.array([model.log_likelihood for model in models.values()]))
        shares = dict(zip(models, found.tolist(), strict=True))
        kept = [rule for rule in sorted(shares, key=lambda rule: -shares[rule]) if shares[rule] >= LEAST_SHARE]
        total = sum(shares[rule] for rule in kept)
        return cls({rule: models[rule] for rule in kept}, {rule: shares[rule] / total for rule in kept}, truth)

    def predict(self, weights: Floats, proxies: Mapping[str, Floats]) -> Truth:
        """Predict mixtures (M, K), each trained once, from proxies (M, E) of the rules kept."""
        parts = [model.predict(weights, proxies[rule]) for rule, model in self.models.items()]
        found = _pooled(np.array([self.shares[rule] for rule in self.models]), parts)
        return Truth(found.mean, found.scale * self.widening, found.freedom)

    @cached_property
    def left_out(self) -> Truth:
        """Each of the N truths predicted from the others, with rules weighed without the truth left out."""
        parts = [model.left_out() for model in self.models.values()]
        densities = np.stack([_log_density(part, self.truth).mean(axis=1) for part in parts])  # (R, N)
        likelihoods = np.array([[model.log_likelihood] for model in self.models.values()])
        shares = shares_of(likelihoods - densities)
        return _pooled(shares[:, :, None], parts)

    @cached_property
    def widening(self) -> Floats:
        """The factor (E,) of scales with which intervals hold truths left out; 1 from too few truths to tell."""
        if len(self.truth) < ENOUGH_FOR_CONFORMAL:
            return np.ones(self.truth.shape[1])
        misses = np.abs(self.truth - self.left_out.mean) / self.left_out.half_width(LEVEL)
        return conformal_quantile(misses, LEVEL)

    @property
    def errors(self) -> Floats:
        """Truth less prediction from the other truths (N, E)."""
        found: Floats = self.truth - self.left_out.mean
        return found

    def rmse(self, output: int) -> float:
        """Return the leave-one-out root mean squared error of an output."""
        return math.sqrt(float((self.errors[:, output] ** 2).mean()))

    def means_of(self, output: int, weights: Floats, proxies: Mapping[str, Floats]) -> Floats:
        """Predict one output (M,) of many mixtures (M, K) from its proxies (M,) by rule."""
        parts = [self.shares[rule] * one.means_of(output, weights, proxies[rule]) for rule, one in self.models.items()]
        found: Floats = np.sum(parts, axis=0)
        return found

    def intervals(self, weights: Floats, proxies: Mapping[str, Floats], output: int) -> list[Interval]:
        """Predict one output of mixtures (M, K) with intervals that hold `LEVEL` of trained ones."""
        found = self.predict(weights, proxies)
        values, halves = found.mean[:, output], found.half_width(LEVEL)[:, output]
        return [
            Interval(value, value - half, value + half)
            for value, half in zip(values.tolist(), halves.tolist(), strict=True)
        ]


def _log_density(part: Truth, truth: Floats) -> Floats:
    """Return the log density (M, E) of truths, up to a constant that all rules share."""
    squares = ((truth - part.mean) / part.scale) ** 2
    found: Floats = -0.5 * (part.freedom + 1) * np.log1p(squares / part.freedom) - np.log(part.scale)
    return found


def _pooled(shares: Floats, parts: Sequence[Truth]) -> Truth:
    """Return mean and scale of a mixture of predictions; `shares` are (R,) or (R, M, 1)."""
    mean, square = pooled(shares, [(part.mean, part.scale**2) for part in parts])
    return Truth(mean, np.sqrt(square), parts[0].freedom)
