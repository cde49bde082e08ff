"""Calibration: leave-one-out in closed form is leaving one out, and intervals hold what they promise."""

import math

import numpy as np
import pytest

from objectives.agreement.calibration import ALPHA, FAMILIES, Calibration


def _data(count: int, seed: int = 0, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixtures of five partitions; the proxy is off by a line and by what two partitions do."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(5), size=count)
    proxy = 4 + weights @ np.array([0.5, 0.1, 0.0, -0.3, 0.2])
    truth = 0.3 + 0.9 * proxy + weights @ np.array([0.4, -0.4, 0.0, 0.0, 0.0]) + noise * rng.normal(size=count)
    return weights, proxy, truth


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_errors_and_intervals_are_those_of_really_leaving_one_out(family) -> None:
    weights, proxy, truth = _data(14)
    asked, at = _data(3, seed=5)[:2]
    fitted = Calibration.fit(weights, proxy, truth, [family])
    without = []
    for i in range(14):
        kept = np.arange(14) != i
        part = Calibration.fit(weights[kept], proxy[kept], truth[kept], [family])
        assert fitted.errors[i] == pytest.approx(truth[i] - part.predict(weights[[i]], proxy[[i]])[0], abs=1e-6)
        without.append(part.predict(asked, at))
    sizes, rank = np.abs(fitted.errors), math.floor(15 * ALPHA)
    for m, interval in enumerate(fitted.intervals(asked, at)):
        lows, highs = (
            np.sort([one[m] + sign * size for one, size in zip(without, sizes, strict=True)]) for sign in (-1, 1)
        )
        assert interval.low == pytest.approx(min(lows[rank - 1], interval.value), abs=1e-6)
        assert interval.high == pytest.approx(max(highs[-rank], interval.value), abs=1e-6)


def test_the_stiffest_family_that_errs_hardly_more_is_taken() -> None:
    weights, proxy, truth = _data(40)
    assert "weights" in Calibration.fit(weights, proxy, truth).family.name
    offsets = 0
    for seed in range(20):
        shifted = proxy + 0.1 + 0.01 * np.random.default_rng(seed).normal(size=40)
        offsets += Calibration.fit(weights, proxy, shifted).family.name == "offset"
    assert offsets >= 15
    near_one = np.vstack([0.95 * np.eye(5) + 0.01, weights])
    at = 4 + near_one @ np.array([0.5, 0.1, 0.0, -0.3, 0.2])
    fading = (
        at + (1 - (near_one**2).sum(axis=1)) * (0.2 + 0.5 * (at - 4)) + 0.001 * np.random.default_rng(0).normal(size=45)
    )
    assert Calibration.fit(near_one, at, fading).family.name == "fading line"
    line = 1.5 * proxy - 2 + 0.001 * np.random.default_rng(0).normal(size=40)
    assert Calibration.fit(weights, proxy, line).family.name == "line"


def test_calibrating_halves_the_error_where_the_proxy_is_off() -> None:
    weights, proxy, truth = _data(40)
    fitted = Calibration.fit(weights, proxy, truth)
    asked, at, unseen = _data(200, seed=7)
    calibrated = np.sqrt(np.mean((fitted.predict(asked, at) - unseen) ** 2))
    assert calibrated < 0.5 * np.sqrt(np.mean((at - unseen) ** 2))


def test_intervals_hold_about_as_many_unseen_truths_as_they_say() -> None:
    held = []
    for seed in range(60):
        weights, proxy, truth = _data(24, seed=seed)
        asked, at, unseen = _data(20, seed=1000 + seed)
        intervals = Calibration.fit(weights, proxy, truth).intervals(asked, at)
        held += [one.low <= value <= one.high for one, value in zip(intervals, unseen, strict=True)]
    assert 1 - 2 * ALPHA <= np.mean(held) <= 0.98


def test_with_few_truths_the_interval_is_infinite_and_with_fewer_there_is_none() -> None:
    weights, proxy, truth = _data(8)
    (interval,) = Calibration.fit(weights, proxy, truth).intervals(weights[:1], proxy[:1])
    assert (interval.low, interval.high) == (-math.inf, math.inf) and math.isfinite(interval.value)
    with pytest.raises(ValueError, match="calibrating needs 6 trained mixtures or more: there are 5"):
        Calibration.fit(weights[:5], proxy[:5], truth[:5])
