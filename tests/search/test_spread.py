"""The spread of mixtures to train: in the space, nested, spread out, and no member in disguise."""

import numpy as np
import pytest

from pool.mixture import Mixture
from search.designs import draw, spread
from search.space import CappedSimplex

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
