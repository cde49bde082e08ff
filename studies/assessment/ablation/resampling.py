"""The same figures on held-out text drawn again: a bootstrap over documents, paired over all that was scored.

Documents are drawn with replacement within each domain (Efron and Tibshirani 1993, chapter 8), the same for every
model, so what they have in common cancels in differences and in ranks. Windows of one document stay together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from objectives.held_out import Floats
from objectives.scoring.paired import window_sizes
from objectives.scoring.window_table import WindowTable
from objectives.target import Goal

RESAMPLES = 400

Draws = tuple[Floats, ...]
"""How often each document of each domain was drawn: (B, D_e) for every domain e."""


@dataclass(frozen=True)
class RankAgreement:
    """Spearman correlation of two rankings of the partitions, and its 95 % interval; None where it is not defined."""

    spearman: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.spearman is None:
            return "not defined"
        interval = "no interval" if self.low is None else f"95 % interval {self.low:.2f} to {self.high:.2f}"
        return f"{self.spearman:.2f} ({interval})"


def draw_documents(table: WindowTable, rng: np.random.Generator) -> Draws:
    """Draw as many documents of each domain as it has, `RESAMPLES` times."""
    counts = [len(np.unique(table.document[table.rows_of(e)])) for e in range(len(table.domains))]
    return tuple(rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64) for n in counts)


def resampled(goal: Goal, table: WindowTable, nats: Floats, draws: Draws) -> Floats:
    """Return the goal and each domain's measure (B, N, C) for the nats (N, W) of N models on what was drawn.

    The goal's domains must be in the table, which may have more. NaN where a draw has nothing to divide by.
    """
    sizes = window_sizes(goal, table)
    measures = np.empty((len(draws[0]), len(nats), len(table.domains)))
    drawn_sizes = np.empty((len(draws[0]), len(table.domains)))
    for e, times in enumerate(draws):
        rows = table.rows_of(e)
        home = np.unique(table.document[rows], return_inverse=True)[1]
        by_document = np.stack([np.bincount(home, weights=one) for one in nats[:, rows]])
        drawn_sizes[:, e] = times @ np.bincount(home, weights=sizes[rows])
        measures[:, :, e] = times @ by_document.T / drawn_sizes[:, e, None]
    places = [table.domains.index(name) for name in goal.domains]
    drawn = zip(measures, drawn_sizes, strict=True)
    values = [[goal.value_of(row[places], size[places]) for row in rows] for rows, size in drawn]
    return np.concatenate([np.array(values)[:, :, None], measures], axis=2)


def spread(draws: Draws, goal: Goal, table: WindowTable, figures: Floats) -> Floats:
    """Return the standard deviation of figures (B, ..., C) over the draws; infinite in columns of a single document."""
    single = [drawn.shape[1] < 2 for drawn in draws]
    of_goal = any(alone for name, alone in zip(table.domains, single, strict=True) if name in goal.domains)
    errors: Floats = np.where([of_goal, *single], np.inf, figures.std(axis=0, ddof=1))
    return errors


def agreement(first: Floats, second: Floats, first_drawn: Floats, second_drawn: Floats) -> RankAgreement:
    """Compare two rankings (K,), with the interval over the pairs of rankings drawn (B, K) each."""
    drawn = [spearman(one, other) for one, other in zip(first_drawn, second_drawn, strict=True)]
    known = [value for value in drawn if value is not None]
    if not known:
        return RankAgreement(spearman(first, second), None, None)
    low, high = np.quantile(known, [0.025, 0.975])
    return RankAgreement(spearman(first, second), float(low), float(high))


def stability(figures: Floats, drawn: Floats) -> RankAgreement:
    """Compare the ranking by figures (K,) with that on each draw (B, K): the mean correlation and 95 % of them."""
    known = [value for value in (spearman(figures, one) for one in drawn) if value is not None]
    if not known:
        return RankAgreement(None, None, None)
    low, high = np.quantile(known, [0.025, 0.975])
    return RankAgreement(float(np.mean(known)), float(low), float(high))


def spearman(first: Floats, second: Floats) -> float | None:
    """Return the rank correlation of two (K,), ties sharing their mean rank; None where one of them is constant."""
    ranks = [rankdata(one) - (len(one) + 1) / 2 for one in (first, second)]
    scale = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    return float(ranks[0] @ ranks[1]) / scale if scale > 0 and np.isfinite(scale) else None
