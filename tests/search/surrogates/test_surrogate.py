"""Conformal calibration: the coverage that was asked for is the coverage there is."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from search.surrogates.additive_process import AdditiveProcessSurrogate
from search.surrogates.automatic import BoostedTreesSurrogate
from search.surrogates.gaussian_process import GaussianProcessSurrogate
from search.surrogates.mixing_law import MixingLawSurrogate
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import ConformalSurrogate, Floats, Observations, Prediction, Surrogate

SLOPES = np.array([1.0, -2, 0.5, 1.5, -1])


def _coverage(inner: Surrogate, seed: int, coverage: float, count: int = 60) -> float:
    """Draw a noisy quadratic with a kink, so that no family is right, and see how many unseen values are covered."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(5), size=count + 300)
    values = weights**2 @ rng.permutation(SLOPES) + np.abs(weights[:, 0] - 0.3) + rng.normal(0, 0.1, count + 300)
    surrogate = ConformalSurrogate(inner, coverage=coverage)
    surrogate.fit(Observations.of_values(weights[:count], values[:count]))
    prediction = surrogate.predict(weights[count:])
    away = np.abs(values[count:] - prediction.mean)
    return float(np.mean(away < norm.ppf((1 + coverage) / 2) * prediction.deviation))


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize(
    "make",
    [ScheffeSurrogate, MixingLawSurrogate, GaussianProcessSurrogate, AdditiveProcessSurrogate],
)
def test_unseen_values_are_covered_as_often_as_asked(make: Callable[[], Surrogate], coverage: float) -> None:
    covered = [_coverage(make(), seed, coverage) for seed in range(8)]
    assert abs(np.mean(covered) - coverage) < 0.05


def test_trees_are_covered_too() -> None:
    assert np.mean([_coverage(BoostedTreesSurrogate(), seed, 0.9) for seed in range(3)]) > 0.85


class _TooSure:
    """Predicts zero, and claims a tenth of the deviation that there is."""

    def fit(self, observations: Observations) -> None:
        self._count = len(observations)

    def predict(self, weights: Floats) -> Prediction:
        return Prediction(np.zeros(len(weights)), np.full(len(weights), 0.1))

    def out_of_fold(self) -> Prediction:
        return Prediction(np.zeros(self._count), np.full(self._count, 0.1))


def test_a_surrogate_that_is_too_sure_is_widened() -> None:
    rng = np.random.default_rng(0)
    surrogate = ConformalSurrogate(_TooSure())
    surrogate.fit(Observations.of_values(rng.dirichlet(np.ones(3), size=500), rng.normal(size=500)))
    assert surrogate.factor == pytest.approx(10, rel=0.15)
    assert surrogate.predict(np.eye(3)).deviation == pytest.approx(surrogate.factor * 0.1)


def test_with_few_evaluations_the_largest_error_decides() -> None:
    surrogate = ConformalSurrogate(_TooSure(), coverage=0.9)
    surrogate.fit(Observations.of_values(np.eye(3), [0.0, 0.1, -0.5]))
    assert surrogate.factor == pytest.approx(0.5 / 0.1 / norm.ppf(0.95))


def test_no_errors_at_all_still_leave_a_deviation() -> None:
    surrogate = ConformalSurrogate(_TooSure())
    surrogate.fit(Observations.of_values(np.eye(3), [0.0, 0.0, 0.0]))
    assert np.all(surrogate.predict(np.eye(3)).deviation > 0)


@pytest.mark.parametrize("coverage", [0.0, 1.0])
def test_a_coverage_that_is_none_is_refused(coverage: float) -> None:
    with pytest.raises(ValueError, match="inside"):
        ConformalSurrogate(ScheffeSurrogate(), coverage=coverage)
