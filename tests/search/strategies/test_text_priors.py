"""Mixtures from text alone: known mixtures are found again, and text like the target's is selected."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.strategies.text_priors import (
    importance_shares,
    likeliest_shares,
    selected_shares,
    similar_shares,
    smoothed,
    text_losses,
)

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


def test_the_partition_nearest_to_the_target_has_the_largest_share() -> None:
    centres = 3 * RNG.normal(size=(4, 8)) + 5  # what all vectors have in common says nothing
    windows = [centre + RNG.normal(size=(60, 8)) for centre in centres]
    for k, centre in enumerate(centres):
        shares = similar_shares(windows, centre)
        assert shares.sum() == pytest.approx(1) and np.argmax(shares) == k and shares[k] > 0.9


def test_partitions_that_vectors_cannot_tell_apart_share_alike() -> None:
    windows = [RNG.normal(size=(400, 8)) for _ in range(3)]
    assert similar_shares(windows, RNG.normal(size=8)) == pytest.approx(np.full(3, 1 / 3), abs=0.2)
    alike = [np.ones((1, 8))] * 3
    assert similar_shares(alike, np.ones(8)) == pytest.approx(np.full(3, 1 / 3))


def test_windows_that_the_target_makes_likelier_are_selected_whatever_their_number() -> None:
    better, worse = RNG.normal(-1, 0.1, size=50), RNG.normal(0, 0.1, size=450)
    assert selected_shares([better, worse]) == pytest.approx([1, 0])
    assert selected_shares([worse, worse[:45]]) == pytest.approx([0.5, 0.5], abs=0.2)
