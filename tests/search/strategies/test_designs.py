"""Computed mixtures: a spread in the space, nested, without members in disguise; UniMax, even as repetition allows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.mixture import Mixture
from search.space import CappedSimplex
from search.strategies.designs import draw, spread, unimax

NAMES = tuple("abcdefgh")
SPACES = {
    "plain": CappedSimplex.of(NAMES),
    "caps and floors": CappedSimplex.of(NAMES, caps={"a": 0.2, "b": 0.0}, floors={"c": 0.1}),
    "three members": CappedSimplex.of(NAMES, max_members=3),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_spread_is_feasible_nested_and_of_two_partitions_or_more(space: CappedSimplex) -> None:
    near = space.project(np.array([0.1, 0, 0.5, 0.4, 0, 0, 0, 0]))
    short = spread(space, 12, seed=3, before=[near], near=near)
    assert spread(space, 24, seed=3, before=[near], near=near)[:12] == short
    assert all(space.contains(mixture) and len(mixture.support) > 1 for mixture in short)
    assert len({mixture.digest for mixture in short}) == 12
    assert spread(space, 12, seed=4, before=[near], near=near) != short


def test_a_spread_keeps_more_distance_than_chance_and_every_third_is_near() -> None:
    space, near = SPACES["plain"], Mixture.of({name: float(name == "d") for name in NAMES})

    def least(mixtures: list[Mixture]) -> float:
        points = np.array([mixture.array for mixture in mixtures])
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 9 * np.eye(len(points))
        return float(apart.min(axis=1).mean())

    chance = np.mean([least([draw(space, np.random.default_rng([s, i])) for i in range(24)]) for s in range(10)])
    assert np.mean([least(spread(space, 24, seed=s, before=[])) for s in range(10)]) > 1.1 * chance
    mixtures = spread(space, 12, seed=0, before=[], near=near)
    assert all(mixture.as_dict()["d"] >= 0.5 for mixture in mixtures[2::3])


def test_a_space_of_single_partitions_has_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="no mixture of two partitions or more"):
        spread(CappedSimplex.of(NAMES, max_members=1), 3, seed=0, before=[])
    with pytest.raises(ValueError, match="no mixture of two partitions or more"):
        draw(CappedSimplex.of(NAMES, caps=dict.fromkeys(NAMES[1:], 0.0)), np.random.default_rng(0))


TOKENS = {"big": 1000, "small": 10, "middle": 100}


def test_a_budget_that_repeats_nothing_too_often_is_spread_evenly() -> None:
    assert unimax(TOKENS, 30, 1.0).as_dict() == pytest.approx({"big": 1 / 3, "small": 1 / 3, "middle": 1 / 3})


def test_small_partitions_are_used_up_and_the_rest_is_spread_evenly() -> None:
    shares = unimax(TOKENS, 210, 1.0).as_dict()
    assert shares == pytest.approx({"big": 100 / 210, "small": 10 / 210, "middle": 100 / 210})
    shares = unimax(TOKENS, 320, 1.0).as_dict()
    assert shares == pytest.approx({"big": 210 / 320, "small": 10 / 320, "middle": 100 / 320})
    assert unimax(TOKENS, 210, 4.0).as_dict()["small"] == pytest.approx(40 / 210)


def test_a_budget_beyond_all_epochs_is_proportional_to_tokens() -> None:
    assert unimax(TOKENS, 10_000, 1.0).as_dict()["small"] == pytest.approx(10 / 1110)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=8), st.floats(1, 1e10), st.floats(0.1, 8))
def test_nothing_is_repeated_too_often_and_smaller_ones_get_no_more(
    tokens: list[int], budget: float, epochs: float
) -> None:
    sizes = {f"p{k}": count for k, count in enumerate(tokens)}
    spent = min(budget, epochs * sum(tokens))
    shares = unimax(sizes, budget, epochs).as_dict()
    for name, share in shares.items():
        assert share * spent <= sizes[name] * epochs * (1 + 1e-9)
        assert all(share <= shares[other] + 1e-12 for other in sizes if sizes[other] >= sizes[name])


@pytest.mark.parametrize(("budget", "epochs"), [(0, 1.0), (10, 0.0), (float("nan"), 1.0)])
def test_a_budget_of_nothing_is_refused(budget: float, epochs: float) -> None:
    with pytest.raises(ValueError, match="budget and epochs must be above 0"):
        unimax(TOKENS, budget, epochs)
