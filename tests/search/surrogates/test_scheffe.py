"""The Scheffe quadratic: what gradients buy, and that every shortcut equals the long way round."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from search.surrogates.scheffe import _CENTER, ScheffeSurrogate, _Likelihood, fit_prior
from search.surrogates.scheffe_rows import Coefficients, Rows, covariance, grams, variances
from search.surrogates.surrogate import Observations


class _Landscape:
    """The second-order loss of merges of K members: task vectors with a common part, under a curved loss."""

    def __init__(self, partitions: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        size = 4 * partitions
        members = rng.normal(size=(partitions, size)) * rng.uniform(0.7, 1.3, size=(partitions, 1)) / np.sqrt(size)
        members += 0.55 * rng.normal(size=size) / np.sqrt(size)
        curvature = 0.3 * np.exp(rng.normal(0, 1, size=size) - 0.5)
        bottom = 1.5 * rng.dirichlet(np.full(partitions, 0.5)) @ members
        self.truth = Coefficients(4.0, -2 * (members * curvature) @ bottom, (members * curvature) @ members.T)
        self.known = np.vstack([np.full(partitions, 1 / partitions), rng.dirichlet(np.ones(partitions), size=40)])
        self.unseen = rng.dirichlet(np.ones(partitions), size=60)

    def observations(self, count: int) -> Observations:
        weights = self.known[:count]
        slopes = self.truth.linear + 2 * weights @ self.truth.quadratic
        return Observations(weights, self.truth.value(weights), slopes)

    def spearman(self, count: int) -> float:
        surrogate = ScheffeSurrogate()
        surrogate.fit(self.observations(count))
        return float(spearmanr(surrogate.predict(self.unseen).mean, self.truth.value(self.unseen)).statistic)


@pytest.mark.parametrize("seed", range(4))
def test_eight_gradients_pin_down_eight_partitions_and_fewer_never_spoil_the_ranking(seed: int) -> None:
    landscape = _Landscape(8, seed)
    ranks = [landscape.spearman(count) for count in range(1, 9)]
    assert min(ranks[:7]) > 0.85
    assert ranks[7] > 0.99


def test_thirty_three_gradients_rank_sixty_four_partitions() -> None:
    assert _Landscape(64, 0).spearman(33) > 0.99


def test_values_alone_find_the_quadratic_when_there_are_enough() -> None:
    landscape = _Landscape(6, 1)
    surrogate = ScheffeSurrogate()
    surrogate.fit(Observations.of_values(landscape.known, landscape.truth.value(landscape.known)))
    error = surrogate.predict(landscape.unseen).mean - landscape.truth.value(landscape.unseen)
    assert np.abs(error).max() < 0.01 * landscape.truth.value(landscape.unseen).std()


def test_the_part_of_a_gradient_that_leaves_the_simplex_does_not_matter() -> None:
    landscape = _Landscape(5, 2)
    plain = landscape.observations(4)
    tilted = Observations(plain.weights, plain.values, plain.gradients + 7.0)
    predictions = []
    for observations in (plain, tilted):
        surrogate = ScheffeSurrogate()
        surrogate.fit(observations)
        predictions.append(surrogate.predict(landscape.unseen))
    assert predictions[0].mean == pytest.approx(predictions[1].mean, abs=1e-4)
    assert predictions[0].deviation == pytest.approx(predictions[1].deviation, abs=1e-4)


def test_leaving_an_evaluation_out_leaves_its_gradient_out_too() -> None:
    observations = _Landscape(4, 3).observations(8)
    surrogate = ScheffeSurrogate()
    surrogate.fit(observations)
    held_out = surrogate.out_of_fold()
    for left_out in range(8):
        rest = observations.take(np.arange(8) != left_out)
        other = ScheffeSurrogate()
        other._choice = (7, fit_prior(observations))
        other.fit(rest)
        prediction = other.predict(observations.weights[[left_out]])
        assert held_out.mean[left_out] == pytest.approx(prediction.mean[0], abs=1e-5)
        assert held_out.deviation[left_out] == pytest.approx(prediction.deviation[0], rel=1e-2)


def test_gram_matrices_are_inner_products_of_the_coefficients_they_avoid() -> None:
    rows = Rows.of(_Landscape(3, 4).observations(2))
    matrices = [(np.outer(p, q) + np.outer(q, p)) / 2 for p, q in zip(rows.p, rows.q, strict=True)]
    diagonals = np.array([np.diag(matrix) for matrix in matrices])
    pairs = np.array([(matrix - np.diag(np.diag(matrix))).ravel() for matrix in matrices])
    traces = diagonals.sum(axis=1, keepdims=True)
    explicit = [rows.constant[:, None], rows.u, traces, diagonals, pairs]
    for gram, variance, features in zip(grams(rows, rows), variances(rows), explicit, strict=True):
        assert gram == pytest.approx(features @ features.T)
        assert variance == pytest.approx((features**2).sum(axis=1))


@pytest.mark.parametrize("gradients", [0, 2, 5])
def test_a_covariance_is_the_sum_of_the_gram_matrices_times_their_variances(gradients: int) -> None:
    landscape, rng = _Landscape(6, 4), np.random.default_rng(gradients)
    evidence = landscape.observations(5)
    evidence.gradients[gradients:] = np.nan
    rows, asked = Rows.of(evidence), Rows.of_values(landscape.unseen, np.zeros(len(landscape.unseen)))
    assert len(rows.target) == 5 + 5 * gradients
    group_variances = rng.uniform(0.1, 3, size=5)
    for right in (rows, asked):
        summed = sum(one * gram for one, gram in zip(group_variances, grams(rows, right), strict=True))
        assert covariance(rows, right, group_variances) == pytest.approx(summed, rel=1e-10, abs=1e-12)


def test_the_likelihood_s_slopes_are_its_differences() -> None:
    rows = Rows.of(_Landscape(4, 5).observations(3))
    residuals = rows.target - 4 * rows.constant
    likelihood = _Likelihood(list(grams(rows, rows)), rows.is_value, residuals, _CENTER)
    at = _CENTER + 0.3
    _, slopes = likelihood(at)
    for index, step in enumerate(1e-5 * np.eye(6)):
        assert slopes[index] == pytest.approx((likelihood(at + step)[0] - likelihood(at - step)[0]) / 2e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("weights", "values", "gradients", "message"),
    [
        (np.ones((2, 3)), np.ones(3), np.ones((2, 3)), r"weights \(N, K\) and values \(N,\)"),
        (np.ones((2, 3)), np.ones(2), np.ones((2, 2)), "gradients have the shape of the weights"),
        (np.ones((2, 3)), np.array([1, np.inf]), np.ones((2, 3)), "must be finite"),
        (np.ones((1, 2)), np.ones(1), np.array([[1, np.nan]]), "gradient 0 is known in part"),
    ],
)
def test_observations_that_do_not_fit_together_are_refused(weights, values, gradients, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Observations(weights, values, gradients)
