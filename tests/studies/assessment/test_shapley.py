"""Shapley values by enumeration and by antithetic orders: the axioms, and every shortcut against the long way round."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.errors import StudyError
from pool.mixture import Mixture
from search.surrogates.scheffe_rows import Coefficients
from studies.assessment.ablation.shapley import (
    Antithetic,
    Design,
    Enumeration,
    choose_design,
    merges_needed,
    scheffe_interactions,
    shapley_interactions,
)

SEEDS = st.integers(0, 2**32 - 1)


def _game(players: int, seed: int) -> np.ndarray:
    """Values (2^K, 2) of two games, with nothing to make them easy."""
    return np.random.default_rng(seed).normal(size=(2**players, 2))


def _values(design: Design, game: np.ndarray) -> np.ndarray:
    """The values of a design's coalitions in a game given by number."""
    return game[design.coalitions @ (1 << np.arange(design.coalitions.shape[1]))]


def _brute_force(game: np.ndarray, players: int) -> np.ndarray:
    """Average what each player adds over every order, by definition."""
    orders = list(permutations(range(players)))
    total = np.zeros((players, *game.shape[1:]))
    for order in orders:
        coalition = 0
        for player in order:
            total[player] += game[coalition | 1 << player] - game[coalition]
            coalition |= 1 << player
    return total / len(orders)


@settings(deadline=None, max_examples=30)
@given(players=st.integers(1, 5), seed=SEEDS)
def test_enumeration_equals_the_definition(players: int, seed: int) -> None:
    game = _game(players, seed)
    design = Enumeration(players)
    assert design.estimate(_values(design, game)) == pytest.approx(_brute_force(game, players), abs=1e-12)
    assert not design.standard_errors(game).any()


@settings(deadline=None, max_examples=50)
@given(players=st.integers(2, 7), merges=st.integers(25, 60), seed=SEEDS)
def test_values_sum_to_what_all_partitions_gain_together_however_they_are_found(
    players: int, merges: int, seed: int
) -> None:
    game = _game(players, seed)
    for design in (choose_design(players, merges, seed=seed), Enumeration(players)):
        assert design.estimate(_values(design, game)).sum(axis=0) == pytest.approx(game[-1] - game[0], abs=1e-9)
        assert not design.coalitions[0].any()
        assert len(np.unique(design.coalitions, axis=0)) == len(design.coalitions)
    assert len(choose_design(players, merges, seed=seed).coalitions) - 1 <= merges


@settings(deadline=None, max_examples=30)
@given(players=st.integers(2, 6), seed=SEEDS, data=st.data())
def test_partitions_that_do_the_same_get_the_same_and_one_that_does_nothing_gets_nothing(
    players: int, seed: int, data: st.DataObject
) -> None:
    members = Enumeration(players).coalitions
    one, other = data.draw(st.lists(st.integers(0, players - 1), min_size=2, max_size=2, unique=True))
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=players)
    weights[other] = weights[one]
    idle = np.exp(np.delete(members, one, axis=1) @ rng.normal(size=players - 1))
    shares = Enumeration(players).estimate(np.tanh(members @ weights))
    assert shares[one] == pytest.approx(shares[other], abs=1e-12)
    assert Enumeration(players).estimate(idle)[one] == pytest.approx(0, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(players=st.integers(3, 8), seed=SEEDS)
def test_one_antithetic_pair_is_exact_where_partitions_interact_in_pairs_only(players: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = Enumeration(players).coalitions.astype(float)
    game = members @ rng.normal(size=players) + ((members @ rng.normal(size=(players, players))) * members).sum(axis=1)
    design = Antithetic.draw(players, 1 + 2 * (players - 1), rng)
    assert len(design.orders) == 1
    exact = Enumeration(players).estimate(game)
    assert design.estimate(_values(design, game)) == pytest.approx(exact, abs=1e-9)


def test_the_stated_error_is_the_error_made_and_reversed_orders_make_it_smaller() -> None:
    players, runs = 6, 400
    game = _game(players, 3)[:, 0] * 0.3 + np.sqrt(Enumeration(players).coalitions.sum(axis=1))
    exact = Enumeration(players).estimate(game)
    off, claimed, alone = [], [], []
    for run in range(runs):
        design = Antithetic.draw(players, 1 + 2 * 8 * (players - 1), np.random.default_rng(run))
        assert len(design.orders) == 8
        values = _values(design, game)
        off.append(design.estimate(values) - exact)
        claimed.append(design.standard_errors(values))
        rng = np.random.default_rng([run, 1])
        unpaired = np.stack([[rng.permutation(players), rng.permutation(players)] for _ in range(8)])
        alone.append(Antithetic(unpaired).estimate(_values(Antithetic(unpaired), game)) - exact)
    made = np.sqrt(np.square(off).mean(axis=0))
    assert np.abs(np.mean(off, axis=0)).max() < 4 * made.max() / np.sqrt(runs), "no bias"
    assert np.sqrt(np.square(claimed).mean(axis=0)) == pytest.approx(made, rel=0.15)
    assert np.sqrt(np.square(off).mean()) < np.sqrt(np.square(alone).mean())


def test_everything_is_enumerated_where_the_merges_allow_it_and_too_few_are_refused() -> None:
    assert choose_design(8, 255, seed=0).exact
    assert not choose_design(8, 254, seed=0).exact
    assert choose_design(1, 1, seed=0).exact
    assert len(choose_design(40, 200, seed=0).coalitions) <= 201
    assert merges_needed(8) == 29 and not choose_design(8, 29, seed=0).exact
    with pytest.raises(
        StudyError, match="--coalitions 28 is too few .* of 8 partitions: .* needs 29, all coalitions 255"
    ):
        choose_design(8, 28, seed=0)


@settings(deadline=None, max_examples=20)
@given(players=st.integers(2, 5), seed=SEEDS)
def test_the_interaction_index_is_what_the_shapley_value_of_one_gains_from_the_other(players: int, seed: int) -> None:
    """I_ij is the Shapley value of i with j always there, minus that with j never there (Grabisch and Roubens)."""
    game = _game(players, seed)[:, 0]
    found = shapley_interactions(Enumeration(players), game).values
    assert found == pytest.approx(found.T) and not np.diag(found).any()
    numbers = np.arange(2**players)
    low, high = numbers & 1 == 0, numbers & 1 == 1  # without and with player 0
    gained = _brute_force(game[high], players - 1) - _brute_force(game[low], players - 1)
    assert found[0, 1:] == pytest.approx(gained, abs=1e-9)


def test_scheffe_cross_terms_are_those_of_the_quadratic_and_tell_how_much_an_even_merge_is_below_the_mean() -> None:
    rng = np.random.default_rng(5)
    members = rng.normal(size=(4, 12)) / np.sqrt(12)
    truth = Coefficients(4.0, rng.normal(size=4) * 0.1, members @ members.T)
    mixtures = [Mixture.from_array("abcd", weights) for weights in rng.dirichlet(np.ones(4), size=60)]
    losses = truth.value(np.stack([mixture.array for mixture in mixtures]))
    found = scheffe_interactions(mixtures, losses).values
    even, ends = truth.value(np.array([[0.5, 0.5, 0, 0]])), truth.value(np.eye(4)[:2])
    assert found[0, 1] / 4 == pytest.approx(ends.mean() - even[0], rel=0.02)
    assert found == pytest.approx(found.T) and not np.diag(found).any()
