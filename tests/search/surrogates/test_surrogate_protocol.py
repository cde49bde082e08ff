"""The suite of the `Surrogate` protocol: every implementation keeps these promises."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy.stats import spearmanr

from search.surrogates import automatic as registry
from search.surrogates.gaussian_process import FEW, TRANSFORMS, GaussianProcessSurrogate
from search.surrogates.mixing_law import MixingLawSurrogate
from search.surrogates.scheffe import ScheffeSurrogate
from search.surrogates.surrogate import ConformalSurrogate, Observations, Surrogate

SURROGATES: Mapping[str, Callable[[], Surrogate]] = {
    **registry.SURROGATES,
    "conformal": lambda: ConformalSurrogate(ScheffeSurrogate()),
}
RANKS = {"mixing_law": 0.8, "boosted_trees": 0.8}
"""The Spearman correlation owed on a quadratic from 40 evaluations; 0.95 where not said."""


def _mixtures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(6, 0.7), size=count)


def _quadratic(weights: np.ndarray) -> np.ndarray:
    optimum = np.array([0.5, 0.3, 0.2, 0, 0, 0])
    return 3 + ((weights - optimum) ** 2) @ np.array([1.0, 2, 0.5, 1, 1, 3])


@pytest.fixture(params=SURROGATES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def surrogate(name: str) -> Surrogate:
    return SURROGATES[name]()


def test_it_ranks_unseen_mixtures(surrogate: Surrogate, name: str) -> None:
    known, unseen = _mixtures(40, 0), _mixtures(60, 1)
    surrogate.fit(Observations.of_values(known, _quadratic(known)))
    prediction = surrogate.predict(unseen)
    assert prediction.mean.shape == prediction.deviation.shape == (60,)
    assert spearmanr(prediction.mean, _quadratic(unseen)).statistic > RANKS.get(name, 0.95)


def test_its_deviations_are_positive_and_cover_the_truth(surrogate: Surrogate) -> None:
    rng = np.random.default_rng(2)
    known, unseen = _mixtures(40, 0), _mixtures(200, 1)
    surrogate.fit(Observations.of_values(known, _quadratic(known) + rng.normal(0, 0.05, 40)))
    prediction = surrogate.predict(unseen)
    truth = _quadratic(unseen) + rng.normal(0, 0.05, 200)
    assert np.all(prediction.deviation > 0)
    assert np.mean(np.abs(truth - prediction.mean) < 2 * prediction.deviation) > 0.85


def test_out_of_fold_predictions_do_not_see_their_own_value(name: str) -> None:
    known = _mixtures(20, 0)
    values = _quadratic(known)
    shifted = values + 10 * (np.arange(20) == 4)
    before, after = SURROGATES[name](), SURROGATES[name]()
    before.fit(Observations.of_values(known, values))
    after.fit(Observations.of_values(known, shifted))
    assert before.out_of_fold().mean.shape == before.out_of_fold().deviation.shape == (20,)
    assert np.corrcoef(before.out_of_fold().mean, values)[0, 1] > 0.5
    assert abs(after.out_of_fold().mean[4] - shifted[4]) > 5


def test_the_same_evidence_gives_the_same_prediction_however_it_came(surrogate: Surrogate, name: str) -> None:
    known, unseen = _mixtures(18, 0), _mixtures(5, 1)
    evidence = Observations.of_values(known, _quadratic(known))
    for count in (8, 11, 12, 17, 18):
        surrogate.fit(evidence.take(slice(count)))
    fresh = SURROGATES[name]()
    fresh.fit(evidence)
    assert np.array_equal(surrogate.predict(unseen).mean, fresh.predict(unseen).mean)
    assert np.array_equal(surrogate.predict(unseen).deviation, fresh.predict(unseen).deviation)
    assert np.array_equal(surrogate.out_of_fold().mean, fresh.out_of_fold().mean)


def test_it_survives_little_and_degenerate_evidence(surrogate: Surrogate) -> None:
    known = np.vstack([np.eye(6)[:3], np.eye(6)[:1]])
    surrogate.fit(Observations.of_values(known, [1.0, 1.0, 1.0, 1.0]))
    prediction = surrogate.predict(_mixtures(3, 0))
    assert np.all(np.isfinite(prediction.mean)) and np.all(np.isfinite(prediction.deviation))
    assert np.all(np.isfinite(surrogate.out_of_fold().mean))


def test_it_survives_weights_that_never_change(surrogate: Surrogate) -> None:
    """A fixed partition, an excluded one, and a mixture asked twice."""
    free = np.random.default_rng(0).dirichlet(np.ones(4), size=12) * 0.75
    known = np.column_stack([np.full(12, 0.25), free, np.zeros(12)])
    known = np.vstack([known, known[:1]])
    surrogate.fit(Observations.of_values(known, _quadratic(known)))
    assert np.all(np.isfinite(surrogate.predict(known).mean)) and np.all(np.isfinite(surrogate.out_of_fold().deviation))


def test_gradients_are_welcome_even_where_they_are_not_used(surrogate: Surrogate) -> None:
    known = _mixtures(12, 0)
    slopes = [None if row % 3 else np.ones(6) for row in range(12)]
    surrogate.fit(Observations.of_gradients(known, _quadratic(known), slopes))
    assert np.all(np.isfinite(surrogate.predict(_mixtures(3, 1)).mean))


def test_asking_before_fitting_is_an_error(surrogate: Surrogate) -> None:
    for ask in (lambda: surrogate.predict(_mixtures(1, 0)), surrogate.out_of_fold):
        with pytest.raises(RuntimeError, match="fit the surrogate before asking it"):
            ask()


def test_closed_form_leave_one_out_is_what_leaving_one_out_gives() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor

    count = FEW + 10
    known = _mixtures(count, 3)
    values = _quadratic(known)
    surrogate = GaussianProcessSurrogate(("raw",))
    surrogate.fit(Observations.of_values(known, values))
    fitted = surrogate.fitted.law
    features = fitted.features(known)
    center, spread = values.mean(), values.std()
    for left_out in range(5):
        rest = np.arange(count) != left_out
        plain = GaussianProcessRegressor(fitted.kernel, optimizer=None)
        plain.fit(features[rest], (values[rest] - center) / spread)
        mean, deviation = plain.predict(features[[left_out]], return_std=True)
        assert surrogate.out_of_fold().mean[left_out] == pytest.approx(mean[0] * spread + center, abs=1e-6)
        assert surrogate.out_of_fold().deviation[left_out] == pytest.approx(deviation[0] * spread, rel=1e-3)


@pytest.mark.parametrize("family", ["gaussian_process", "additive_process"])
def test_few_values_that_mean_nothing_are_not_predicted_out_of_fold(family: str) -> None:
    """Hyperparameters fitted to all would have it that they are."""
    values = np.random.default_rng(5).normal(size=30)
    surrogate = registry.SURROGATES[family]()
    surrogate.fit(Observations.of_values(np.random.default_rng(6).dirichlet(np.full(17, 0.5), size=30), values))
    assert np.sqrt(np.mean((surrogate.out_of_fold().mean - values) ** 2)) >= 0.95 * values.std()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_transform_is_chosen_by_what_the_values_follow(transform: str) -> None:
    known = _mixtures(60, 4)
    values = TRANSFORMS[transform](known) @ np.array([1.0, -2, 0.5, 1.5, -1, 0.3])
    surrogate = GaussianProcessSurrogate()
    surrogate.fit(Observations.of_values(known, values))
    assert surrogate.fitted.law.features.transform == transform


def test_the_mixing_law_finds_the_law_it_was_drawn_from() -> None:
    known, unseen = _mixtures(60, 7), _mixtures(50, 8)
    exponents = np.array([0.5, -1.0, -3.0, 0.2, -0.5, 1.0])
    surrogate = MixingLawSurrogate()
    surrogate.fit(Observations.of_values(known, 2 + np.exp(known @ exponents)))
    assert np.abs(surrogate.predict(unseen).mean - 2 - np.exp(unseen @ exponents)).max() < 0.01
    law = surrogate.fitted.law
    assert law.center + law.spread * law.coefficients[0] == pytest.approx(2, abs=0.05)
    assert law.coefficients[1:] + np.log(law.spread) == pytest.approx(exponents, abs=0.1)


def test_the_mixing_law_s_one_step_leave_one_out_is_nearly_what_leaving_one_out_gives() -> None:
    known = _mixtures(40, 9)
    values = 2 + np.exp(known @ np.array([0.5, -1.0, -3.0, 0.2, -0.5, 1.0]))
    values = values + np.random.default_rng(0).normal(0, 0.05, 40)
    surrogate = MixingLawSurrogate()
    surrogate.fit(Observations.of_values(known, values))
    exact = []
    for left_out in range(40):
        other = MixingLawSurrogate()
        other._choice = surrogate._choice
        other.fit(Observations.of_values(known, values).take(np.arange(40) != left_out))
        exact.append(other.predict(known[[left_out]]).mean[0])
    assert np.abs(surrogate.out_of_fold().mean - exact).max() < 0.02
