"""Two mixtures on the same held-out text: how far apart they are, and whether that can be told.

Losses of single mixtures have wide errors because documents differ; the difference on the same documents does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from objectives.held_out import CONFIDENT, Floats
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal


@dataclass(frozen=True)
class PairedDifference:
    """Value of one mixture minus that of another on the same text, in the goal's measure.

    `standard_error` is over documents: how far the difference may be off on other text of the same kind. It is
    infinite where a domain has a single document.
    """

    difference: float
    standard_error: float
    documents: int

    @property
    def told_apart(self) -> bool:
        """Whether the difference is beyond chance at 95 % confidence; equal losses never are."""
        return abs(self.difference) > CONFIDENT * self.standard_error

    def __str__(self) -> str:
        if self.told_apart:
            return f"{self.difference:+.4f} ± {CONFIDENT * self.standard_error:.4f}"
        if math.isinf(self.standard_error):
            return f"{self.difference:+.4f}, from a single document: no error known"
        return f"{self.difference:+.4f} ± {CONFIDENT * self.standard_error:.4f}: can't be told apart"


def paired_difference(goal: Goal, table: WindowTable, first: Floats, second: Floats) -> PairedDifference:
    """Compare the nats (W,) of two mixtures on the windows of a table.

    Var = sum_e n_e/(n_e - 1) sum_j u_ej^2 over the n_e documents j of domain e, with u_ej the document's influence on
    the difference, sum over its windows of slope_1e (x1 - m1e s) / S_e - slope_2e (x2 - m2e s) / S_e (the
    linearised, or infinitesimal jackknife, variance; Cochran 1977, section 6.5).
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
    """Return what each window's nats count against (W,): its tokens, or its bytes times ln 2."""
    if goal.measure == "bits-per-byte":
        return table.bytes.astype(np.float64) * math.log(2)
    return table.tokens.astype(np.float64)
