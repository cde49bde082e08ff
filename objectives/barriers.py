"""Loss barriers: does the loss rise on the straight line between two models that could be merged?

Frankle et al. 2020 (arXiv 1912.05671) call two models linearly connected when it does not; merging is averaging, so
it relies on just that.
"""

from collections.abc import Callable

import numpy as np

from objectives.held_out import Floats
from pool.mixture import Mixture

LossOf = Callable[[Mixture], float]


def shares_between(points: int) -> Floats:
    """Spread shares (points,) evenly over the open interval (0, 1); one point is the middle.

    Raises `ValueError` for less than one point.
    """
    if points < 1:
        raise ValueError(f"a line needs at least one point between its ends: got {points}")
    return np.arange(1, points + 1) / (points + 1)


def mixture_between(start: Mixture, end: Mixture, share: float) -> Mixture:
    """Return the mixture (1 - share) start + share end; the merge of it lies on the line between their merges."""
    return Mixture.from_array(start.names, (1 - share) * start.array + share * end.over(start.names).array)


def barrier_nats(start: Mixture, end: Mixture, loss_of: LossOf, *, points: int) -> float:
    """Return how far the loss rises above the straight line between the losses of two merges, in nats at most.

    max over a of L((1 - a) theta_s + a theta_e) - [(1 - a) L(theta_s) + a L(theta_e)] (Entezari et al. 2022, arXiv
    2110.06296, eq. 1), over `points` shares a strictly between 0 and 1. Negative where every point is better than the
    line, which is what merging hopes for; 0 for equal models; NaN where a loss is. A negative one shrinks as points
    come closer to the ends: compare such only at equal `points`.
    """
    shares = shares_between(points)
    between = np.array([loss_of(mixture_between(start, end, float(share))) for share in shares])
    with np.errstate(invalid="ignore"):  # infinite less infinite: not a number, and said so in the verdict
        return float(np.max(between - ((1 - shares) * loss_of(start) + shares * loss_of(end))))
