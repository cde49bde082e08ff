"""The suite of the `Surrogate` protocol: every implementation keeps these promises."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

from search.surrogates.gaussian_process import TRANSFORMS, GaussianProcessSurrogate
from search.surrogates.surrogate import Surrogate

SURROGATES: dict[str, Callable[[], Surrogate]] = {"gaussian_process": GaussianProcessSurrogate}


def _mixtures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(6, 0.7), size=count)


def _quadratic(weights: np.ndarray) -> np.ndarray:
    optimum = np.array([0.5, 0.3, 0.2, 0, 0, 0])
    return 3 + ((weights - optimum) ** 2) @ np.array([1.0, 2, 0.5, 1, 1, 3])


@pytest.fixture(params=SURROGATES)
def surrogate(request: pytest.FixtureRequest) -> Surrogate:
    return SURROGATES[request.param]()


def test_it_ranks_unseen_mixtures(surrogate: Surrogate) -> None:
    known, unseen = _mixtures(40, 0), _mixtures(60, 1)
    surrogate.fit(known, _quadratic(known))
    prediction = surrogate.predict(unseen)
    assert prediction.mean.shape == prediction.deviation.shape == (60,)
    assert spearmanr(prediction.mean, _quadratic(unseen)).statistic > 0.95


def test_its_deviations_are_positive_and_cover_the_truth(surrogate: Surrogate) -> None:
    rng = np.random.default_rng(2)
    known, unseen = _mixtures(40, 0), _mixtures(200, 1)
    surrogate.fit(known, _quadratic(known) + rng.normal(0, 0.05, 40))
    prediction = surrogate.predict(unseen)
    truth = _quadratic(unseen) + rng.normal(0, 0.05, 200)
    assert np.all(prediction.deviation > 0)
    assert np.mean(np.abs(truth - prediction.mean) < 2 * prediction.deviation) > 0.85


def test_out_of_fold_predictions_do_not_see_their_own_value(surrogate: Surrogate) -> None:
    known = _mixtures(20, 0)
    values = _quadratic(known)
    surrogate.fit(known, values)
    before = surrogate.out_of_fold().mean
    assert before.shape == (20,)
    assert np.corrcoef(before, values)[0, 1] > 0.8
    refitted = [surrogate.__class__() for _ in range(3)]
    for left_out, other in enumerate(refitted):
        rest = np.arange(20) != left_out
        other.fit(known[rest], values[rest])
        assert abs(other.predict(known[[left_out]]).mean[0] - before[left_out]) < 3 * np.std(values)


def test_the_same_evidence_gives_the_same_prediction_however_it_came(surrogate: Surrogate) -> None:
    known, unseen = _mixtures(30, 0), _mixtures(5, 1)
    values = _quadratic(known)
    for count in range(8, 31):
        surrogate.fit(known[:count], values[:count])
    fresh = surrogate.__class__()
    fresh.fit(known, values)
    assert np.array_equal(surrogate.predict(unseen).mean, fresh.predict(unseen).mean)
    assert np.array_equal(surrogate.predict(unseen).deviation, fresh.predict(unseen).deviation)


def test_it_survives_little_and_degenerate_evidence(surrogate: Surrogate) -> None:
    known = np.vstack([np.eye(6)[:3], np.eye(6)[:1]])
    surrogate.fit(known, np.array([1.0, 1.0, 1.0, 1.0]))
    prediction = surrogate.predict(_mixtures(3, 0))
    assert np.all(np.isfinite(prediction.mean)) and np.all(np.isfinite(prediction.deviation))
    assert np.all(np.isfinite(surrogate.out_of_fold().mean))


def test_asking_before_fitting_is_an_error(surrogate: Surrogate) -> None:
    with pytest.raises(RuntimeError, match="fit the surrogate"):
        surrogate.predict(_mixtures(1, 0))


def test_closed_form_leave_one_out_is_what_leaving_one_out_gives() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor

    known = _mixtures(12, 3)
    values = _quadratic(known)
    surrogate = GaussianProcessSurrogate()
    surrogate.fit(known, values)
    fitted, _ = surrogate._ready()
    features = fitted.features(known)
    center, spread = values.mean(), values.std()
    for left_out in range(12):
        rest = np.arange(12) != left_out
        plain = GaussianProcessRegressor(fitted.kernel, optimizer=None)
        plain.fit(features[rest], (values[rest] - center) / spread)
        mean, deviation = plain.predict(features[[left_out]], return_std=True)
        assert surrogate.out_of_fold().mean[left_out] == pytest.approx(mean[0] * spread + center, abs=1e-6)
        assert surrogate.out_of_fold().deviation[left_out] == pytest.approx(deviation[0] * spread, rel=1e-3)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_transform_is_chosen_by_what_the_values_follow(name: str) -> None:
    known = _mixtures(60, 4)
    values = TRANSFORMS[name](known) @ np.array([1.0, -2, 0.5, 1.5, -1, 0.3])
    surrogate = GaussianProcessSurrogate()
    surrogate.fit(known, values)
    assert surrogate.transform == name
