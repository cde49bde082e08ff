"""The noise floor: the spread of really trained losses when only the order of the data differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from objectives.held_out import CONFIDENT, Floats


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviations of trained losses.

    deviation: of one loss, with its 95 % interval from `low` to `high`.
    deviation_of_difference: of two mixtures trained in the same order, so that their common part cancels.
    freedom: the degrees of freedom behind `deviation`.
    """

    deviation: float
    low: float
    high: float
    deviation_of_difference: float
    freedom: int

    @classmethod
    def of(cls, groups: Sequence[Floats], *, crossed: bool = False) -> NoiseFloor | None:
        """Estimate from groups of losses, one group a mixture; None if no mixture was trained twice.

        deviation^2 = sum_g sum_i (x_gi - mean_g)^2 / sum_g (n_g - 1), times sqrt(2) for a difference. With `crossed`,
        the i-th losses of all groups share their order, and the means of mixtures and orders are taken out of the
        difference (two-way analysis of variance without replication).
        """
        repeated = [group for group in groups if len(group) > 1]
        if not repeated:
            return None
        from scipy.stats import chi2  # takes a second

        freedom = sum(len(group) - 1 for group in repeated)
        squares = math.fsum(float(((group - group.mean()) ** 2).sum()) for group in repeated)
        deviation = math.sqrt(squares / freedom)
        low, high = (deviation * math.sqrt(freedom / chi2.ppf(p, freedom)) for p in (0.975, 0.025))
        alone = _interaction(np.array(repeated)) if crossed and len(repeated) > 1 else deviation
        return cls(deviation, float(low), float(high), math.sqrt(2) * alone, freedom)

    @property
    def margin(self) -> float:
        """The largest chance difference of two truths trained in the same order (95 %)."""
        return CONFIDENT * self.deviation_of_difference

    @property
    def margin_of_one(self) -> float:
        """The largest chance error of a single truth (95 %)."""
        return CONFIDENT * self.deviation

    def ceiling(self, truths: Floats) -> float:
        """Return the highest Pearson any proxy can expect on truths (N,) this noisy.

        sqrt(1 - noise variance / variance of the truths), 0 for truths of noise alone (Spearman 1904).
        """
        variance = float(truths.var(ddof=1))
        return math.sqrt(max(0.0, 1 - self.deviation**2 / variance)) if variance > 0 else 0.0


def _interaction(table: Floats) -> float:
    rows, columns = table.shape
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return math.sqrt(float((left**2).sum()) / ((rows - 1) * (columns - 1)))
