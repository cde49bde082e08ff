"""Stopping an evaluation early: when the windows read so far say that the mixture cannot beat the incumbent.

A group-sequential, one-sided, paired t-test on a stratified random sample of windows without replacement. What is
estimated is the loss on the very windows that a full evaluation would read, so the finite population factor applies
and the error shrinks to nothing as they are used up. Each look gets an equal part of the error rate (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import t as student

from objectives.held_out import Floats
from objectives.scoring.paired import window_sizes
from objectives.scoring.window_table import Rows, WindowTable
from objectives.target import Goal

LOOKS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Shares of the windows after which an evaluation may stop."""

FEWEST_WINDOWS = 3
"""No look before so many windows of every domain were read: a spread needs a few values."""


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop early. `error_rate` bounds the chance that a mixture that would have won is stopped.

    `order_seed` decides the order of the windows. Raises `ValueError` for a rate that is not between 0 and 0.5.
    """

    error_rate: float = 0.05
    order_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.error_rate < 0.5:
            raise ValueError(f"the error rate must be above 0 and below 0.5: got {self.error_rate!r}")

    @property
    def confidence(self) -> float:
        """Confidence of each look."""
        return 1 - self.error_rate / len(LOOKS)


def segments(table: WindowTable, order_seed: int) -> list[Rows]:
    """Split the rows of a table into those read up to the first look, from there to the second, and so on.

    The order is shuffled within each domain, and domains are spread evenly over it (stratified).
    """
    place = np.empty(len(table.domain))
    for e in range(len(table.domains)):
        rows = table.rows_of(e)
        rng = np.random.default_rng([order_seed, e])
        place[rows] = (rng.permutation(len(rows)) + rng.random()) / len(rows)
    ends = [math.ceil(share * len(place)) for share in LOOKS]
    return [part for part in np.split(np.argsort(place, kind="stable"), ends) if len(part)]


@dataclass(frozen=True)
class Estimate:
    """A value estimated from part of the windows, in the goal's measure; `degrees` of freedom of its error."""

    value: float
    standard_error: float
    degrees: float

    def above(self, incumbent: float, confidence: float) -> bool:
        """Say whether the value is above the incumbent's with this confidence."""
        if not math.isfinite(self.standard_error):
            return False
        return self.value - incumbent > float(student.ppf(confidence, self.degrees)) * self.standard_error


@dataclass(frozen=True)
class Challenge:
    """A goal, its windows, and the incumbent's nats (W,) on all of them."""

    goal: Goal
    table: WindowTable
    incumbent: Floats

    @cached_property
    def value(self) -> float:
        """The incumbent's value on all windows."""
        return self.goal.value(self.table.losses(self.incumbent))

    def estimate(self, rows: Rows, nats: Floats) -> Estimate:
        """Estimate the challenger's value on all windows from its nats (n,) on some rows (n,).

        m_e = m_e(incumbent, all windows) + sum d_i / sum s_i with d_i the differences on the windows read and s_i
        their sizes: the difference estimator (Cochran 1977, section 7.10), whose variance in domain e is
        (1 - n/N) n/(n-1) sum (d_i - D_e s_i)^2 / (sum s_i)^2; degrees of freedom after Satterthwaite (1946).
        """
        losses = self.table.losses(self.incumbent)
        measures, sizes = self.goal.measures(losses), self.goal.sizes(losses)
        window_size = window_sizes(self.goal, self.table)[rows]
        differences, variances = np.zeros(len(measures)), np.full(len(measures), math.inf)
        read = np.zeros(len(measures), dtype=np.int64)
        for e in range(len(measures)):
            here = self.table.domain[rows] == e
            d, s, n = (nats - self.incumbent[rows])[here], window_size[here], int(here.sum())
            if n < FEWEST_WINDOWS:
                return Estimate(math.nan, math.inf, 1.0)
            differences[e] = d.sum() / s.sum()
            residuals = d - differences[e] * s
            left = 1 - n / len(self.table.rows_of(e))
            variances[e] = left * n / (n - 1) * float(residuals @ residuals) / s.sum() ** 2
            read[e] = n
        slopes = self.goal.slopes_of(measures + differences, sizes)
        terms = slopes**2 * variances
        total = float(terms.sum())
        degrees = total**2 / float((terms**2 / (read - 1)).sum()) if total > 0 else 1.0
        return Estimate(self.goal.value_of(measures + differences, sizes), math.sqrt(total), degrees)
