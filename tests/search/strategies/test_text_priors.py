"""Mixtures from text alone: known mixtures are found again, and text like the target's is selected."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.strategies.text_priors import importance_shares, likeliest_shares, smoothed, text_losses

RNG = np.random.default_rng(4)
PARTITIONS = smoothed(RNG.dirichlet(np.full(200, 0.1), size=4) * 1e4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=4, max_size=4))
def test_a_mixture_of_the_partitions_is_found_again(raw: list[float]) -> None:
    weights = np.array(raw) / sum(raw)
    target = weights @ PARTITIONS
    np.testing.assert_allclose(likeliest_shares(PARTITIONS, target), weights, atol=1e-3)


def test_the_likeliest_shares_have_the_lowest_loss() -> None:
    target = smoothed(RNG.dirichlet(np.full(200, 0.1), size=1))[0]
    best = likeliest_shares(PARTITIONS, target)
    others = RNG.dirichlet(np.ones(4), size=500)
    assert text_losses(best[None], PARTITIONS, target)[0] <= text_losses(others, PARTITIONS, target).min() + 1e-9


def test_distributions_sum_to_one_and_have_no_zeros() -> None:
    assert PARTITIONS.sum(axis=1) == pytest.approx(np.ones(4)) and (PARTITIONS > 0).all()


def test_windows_like_the_target_are_selected() -> None:
    windows = [RNG.integers(0, 50, size=(300, 40)), RNG.integers(50, 100, size=(300, 40))]
    target = np.bincount(RNG.integers(0, 50, size=5000), minlength=100).astype(float)
    assert importance_shares(windows, target, seed=0)[0] == 1.0
    both = np.ones(100)
    assert importance_shares(windows, both, seed=0) == pytest.approx([0.5, 0.5], abs=0.2)
    np.testing.assert_array_equal(importance_shares(windows, both, seed=0), importance_shares(windows, both, seed=0))
