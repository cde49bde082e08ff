"""Scheffe quadratic: L(w) = c + b'w + w'Qw, a Bayesian linear regression on values and gradients.

Merges nearly follow it. An evaluation with its gradient is K equations, so about K / 2 evaluations determine the
K (K + 1) / 2 coefficients; before them the prior decides. The dual has one unknown per equation (Rasmussen and
Williams 2006, section 2.2). The prior's mean is a bowl with its bottom half an edge of the simplex down the slope. Its
scales are found by penalised marginal likelihood: plain ridge loses its ranking from few equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky, solve_triangular

from search.surrogates.scheffe_rows import Coefficients, Rows, covariance, grams, inverse_of, variances
from search.surrogates.surrogate import Floats, Observations, Prediction, TwoStepSurrogate

_CONSTANT_VARIANCE = 100.0
_CENTER = np.log([1.0, 1.0, 0.5, 0.5, 0.01, 0.03])
_SPREAD = np.array([1.0, 1.5, 1.5, 1.5, 1.5, 1.5])
_BOUNDS = [(-7.0, 6.0)] * 4 + [(-9.0, 2.0)] * 2
_MOST_EQUATIONS = 400  # so that choosing costs a fraction of a second for any number of partitions
_CHUNK = 4_000_000
"""Entries of the largest matrix made while predicting: 32 MB."""


@dataclass(frozen=True, eq=False)
class Prior:
    """The belief before the equations.

    center: the mean of the values.
    unit: the size of a partial derivative along the simplex, nats per unit of weight.
    log_scales: (6,), in units: the linear coefficients, the shared diagonal, the own diagonals, the pairs, the noise of
        a value, the noise of a derivative.
    """

    center: float
    unit: float
    log_scales: Floats

    @property
    def variances(self) -> Floats:
        """The prior variances (5,) of the groups of coefficients, in units."""
        return np.concatenate([[_CONSTANT_VARIANCE], np.exp(2 * self.log_scales[:4])])

    @property
    def value_noise(self) -> float:
        return float(np.exp(2 * self.log_scales[4]))

    def noise(self, rows: Rows) -> Floats:
        """The noise variance (R,) of each equation, in units."""
        return _noise(self.log_scales, rows.is_value)

    def residuals(self, rows: Rows) -> Floats:
        """Return the targets of the equations (R,) less the prior's mean, in units."""
        targets: Floats = (rows.target - self.center * rows.constant) / self.unit - _bowl(rows.u.shape[1]) * rows.trace
        return targets

    def restore(self, coefficients: Coefficients) -> Coefficients:
        """Add the prior's mean to coefficients in units; the result is in nats per token."""
        partitions = len(coefficients.linear)
        bowl = coefficients.quadratic + _bowl(partitions) * np.eye(partitions)
        constant = self.center + self.unit * coefficients.constant
        return Coefficients(constant, self.unit * coefficients.linear, self.unit * bowl)


def fit_prior(observations: Observations) -> Prior:
    """Find the scales of highest penalised marginal likelihood, on some 400 equations at most."""
    rows = Rows.of(_some(observations))
    from scipy.optimize import minimize  # loads slowly

    center = _CENTER + np.log(_bowl(observations.weights.shape[1])) * (np.arange(6) == 1)
    start = Prior(float(observations.values.mean()), _unit(observations), center)
    likelihood = _Likelihood(list(grams(rows, rows)), rows.is_value, start.residuals(rows), center)
    found = minimize(likelihood, center, jac=True, method="L-BFGS-B", bounds=_BOUNDS, options={"maxiter": 40})
    return Prior(start.center, start.unit, np.asarray(found.x, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """Negative log marginal likelihood (Rasmussen and Williams 2006, eqs. 5.8, 5.9) plus a normal penalty."""

    grams: list[Floats]
    is_value: npt.NDArray[np.bool_]
    residuals: Floats
    center: Floats

    def __call__(self, log_scales: Floats) -> tuple[float, Floats]:
        """Return the value and its partial derivatives (6,) with respect to the log scales."""
        scales, noise = np.exp(2 * log_scales[:4]), _noise(log_scales, self.is_value)
        covariance = _CONSTANT_VARIANCE * self.grams[0] + np.diag(noise)
        for scale, gram in zip(scales, self.grams[1:], strict=True):
            covariance += scale * gram
        factor = cholesky(covariance, lower=True)
        inverse = inverse_of(factor)
        dual = inverse @ self.residuals
        away = (log_scales - self.center) / _SPREAD
        value = 0.5 * self.residuals @ dual + np.log(np.diag(factor)).sum() + 0.5 * away @ away
        slopes = inverse - np.outer(dual, dual)
        own = np.diag(slopes) * noise
        groups = [scale * np.vdot(slopes, gram) for scale, gram in zip(scales, self.grams[1:], strict=True)]
        return float(value), np.array([*groups, own[self.is_value].sum(), own[~self.is_value].sum()]) + away / _SPREAD


def _bowl(partitions: int) -> float:
    """Return the a of the bowl a |w|^2 with its bottom half an edge of the simplex away, at slopes of one unit."""
    return float(np.sqrt(partitions / 2))


def _noise(log_scales: Floats, is_value: npt.NDArray[np.bool_]) -> Floats:
    value, derivative = np.exp(2 * log_scales[4:])
    return np.where(is_value, float(value), float(derivative))


def _unit(observations: Observations) -> float:
    """Return the root mean square of the steepest gradient along the simplex; or an estimate from the values."""
    known = observations.gradients[observations.differentiated]
    if len(known):
        unit = float(known.std(axis=1).max())
    else:
        unit = float(observations.values.std() / max(np.sqrt(observations.weights.var(axis=0).sum()), 1e-9))
    return unit if unit > 1e-9 else 1.0


def _some(observations: Observations) -> Observations:
    """Keep evaluations at even steps, up to the most equations."""
    equations = len(observations) + int(observations.differentiated.sum()) * (observations.weights.shape[1] - 1)
    most = max(3, len(observations) * _MOST_EQUATIONS // equations)
    if most >= len(observations):
        return observations
    return observations.take(np.linspace(0, len(observations) - 1, most).astype(np.int64))


@dataclass(frozen=True, eq=False)
class _Posterior:
    """R equations solved under a prior: the Cholesky `factor` (R, R) of their covariance, and the `dual` (R,)."""

    prior: Prior
    rows: Rows
    factor: Floats
    dual: Floats

    @classmethod
    def of(cls, prior: Prior, rows: Rows) -> _Posterior:
        prior_covariance = covariance(rows, rows, prior.variances)
        np.einsum("ii->i", prior_covariance)[:] += prior.noise(rows)
        factor = cholesky(prior_covariance, lower=True, overwrite_a=True)
        return cls(prior, rows, factor, cho_solve((factor, True), prior.residuals(rows)))

    @cached_property
    def coefficients(self) -> Coefficients:
        return self.prior.restore(Coefficients.from_dual(self.rows, self.prior.variances, self.dual))

    def deviation(self, weights: Floats) -> Floats:
        """Return the predictive deviation (N,) of values at mixtures (N, K), noise included."""
        asked = Rows.of_values(weights, np.zeros(len(weights)))
        cross = covariance(self.rows, asked, self.prior.variances)
        explained = (solve_triangular(self.factor, cross, lower=True, overwrite_b=True) ** 2).sum(axis=0)
        left = np.maximum(self.prior.variances @ np.array(variances(asked)) - explained, 0.0)
        deviations: Floats = self.prior.unit * np.sqrt(left + self.prior.value_noise)
        return deviations

    def predict(self, weights: Floats) -> Prediction:
        parts = np.array_split(weights, max(1, len(weights) * len(self.dual) // _CHUNK))
        return Prediction(self.coefficients.value(weights), np.concatenate([self.deviation(part) for part in parts]))

    def out_of_fold(self) -> Prediction:
        """Leave out each evaluation's equations B: mean_B = y_B - S [C^-1 y]_B, covariance S = ([C^-1]_BB)^-1."""
        rows, count, inverse = self.rows, int(self.rows.is_value.sum()), inverse_of(self.factor)
        errors, deviations = np.empty(count), np.empty(count)
        for evaluation in range(count):
            block = np.flatnonzero(rows.evaluation == evaluation)
            covariance = np.linalg.inv(inverse[np.ix_(block, block)])
            errors[evaluation] = covariance[0] @ self.dual[block]
            deviations[evaluation] = np.sqrt(covariance[0, 0])
        return Prediction(rows.target[:count] - self.prior.unit * errors, self.prior.unit * deviations)


class ScheffeSurrogate(TwoStepSurrogate[Prior, _Posterior]):
    """A Scheffe quadratic; under a given prior, or under one chosen again as the evidence grows.

    A fold of `out_of_fold` is a whole evaluation, its value and its gradient together.
    """

    def __init__(self, prior: Prior | None = None) -> None:
        super().__init__()
        self._given = prior

    @property
    def coefficients(self) -> Coefficients:
        """The posterior mean of the quadratic. Raises `RuntimeError` before a fit."""
        return self.fitted.coefficients

    def choose(self, observations: Observations) -> Prior:
        return self._given or fit_prior(observations)

    def condition(self, choice: Prior, observations: Observations) -> _Posterior:
        return _Posterior.of(choice, Rows.of(observations))
