"""A barrier is the highest rise above the straight line between two losses."""

import math
from pathlib import Path

import numpy as np
import pytest

from objectives.losses.merged_loss import MergedLoss
from objectives.merging.merge import StackedPool
from objectives.merging.task_vectors import barrier_nats, mixture_between, shares_between
from objectives.target import Goal
from pool.mixture import Mixture
from pool.parts.store import Pool

A, B = Mixture.of({"a": 1.0, "b": 0.0}), Mixture.of({"a": 0.0, "b": 1.0})


def test_a_straight_loss_has_no_barrier_and_a_bent_one_its_height() -> None:
    assert barrier_nats(A, B, lambda mixture: 3 + 2 * mixture.array[1], points=4) == pytest.approx(0, abs=1e-12)
    hill = 0.7
    height = barrier_nats(A, B, lambda mixture: 2 + hill * 4 * mixture.array.prod(), points=3)
    assert height == pytest.approx(hill), "four times w (1 - w) is one in the middle"
    assert barrier_nats(A, B, lambda mixture: 2 - 4 * mixture.array.prod(), points=3) == pytest.approx(-0.75)


def test_an_asymmetric_barrier_is_measured_from_the_line_and_not_from_the_ends_mean() -> None:
    losses = {0.0: 1.0, 0.25: 1.0, 0.5: 1.0, 0.75: 4.1, 1.0: 5.0}
    assert barrier_nats(A, B, lambda mixture: losses[mixture.array[1]], points=3) == pytest.approx(4.1 - 4.0)


def test_points_lie_evenly_within_the_line_whatever_the_order_of_names() -> None:
    assert shares_between(3).tolist() == [0.25, 0.5, 0.75]
    assert shares_between(1).tolist() == [0.5]
    other = Mixture.of({"b": 1.0, "a": 0.0})
    assert mixture_between(A, other, 0.25).as_dict() == {"a": 0.75, "b": 0.25}
    with pytest.raises(ValueError, match="at least one point between its ends: got 0"):
        shares_between(0)


def test_a_loss_that_is_not_a_number_is_no_barrier_of_zero() -> None:
    broken = [lambda mixture: math.nan if mixture.array[0] == 0.5 else 1.0, lambda mixture: math.inf]
    assert all(math.isnan(barrier_nats(A, B, loss, points=3)) for loss in broken)


def test_equal_members_have_no_barrier_on_real_text(tiny_pool: Pool) -> None:
    twice: dict[str, Path] = dict.fromkeys(("code", "docs", "prose"), tiny_pool.member_folders["docs"])
    loss = MergedLoss(tiny_pool, StackedPool(twice), Goal.of({"licences": 0.5, "prose": 0.5}), "search")
    ends = (Mixture.vertex(tiny_pool.names, name) for name in ("code", "prose"))
    barrier = barrier_nats(*ends, lambda mixture: loss(mixture).value, points=2)
    assert barrier == pytest.approx(0, abs=1e-5)
    assert np.isfinite(barrier)
