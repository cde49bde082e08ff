"""Log-linear mixing law: L(w) = c + exp(t'w) (Ye et al. 2024, arXiv 2403.16952, eq. 1, its k absorbed by sum w = 1).

Fitted by ridge-penalised least squares from a few floors c. Deviations are those of the residuals and, by the delta
method, of the coefficients. Gradients are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.surrogates.surrogate import Floats, Observations, Prediction, TwoStepSurrogate

_PENALTIES = (1e-4, 1e-2, 1e-1, 1.0)
_FLOORS = (0.1, 1.0, 10.0)
_STEEPEST = 30.0  # exp(30) spreads are no loss, and beyond them exp overflows on the way


@dataclass(frozen=True, eq=False)
class _Law:
    """Coefficients (1 + K,), the floor first, for values standardised by `center` and `spread`."""

    center: float
    spread: float
    penalty: float
    coefficients: Floats
    covariance: Floats
    noise: float

    def predict(self, weights: Floats) -> Prediction:
        slopes = _slopes(self.coefficients, weights)
        variance = ((slopes @ self.covariance) * slopes).sum(axis=1) + self.noise
        mean = _standard_values(self.coefficients, weights)
        return Prediction(self.center + self.spread * mean, self.spread * np.sqrt(variance))

    def leave_one_out(self, weights: Floats, values: Floats) -> Prediction:
        """Leave out each value: one Gauss-Newton step from the fit to all, exact where the law is linear."""
        slopes = _slopes(self.coefficients, weights)
        leverage = np.minimum(((slopes @ self.covariance) * slopes).sum(axis=1) / self.noise, 0.999)
        errors = (values - self.predict(weights).mean) / (1 - leverage)
        return Prediction(values - errors, self.spread * np.sqrt(self.noise / (1 - leverage)))


@dataclass(frozen=True, eq=False)
class _Fitted:
    law: _Law
    observations: Observations

    def predict(self, weights: Floats) -> Prediction:
        return self.law.predict(weights)

    def out_of_fold(self) -> Prediction:
        return self.law.leave_one_out(self.observations.weights, self.observations.values)


class MixingLawSurrogate(TwoStepSurrogate[_Law, _Fitted]):
    """A log-linear mixing law; its penalty and start are chosen again as the evidence grows."""

    def choose(self, observations: Observations) -> _Law:
        weights, values = observations.weights, observations.values
        standard = (values - values.mean()) / _spread(values)
        starts = [_start(weights, standard, floor) for floor in _FLOORS]
        laws = [_fit(weights, values, penalty, start) for penalty in _PENALTIES for start in starts]
        return min(laws, key=lambda law: float(np.mean((law.leave_one_out(weights, values).mean - values) ** 2)))

    def condition(self, choice: _Law, observations: Observations) -> _Fitted:
        law = _fit(observations.weights, observations.values, choice.penalty, choice.coefficients)
        return _Fitted(law, observations)


def _start(weights: Floats, standard: Floats, below: float) -> Floats:
    """Put the floor so far below the lowest value, and regress the logarithm of the rest."""
    floor = standard.min() - below
    logarithms = np.log(standard - floor)
    gram = weights.T @ weights + 1e-2 * np.eye(weights.shape[1])
    return np.concatenate([[floor], np.linalg.solve(gram, weights.T @ logarithms)])


def _fit(weights: Floats, values: Floats, penalty: float, start: Floats) -> _Law:
    center, spread, roots = float(values.mean()), _spread(values), _penalty_rows(penalty, weights.shape[1])
    standard = (values - center) / spread

    def errors(coefficients: Floats) -> Floats:
        return np.concatenate([_standard_values(coefficients, weights) - standard, roots @ coefficients])

    from scipy.optimize import least_squares  # loads slowly

    def slopes(coefficients: Floats) -> Floats:
        return np.concatenate([_slopes(coefficients, weights), roots])

    found: Floats = least_squares(errors, start, jac=slopes, max_nfev=60).x
    at = _slopes(found, weights)
    inverse = np.asarray(np.linalg.inv(at.T @ at + roots.T @ roots), dtype=np.float64)
    left = np.sum((_standard_values(found, weights) - standard) ** 2)
    freedom = max(len(values) - float(np.vdot(at @ inverse, at)), 1.0)
    noise = max(float(left) / freedom, 1e-8)
    return _Law(center, spread, penalty, found, noise * inverse, noise)


def _penalty_rows(penalty: float, partitions: int) -> Floats:
    """Return the root (1 + 2K, 1 + K) of the penalty: slopes are drawn to their mean, all faintly to zero."""
    rows = np.zeros((1 + 2 * partitions, 1 + partitions))
    rows[: 1 + partitions] = np.sqrt(1e-4 * penalty) * np.eye(1 + partitions)
    rows[1 + partitions :, 1:] = np.sqrt(penalty) * (np.eye(partitions) - 1 / partitions)
    return rows


def _standard_values(coefficients: Floats, weights: Floats) -> Floats:
    values: Floats = coefficients[0] + np.exp(np.minimum(weights @ coefficients[1:], _STEEPEST))
    return values


def _slopes(coefficients: Floats, weights: Floats) -> Floats:
    """Return the derivatives (N, 1 + K) of the values with respect to the coefficients."""
    rise = np.exp(np.minimum(weights @ coefficients[1:], _STEEPEST))
    return np.concatenate([np.ones((len(weights), 1)), rise[:, None] * weights], axis=1)


def _spread(values: Floats) -> float:
    return max(float(values.std()), 1e-9)
