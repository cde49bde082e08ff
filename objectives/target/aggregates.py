"""Named aggregates of domain losses into one scalar, each with its slopes.

Peers: each takes weights (E,), measures (E,), sizes (E,) and references (E,) and returns the value and d value /
d measure (E,). A measure is a domain's nats divided by its size (tokens, or bytes for bits per byte).
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from objectives.held_out import Floats

Aggregate = Literal["weighted", "macro", "micro", "worst", "worst-excess"]
AggregateFunction = Callable[[Floats, Floats, Floats, Floats], tuple[float, Floats]]


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
    """max_e m_e (minimax). Its slope is that of the worst domain, the first of equals."""
    return worst_excess(weights, measures, sizes, np.zeros(len(measures)))


def worst_excess(weights: Floats, measures: Floats, sizes: Floats, references: Floats) -> tuple[float, Floats]:
    """max_e (m_e - r_e), r_e the seed's: the domain that gains least (Sagawa et al. 2020; Xie et al. 2023).

    Plain minimax looks only at the domain that is hardest for every model.
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
