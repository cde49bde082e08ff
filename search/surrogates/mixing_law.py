"""Log-linear mixing law: L(w) = c + exp(t'w) (Ye et al. 2024, arXiv 2403.16952, eq. 1, its k absorbed by sum w = 1).

Fitted by ridge-penalised least squares from a few floors c; the penalty is chosen by leave-one-out error. Deviations
are the residuals' and, by the delta method, the coefficients'. Gradients are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.optimize import least_squares

from search.surrogates.surrogate import Floats, Observations, Prediction, check_family, fitting_prefix

_PENALTIES = (1e-4, 1e-2, 1e-1, 1.0)
_FLOORS = (0.1, 1.0, 10.0)
_STEEPEST = 30.0  # exp(30) spreads are no loss: what is beyond would overflow on the way


@dataclass(frozen=True, eq=False)
class _Law:
    """Coefficients (1 + K,), the floor first, of values standardised by `center` and `spread`; what they left over."""

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


class MixingLawSurrogate:
    """A log-linear mixing law whose penalty and start are chosen again as the evidence grows."""

    def __init__(self) -> None:
        self._start: tuple[int, float, Floats] | None = None
        self._law: _Law | None = None
        self._observations: Observations | None = None

    def fit(self, observations: Observations) -> None:
        """Fit to the values, from the fit to a prefix of them."""
        prefix = fitting_prefix(len(observations))
        if self._start is None or self._start[0] != prefix:
            best = _fit_best(observations.weights[:prefix], observations.values[:prefix])
            self._start = (prefix, best.penalty, best.coefficients)
        self._law = _fit(observations.weights, observations.values, *self._start[1:])
        self._observations = observations

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K)."""
        return self._ready()[0].predict(weights)

    def out_of_fold(self) -> Prediction:
        """Predict each fitted mixture (N,) from all the others, by one step from the fit to all."""
        law, observations = self._ready()
        return law.leave_one_out(observations.weights, observations.values)

    def as_numbers(self) -> dict[str, object]:
        """Give the law, where its fit started, and the evidence in JSON's types."""
        law, observations = self._ready()
        assert self._start is not None
        return {
            "family": "mixing_law",
            "start": [law.penalty, *self._start[2].tolist()],
            "floor": law.center + law.spread * float(law.coefficients[0]),
            "exponents": (law.coefficients[1:] + np.log(law.spread)).tolist(),
            **observations.as_numbers(),
        }

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, object]) -> Self:
        """Fit again from the start that `as_numbers` gave: the same predictions. Raises `ValueError`, `KeyError`."""
        check_family(numbers, "mixing_law")
        penalty, *start = np.array(numbers["start"], dtype=np.float64).tolist()
        observations, surrogate = Observations.from_numbers(numbers), cls()
        surrogate._start = (fitting_prefix(len(observations)), penalty, np.array(start))
        surrogate.fit(observations)
        return surrogate

    def _ready(self) -> tuple[_Law, Observations]:
        if self._law is None or self._observations is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._law, self._observations


def _fit_best(weights: Floats, values: Floats) -> _Law:
    standard = (values - values.mean()) / _spread(values)
    starts = [_start(weights, standard, floor) for floor in _FLOORS]
    laws = [_fit(weights, values, penalty, start) for penalty in _PENALTIES for start in starts]
    return min(laws, key=lambda law: float(np.mean((law.leave_one_out(weights, values).mean - values) ** 2)))


def _start(weights: Floats, standard: Floats, below: float) -> Floats:
    """Put the floor that far below the lowest value, and regress the logarithm of what is above it."""
    floor = standard.min() - below
    logarithms = np.log(standard - floor)
    gram = weights.T @ weights + 1e-2 * np.eye(weights.shape[1])
    return np.concatenate([[floor], np.linalg.solve(gram, weights.T @ logarithms)])


def _fit(weights: Floats, values: Floats, penalty: float, start: Floats) -> _Law:
    center, spread, roots = float(values.mean()), _spread(values), _penalty_rows(penalty, weights.shape[1])
    standard = (values - center) / spread

    def errors(coefficients: Floats) -> Floats:
        return np.concatenate([_standard_values(coefficients, weights) - standard, roots @ coefficients])

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
    """Return the root (1 + 2K, 1 + K) of the penalty: slopes are drawn to their mean, everything faintly to zero."""
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
