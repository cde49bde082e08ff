"""The prior of the Scheffe quadratic: four scales of coefficients and two of noise, by penalised marginal likelihood.

Everything is relative to one unit, the size of a partial derivative along the simplex. Before there is evidence the
landscape is a bowl whose bottom is half an edge of the simplex down the slope; that, and the penalty (every log scale
is normally distributed), is what keeps the fit sound while there are fewer equations than coefficients. Plain ridge
has neither, and loses its ranking there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky
from scipy.optimize import minimize

from search.surrogates.scheffe_rows import Coefficients, Rows, grams, inverse_of
from search.surrogates.surrogate import Floats, Observations

_CONSTANT_VARIANCE = 100.0
_CENTER = np.log([1.0, 1.0, 0.5, 0.5, 0.01, 0.03])
_SPREAD = np.array([1.0, 1.5, 1.5, 1.5, 1.5, 1.5])
_BOUNDS = [(-7.0, 6.0)] * 4 + [(-9.0, 2.0)] * 2
_MOST_EQUATIONS = 400  # so that choosing costs a fraction of a second at any number of partitions


@dataclass(frozen=True, eq=False)
class Prior:
    """What is believed before the equations: values about `center`, slopes about `unit`, nats per unit of weight.

    `log_scales` (6,), in units: the linear coefficients, the shared diagonal, the own diagonals, the pairs, the noise
    of a value, the noise of a derivative.
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
        """The noise variance of a value, in units."""
        return float(np.exp(2 * self.log_scales[4]))

    def noise(self, rows: Rows) -> Floats:
        """The noise variance (R,) of each equation, in units."""
        return _noise(self.log_scales, rows.is_value)

    def residuals(self, rows: Rows) -> Floats:
        """Return what the equations (R,) say beyond the prior's mean, in units."""
        targets: Floats = (rows.target - self.center * rows.constant) / self.unit - _bowl(rows.u.shape[1]) * rows.trace
        return targets

    def restore(self, coefficients: Coefficients) -> Coefficients:
        """Add the prior's mean to coefficients in units, and give them in nats per token."""
        partitions = len(coefficients.linear)
        bowl = coefficients.quadratic + _bowl(partitions) * np.eye(partitions)
        constant = self.center + self.unit * coefficients.constant
        return Coefficients(constant, self.unit * coefficients.linear, self.unit * bowl)


def fit_prior(observations: Observations) -> Prior:
    """Find the scales of highest penalised marginal likelihood on at most some 400 of the equations."""
    rows = Rows.of(_some(observations))
    center = _CENTER + np.log(_bowl(observations.weights.shape[1])) * (np.arange(6) == 1)
    start = Prior(float(observations.values.mean()), _unit(observations), center)
    likelihood = _Likelihood(list(grams(rows, rows)), rows.is_value, start.residuals(rows), center)
    found = minimize(likelihood, center, jac=True, method="L-BFGS-B", bounds=_BOUNDS, options={"maxiter": 40})
    return Prior(start.center, start.unit, np.asarray(found.x, dtype=np.float64))


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """Negative log marginal likelihood plus penalty (Rasmussen and Williams 2006, eqs. 5.8 and 5.9)."""

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
    """Return the a for which a |w|^2, at slopes of one unit, has its bottom half an edge of the simplex away."""
    return float(np.sqrt(partitions / 2))


def _noise(log_scales: Floats, is_value: npt.NDArray[np.bool_]) -> Floats:
    value, derivative = np.exp(2 * log_scales[4:])
    return np.where(is_value, float(value), float(derivative))


def _unit(observations: Observations) -> float:
    """Return the root mean square of the steepest gradient along the simplex; without any, what the values imply."""
    known = observations.gradients[observations.differentiated]
    if len(known):
        unit = float(known.std(axis=1).max())
    else:
        unit = float(observations.values.std() / max(np.sqrt(observations.weights.var(axis=0).sum()), 1e-9))
    return unit if unit > 1e-9 else 1.0


def _some(observations: Observations) -> Observations:
    """Keep evaluations at even steps, as many as hold the most equations."""
    equations = len(observations) + int(observations.differentiated.sum()) * (observations.weights.shape[1] - 1)
    most = max(3, len(observations) * _MOST_EQUATIONS // equations)
    if most >= len(observations):
        return observations
    return observations.take(np.linspace(0, len(observations) - 1, most).astype(np.int64))
