"""The noise floor: found again in data made with a known one."""

import numpy as np
import pytest

from objectives.agreement.noise import NoiseFloor

MIXTURES, ORDERS = 300, 4
SHARED, OWN = 0.03, 0.01


def _losses() -> list[np.ndarray]:
    """Losses of mixtures in the same orders: an effect of the order that all share, and noise of each one's own."""
    rng = np.random.default_rng(0)
    table = (
        rng.normal(4, 1, (MIXTURES, 1)) + SHARED * rng.normal(size=ORDERS) + OWN * rng.normal(size=(MIXTURES, ORDERS))
    )
    return list(table)


def test_what_all_mixtures_share_in_an_order_is_no_noise_of_a_difference() -> None:
    losses = _losses()
    floor = NoiseFloor.of(losses, crossed=True)
    assert floor is not None
    differences = np.array(losses)[::2] - np.array(losses)[1::2]
    assert floor.deviation_of_difference == pytest.approx(np.sqrt(2) * OWN, rel=0.1)
    assert floor.deviation_of_difference == pytest.approx(np.sqrt(differences.var(axis=1, ddof=1).mean()), rel=0.1)
    assert floor.margin == pytest.approx(1.96 * floor.deviation_of_difference)


def test_the_deviation_is_the_pooled_one_with_its_chi_squared_interval() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        groups = [rng.normal(k, 0.5, size=3) for k in range(4)]
        floor = NoiseFloor.of([*groups, np.array([9.0])])
        assert floor is not None and floor.freedom == 8
        assert floor.deviation == pytest.approx(np.sqrt(np.mean([group.var(ddof=1) for group in groups])))
        assert floor.deviation_of_difference == pytest.approx(np.sqrt(2) * floor.deviation)
        inside += floor.low <= 0.5 <= floor.high
    assert 180 <= inside <= 199, "about 95 % of the intervals hold the truth"


def test_nothing_trained_twice_measures_nothing() -> None:
    assert NoiseFloor.of([np.array([1.0]), np.array([2.0])]) is None


def test_the_ceiling_of_pearson_is_reached_by_the_losses_without_noise() -> None:
    rng = np.random.default_rng(2)
    clean = rng.normal(size=4000)
    noisy = clean + 0.7 * rng.normal(size=4000)
    floor = NoiseFloor.of([rng.normal(0, 0.7, size=2000)])
    assert floor is not None
    assert floor.ceiling(noisy) == pytest.approx(np.corrcoef(clean, noisy)[0, 1], abs=0.02)
    assert floor.ceiling(np.zeros(5)) == floor.ceiling(0.01 * clean) == 0
