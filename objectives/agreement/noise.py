"""The noise floor: by how much really trained losses differ when nothing but the order of the data does.

A loss trained with one order is a draw; no proxy can be nearer to it than that, and no choice between two mixtures
matters that is within it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from objectives.held_out import CONFIDENT, Floats


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviation of one trained loss, with its 95 % interval, and of a difference of two.

    `deviation_of_difference` is for two mixtures trained in the same order: what all mixtures share cancels.
    `freedom` counts the degrees of freedom behind `deviation`.
    """

    deviation: float
    low: float
    high: float
    deviation_of_difference: float
    freedom: int

    @classmethod
    def of(cls, groups: Sequence[Floats], *, crossed: bool = False) -> NoiseFloor | None:
        """Estimate it from groups of losses, one group a mixture; None where no mixture was trained twice.

        deviation^2 = sum_g sum_i (x_gi - mean_g)^2 / sum_g (n_g - 1). With `crossed`, the i-th loss of every group
        (all of one size) is of the same order, and the deviation of a difference is sqrt(2) times what is left when
        the means of mixtures and of orders are taken out (two-way analysis of variance without replication);
        otherwise it is sqrt(2) times the deviation.
        """
        repeated = [group for group in groups if len(group) > 1]
        if not repeated:
            return None
        freedom = sum(len(group) - 1 for group in repeated)
        squares = math.fsum(float(((group - group.mean()) ** 2).sum()) for group in repeated)
        deviation = math.sqrt(squares / freedom)
        low, high = (deviation * math.sqrt(freedom / chi2.ppf(p, freedom)) for p in (0.975, 0.025))
        alone = _interaction(np.array(repeated)) if crossed and len(repeated) > 1 else deviation
        return cls(deviation, float(low), float(high), math.sqrt(2) * alone, freedom)

    @property
    def margin(self) -> float:
        """What a difference of two truths trained in the same order must exceed to be no chance (95 %)."""
        return CONFIDENT * self.deviation_of_difference

    @property
    def margin_of_one(self) -> float:
        """By how much a single truth may be off by the order it was trained in (95 %)."""
        return CONFIDENT * self.deviation

    def ceiling(self, truths: Floats) -> float:
        """Return the highest Pearson that any proxy could expect on truths (N,) this noisy.

        sqrt(1 - noise variance / variance of the truths): 0 where all that differs is noise (Spearman 1904).
        """
        variance = float(truths.var(ddof=1))
        return math.sqrt(max(0.0, 1 - self.deviation**2 / variance)) if variance > 0 else 0.0


def _interaction(table: Floats) -> float:
    rows, columns = table.shape
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return math.sqrt(float((left**2).sum()) / ((rows - 1) * (columns - 1)))
