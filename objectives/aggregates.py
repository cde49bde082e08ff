"""Aggregates of a target: from measures of held-out domains to one value, and its slopes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from objectives.held_out import Floats

Aggregate = Literal["weighted", "macro", "micro", "worst", "worst-excess"]
AggregateFunction = Callable[[Floats, Floats, Floats, Floats], tuple[float, Floats]]
"""From weights (E,), measures (E,), sizes (E,) and references (E,) to the value and d value / d measure (E,)."""


def weighted(weights: Floats, measures: Floats, sizes: Floats, references: Floats) -> tuple[float, Floats]:
    """sum_e t_e m_e."""
    return float(weights @ measures), weights


def macro(weights: Floats, measures: Floats, sizes: Floats, references: Floats) -> tuple[float, Floats]:
    """Mean over domains: every domain counts alike."""
    return weighted(np.full(len(measures), 1 / len(measures)), measures, sizes, references)


def micro(weights: Floats, measures: Floats, sizes: Floats, references: Floats) -> tuple[float, Floats]:
    """All nats over all tokens (or bytes): every token counts alike."""
    return weighted(sizes / sizes.sum(), measures, sizes, references)


def worst(weights: Floats, measures: Floats, sizes: Floats, references: Floats) -> tuple[float, Floats]:
    """max_e m_e (minimax); the slope is that of the worst domain, the first of equals."""
    return worst_excess(weights, measures, sizes, np.zeros(len(measures)))


def worst_excess(weights: Floats, measures: Floats, sizes: Floats, references: Floats) -> tuple[float, Floats]:
    """max_e (m_e - r_e), r_e the seed's: the domain that gains least (Sagawa et al. 2020; Xie et al. 2023).

    Plain minimax sees only the domain that is hardest for every model.
    """
    excess = measures - references
    at = int(np.argmax(excess))
    return float(excess[at]), np.eye(len(measures))[at]


AGGREGATES: dict[Aggregate, AggregateFunction] = {
    "weighted": weighted,
    "macro": macro,
    "micro": micro,
    "worst": worst,
    "worst-excess": worst_excess,
}
