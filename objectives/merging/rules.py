"""Named rules from a mixture to merge weights: the hypothesis under test, in one place.

Under every rule weights sum to one and a vertex stays a vertex. Measure which rule serves best: a better correlation
over random mixtures did not mean a better optimum.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from objectives.held_out import Floats

SMALLEST = 1e-4
"""Smallest weight in derivatives of p^a, which are infinite at 0 for a < 1."""


BEST_EXPONENTS = {"fisher": 0.8}
"""By rule, chosen on five pools with really trained mixtures; 0.5 for the others."""
USUAL_EXPONENTS = (0.5, 0.75)
"""Exponents of the rules compared and averaged, unless others are asked for."""
FISHER_WINDOWS = 24
"""Windows of a member's own text on which its Fisher information is measured."""
DAMPING = 0.03
"""Share of a member's mean Fisher information that is added to every row: rows without any have a merge too."""
_HALVINGS = 60


class MergeRule(Protocol):
    """Turns a mixture p (K,) into merge weights c, and gradients back: c is (K,), or (K, R) with R rows of matrices."""

    @property
    def digest_parts(self) -> dict[str, object]:
        """Name and settings, in JSON types."""

    @property
    def used_members_only(self) -> bool:
        """Whether c is zero wherever p is, and independent of other partitions."""

    @property
    def by_rows(self) -> bool:
        """Whether c differs from row to row of every matrix."""

    def weights(self, p: Floats) -> Floats:
        """Return c (K,), which sums to one, or c (K, R), which sums to one in every row."""

    def pullback(self, p: Floats, gradient: Floats) -> Floats:
        """Turn dL/dc (K,) into dL/dp (K,)."""

    def mixture(self, c: Floats) -> Floats | None:
        """Return the p (K,) with merge weights c (K,); None without one."""


@dataclass(frozen=True)
class Identity:
    """c = p (Na et al. 2024 for uniform p)."""

    used_members_only = True
    by_rows = False

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
    by_rows = False

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
    by_rows = False

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


@dataclass(frozen=True)
class Fisher:
    """c_kr = p_k^a G_kr / sum_j p_j^a G_jr in every row r: members count where their own text needs the row.

    G_kr = F_kr + `DAMPING` mean_r F_kr, with F_kr the mean Fisher information of member k in row r of a matrix
    (Matena and Raffel 2022, arXiv 2111.09832, averaged over rows).

    information: F (K, R); None before the measurement, when the rule has no weights yet.
    """

    exponent: float
    information: Floats | None = field(default=None, repr=False, compare=False)
    used_members_only = True
    by_rows = True

    @property
    def digest_parts(self) -> dict[str, object]:
        parts: dict[str, object] = {"name": "fisher", "exponent": self.exponent}
        return {**parts, "windows": FISHER_WINDOWS, "damping": DAMPING}

    def weights(self, p: Floats) -> Floats:
        """Return c (K, R). Raises `ValueError` without information."""
        shares = self._damped * (p**self.exponent)[:, None]
        found: Floats = shares / shares.sum(axis=0)
        return found

    def pullback(self, p: Floats, gradient: Floats) -> Floats:
        """dL/dp_j = a p_j^(a-1) sum_r G_jr / S_r (g_jr - sum_i c_ir g_ir), for g = dL/dc (K, R)."""
        totals = (self._damped * (p**self.exponent)[:, None]).sum(axis=0)
        differences = gradient - (self.weights(p) * gradient).sum(axis=0)
        pulled: Floats = _slope(p, self.exponent) * (self._damped / totals * differences).sum(axis=1)
        return pulled

    def mixture(self, c: Floats) -> Floats | None:
        """Return None: weights that differ between rows belong to no other mixture."""
        return None

    @property
    def _damped(self) -> Floats:
        if self.information is None:
            raise ValueError("this rule weighs rows by the members' Fisher information, which was not measured")
        means = self.information.mean(axis=1, keepdims=True)
        damped: Floats = self.information + DAMPING * np.where(means > 0, means, 1.0)
        return damped


def make_rule(name: str, exponent: float | None = None) -> MergeRule:
    """Make a rule by name, by default with the exponent that served best. Raises `ValueError`."""
    exponent = BEST_EXPONENTS.get(name, 0.5) if exponent is None else exponent
    if not 0 < exponent < np.inf:
        raise ValueError(f"the exponent of a merge rule must be above 0: got {exponent!r}")
    rules: dict[str, MergeRule] = {
        "identity": Identity(),
        "power": Power(exponent),
        "common-specific": CommonSpecific(exponent),
        "fisher": Fisher(exponent),
    }
    if name not in rules:
        raise ValueError(f"no merge rule {name!r}; there are {', '.join(rules)}")
    return rules[name]


def _slope(p: Floats, exponent: float) -> Floats:
    """d p^a / d p; for a < 1 with p held away from zero."""
    base = np.maximum(p, SMALLEST) if exponent < 1 else p
    slope: Floats = exponent * base ** (exponent - 1)
    return slope
