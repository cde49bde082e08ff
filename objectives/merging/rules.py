"""Named rules from a mixture to merge weights: the hypothesis under test, in one place.

Under every rule weights sum to one and a vertex stays a vertex. Measure which rule serves best: a better correlation
over random mixtures did not mean a better optimum.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from objectives.held_out import Floats

SMALLEST = 1e-4
"""Smallest weight in derivatives of p^a, which are infinite at 0 for a < 1."""


USUAL_EXPONENTS = (0.5, 0.75)
"""Exponents of the rules compared and averaged, unless others are asked for."""
_HALVINGS = 60


class MergeRule(Protocol):
    """Turns a mixture p (K,) into merge weights c (K,), and gradients back."""

    @property
    def digest_parts(self) -> dict[str, object]:
        """Name and settings, in JSON types."""

    @property
    def used_members_only(self) -> bool:
        """Whether c is zero wherever p is, and independent of other partitions."""

    def weights(self, p: Floats) -> Floats:
        """Return c (K,), summing to one."""

    def pullback(self, p: Floats, gradient: Floats) -> Floats:
        """Turn dL/dc (K,) into dL/dp (K,)."""

    def mixture(self, c: Floats) -> Floats | None:
        """Return the p (K,) with merge weights c (K,); None without one."""


@dataclass(frozen=True)
class Identity:
    """c = p (Na et al. 2024 for uniform p)."""

    used_members_only = True

    @property
    def digest_parts(self) -> dict[str, object]:
        return {"name": "identity"}

    def weights(self, p: Floats) -> Floats:
        return p

    def pullback(self, p: Floats, gradient: Floats) -> Floats:
        return gradient

    def mixture(self, c: Floats) -> Floats | None:
        return c if c.min() >= 0 else None


@dataclass(frozen=True)
class Power:
    """c_i = p_i^a / sum_j p_j^a, a > 0."""

    exponent: float
    used_members_only = True

    @property
    def digest_parts(self) -> dict[str, object]:
        return {"name": "power", "exponent": self.exponent}

    def weights(self, p: Floats) -> Floats:
        powers: Floats = p**self.exponent
        shares: Floats = powers / powers.sum()
        return shares

    def pullback(self, p: Floats, gradient: Floats) -> Floats:
        """dL/dp_j = a p_j^(a-1) / S (dL/dc_j - sum_i c_i dL/dc_i), with S the sum of powers."""
        total = (p**self.exponent).sum()
        pulled: Floats = _slope(p, self.exponent) / total * (gradient - self.weights(p) @ gradient)
        return pulled

    def mixture(self, c: Floats) -> Floats | None:
        return Power(1 / self.exponent).weights(c) if c.min() >= 0 else None


@dataclass(frozen=True)
class CommonSpecific:
    """theta_0 + mean(tau) + sum_i p_i^a (tau_i - mean(tau)): the members' common direction is kept whole.

    With task vectors tau_i = theta_i - theta_0: c_i = 1/K + p_i^a - sum_j p_j^a / K. The seed cancels, and weights may
    be negative.
    """

    exponent: float
    used_members_only = False

    @property
    def digest_parts(self) -> dict[str, object]:
        return {"name": "common-specific", "exponent": self.exponent}

    def weights(self, p: Floats) -> Floats:
        """Return the powers, shifted to sum to one."""
        powers: Floats = p**self.exponent
        shifted: Floats = powers + (1 - powers.sum()) / len(p)
        return shifted

    def pullback(self, p: Floats, gradient: Floats) -> Floats:
        """dL/dp_j = a p_j^(a-1) (dL/dc_j - mean_i dL/dc_i)."""
        pulled: Floats = _slope(p, self.exponent) * (gradient - gradient.mean())
        return pulled

    def mixture(self, c: Floats) -> Floats | None:
        """Find the shift s >= -min c with sum_i (c_i + s)^(1/a) = 1, by bisection."""
        low, high = -float(c.min()), 1.0

        def total(shift: float) -> float:
            return float((np.maximum(c + shift, 0.0) ** (1 / self.exponent)).sum())

        if not total(low) <= 1 <= total(high):
            return None
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if total(middle) < 1 else (low, middle)
        powers = np.maximum(c + low, 0.0) ** (1 / self.exponent)
        p: Floats = powers / powers.sum()
        return p


def make_rule(name: str, exponent: float) -> MergeRule:
    """Make a rule by name. Raises `ValueError`."""
    if not 0 < exponent < np.inf:
        raise ValueError(f"the exponent of a merge rule must be above 0: got {exponent!r}")
    rules: dict[str, MergeRule] = {
        "identity": Identity(),
        "power": Power(exponent),
        "common-specific": CommonSpecific(exponent),
    }
    if name not in rules:
        raise ValueError(f"no merge rule {name!r}; there are {', '.join(rules)}")
    return rules[name]


def _slope(p: Floats, exponent: float) -> Floats:
    """d p^a / d p; for a < 1 with p held away from zero."""
    base = np.maximum(p, SMALLEST) if exponent < 1 else p
    slope: Floats = exponent * base ** (exponent - 1)
    return slope
