"""Two mixtures on the same held-out text: their difference, and a test that stops an evaluation early.

A difference on the same documents has a smaller error than either loss. The test is a group-sequential, one-sided,
paired t-test on a stratified random sample of windows without replacement. The estimand is the loss on all windows, so
the finite population factor applies. Each look gets an equal part of the error rate (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from objectives.held_out import CONFIDENT, Floats
from objectives.scoring.window_table import Rows, WindowTable
from objectives.target import Goal

LOOKS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Shares of the windows before each test."""

FEWEST_WINDOWS = 3
"""Fewest windows of every domain before a test: a spread needs a few values."""


@dataclass(frozen=True)
class PairedDifference:
    """Value of one mixture minus another's on the same text, in the goal's measure.

    `standard_error` is over documents, for other text of the same kind; infinite where a domain has a single document.
    """

    difference: float
    standard_error: float
    documents: int

    @property
    def told_apart(self) -> bool:
        """Whether the difference is beyond chance at 95 % confidence; never for equal losses."""
        return abs(self.difference) > CONFIDENT * self.standard_error

    def __str__(self) -> str:
        if self.told_apart:
            return f"{self.difference:+.4f} ± {CONFIDENT * self.standard_error:.4f}"
        if math.isinf(self.standard_error):
            return f"{self.difference:+.4f}, from a single document: no error known"
        return f"{self.difference:+.4f} ± {CONFIDENT * self.standard_error:.4f}: can't be told apart"


def paired_difference(goal: Goal, table: WindowTable, first: Floats, second: Floats) -> PairedDifference:
    """Compare the nats (W,) of two mixtures on the windows of a table.

    Var = sum_e n_e/(n_e - 1) sum_j u_ej^2 over the n_e documents j of domain e. The influence u_ej of a document is the
    sum over its windows of slope_1e (x1 - m1e s) / S_e - slope_2e (x2 - m2e s) / S_e (linearised, or infinitesimal
    jackknife, variance; Cochran 1977, section 6.5).
    """
    values, influences = zip(*(_influence(goal, table, nats) for nats in (first, second)), strict=True)
    per_window = influences[0] - influences[1]
    variance = 0.0
    for e in range(len(table.domains)):
        rows = table.rows_of(e)
        by_document = np.bincount(np.unique(table.document[rows], return_inverse=True)[1], weights=per_window[rows])
        spread, n = float(by_document @ by_document), len(by_document)
        if spread > 0:
            variance += spread * n / (n - 1) if n > 1 else math.inf
    return PairedDifference(values[0] - values[1], math.sqrt(variance), len(np.unique(table.document)))


def _influence(goal: Goal, table: WindowTable, nats: Floats) -> tuple[float, Floats]:
    losses = table.losses(nats)
    measures, sizes, slopes = goal.measures(losses), goal.sizes(losses), goal.slopes(losses)
    size = window_sizes(goal, table)
    e = table.domain
    return goal.value(losses), slopes[e] * (nats - measures[e] * size) / sizes[e]


def window_sizes(goal: Goal, table: WindowTable) -> Floats:
    """Return the divisor of each window's nats (W,): its tokens, or its bytes times ln 2."""
    if goal.measure == "bits-per-byte":
        return table.bytes.astype(np.float64) * math.log(2)
    return table.tokens.astype(np.float64)


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop early.

    error_rate: bound on the chance of stopping a winner
    order_seed: seed of the windows' order

    Raises `ValueError` for a rate outside (0, 0.5).
    """

    error_rate: float = 0.05
    order_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.error_rate < 0.5:
            raise ValueError(f"the error rate must be above 0 and below 0.5: got {self.error_rate!r}")

    @property
    def confidence(self) -> float:
        """Confidence of each test."""
        return 1 - self.error_rate / len(LOOKS)


def segments(table: WindowTable, order_seed: int) -> list[Rows]:
    """Split the rows of a table at the looks.

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
    """A value estimated from part of the windows, in the goal's measure, with the degrees of freedom of its error."""

    value: float
    standard_error: float
    degrees: float

    def above(self, incumbent: float, confidence: float) -> bool:
        """Tell whether the value is above the incumbent's with this confidence."""
        if not math.isfinite(self.standard_error):
            return False
        from scipy.special import stdtrit  # the same digits as scipy.stats.t, which loads for a second

        return self.value - incumbent > float(stdtrit(self.degrees, confidence)) * self.standard_error


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

        m_e = m_e(incumbent, all windows) + D_e with D_e = sum d_i / sum s_i, d_i the differences on the windows read,
        s_i their sizes (the difference estimator, Cochran 1977, section 7.10). Its variance in domain e is
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
