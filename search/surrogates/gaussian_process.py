"""Gaussian process over mixtures: Matern-5/2 with one length scale per partition (scikit-learn).

It sees a transform of the weights: raw, square root, or log(w + 1e-3); merges favour the first, really trained
swarms the last, so the one with the smallest leave-one-out error is taken. Leave-one-out predictions come in
closed form from one fit (Rasmussen and Williams 2006, eqs. 5.10 to 5.12). Hyperparameters are refitted whenever the
evidence has grown by a quarter. Gradients are not used: a Scheffe quadratic makes more of them. Kept as its evidence
and refitted, which gives the same numbers.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from search.surrogates.growth import fitting_prefix
from search.surrogates.surrogate import Floats, Observations, Prediction

TRANSFORMS: dict[str, Callable[[Floats], Floats]] = {
    "raw": lambda weights: weights,
    "sqrt": np.sqrt,
    "log": lambda weights: np.log(weights + 1e-3),
}


@dataclass(frozen=True)
class _Fitted:
    """A transform with its standardisation (K,) and the kernel fitted under it."""

    transform: str
    mean: Floats
    scale: Floats
    kernel: Kernel

    def features(self, weights: Floats) -> Floats:
        features: Floats = (TRANSFORMS[self.transform](weights) - self.mean) / self.scale
        return features


class GaussianProcessSurrogate:
    """A Gaussian process whose transform of the weights is chosen among some by leave-one-out error."""

    def __init__(self, transforms: Sequence[str] = tuple(TRANSFORMS)) -> None:
        self._transforms = tuple(transforms)
        self._fitted: tuple[int, _Fitted] | None = None
        self._regressor: GaussianProcessRegressor | None = None
        self._loo: Prediction | None = None

    @property
    def transform(self) -> str:
        """The transform in use. Raises `RuntimeError` before the first fit."""
        return self._ready()[0].transform

    def fit(self, observations: Observations) -> None:
        """Condition on the values; hyperparameters come from a prefix of them."""
        weights, values = observations.weights, observations.values
        prefix = fitting_prefix(len(values))
        if self._fitted is None or self._fitted[0] != prefix:
            self._fitted = (prefix, _fit_best(self._transforms, weights[:prefix], values[:prefix]))
        fitted = self._fitted[1]
        self._regressor = GaussianProcessRegressor(fitted.kernel, optimizer=None, normalize_y=True)
        self._regressor.fit(fitted.features(weights), values)
        self._loo = _leave_one_out(fitted, weights, values)

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K)."""
        fitted, regressor = self._ready()
        mean, deviation = regressor.predict(fitted.features(weights), return_std=True)
        return Prediction(mean, deviation)

    def out_of_fold(self) -> Prediction:
        """Predict each fitted mixture (N,) from all the others, at the same hyperparameters."""
        self._ready()
        assert self._loo is not None
        return self._loo

    def _ready(self) -> tuple[_Fitted, GaussianProcessRegressor]:
        if self._fitted is None or self._regressor is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._fitted[1], self._regressor


def _fit_best(transforms: Sequence[str], weights: Floats, values: Floats) -> _Fitted:
    candidates = [_fit_one(name, weights, values) for name in transforms]
    return min(candidates, key=lambda fitted: _squared_error(fitted, weights, values))


def _squared_error(fitted: _Fitted, weights: Floats, values: Floats) -> float:
    return float(np.mean((_leave_one_out(fitted, weights, values).mean - values) ** 2))


def _fit_one(name: str, weights: Floats, values: Floats) -> _Fitted:
    raw = TRANSFORMS[name](weights)
    spread = raw.std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    start = _Fitted(name, raw.mean(axis=0), scale, _kernel(weights.shape[1]))
    regressor = GaussianProcessRegressor(start.kernel, normalize_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # length scales at their bounds are common and harmless
        regressor.fit(start.features(weights), values)
    return _Fitted(name, start.mean, start.scale, regressor.kernel_)


def _kernel(dimensions: int) -> Kernel:
    matern = Matern(np.full(dimensions, np.sqrt(dimensions)), (0.1, 1e3), nu=2.5)
    return ConstantKernel(1.0, (1e-2, 1e3)) * matern + WhiteKernel(1e-3, (1e-8, 1.0))


def _leave_one_out(fitted: _Fitted, weights: Floats, values: Floats) -> Prediction:
    """Leave each point out in turn: mean_i = y_i - [K^-1 y]_i / [K^-1]_ii, variance_i = 1 / [K^-1]_ii."""
    center, spread = values.mean(), max(float(values.std()), 1e-12)
    covariance = fitted.kernel(fitted.features(weights)) + 1e-10 * np.eye(len(values))
    inverse = cho_solve(cho_factor(covariance, lower=True), np.eye(len(values)))
    standard = (values - center) / spread
    diagonal = np.diag(inverse)
    mean = standard - (inverse @ standard) / diagonal
    return Prediction(mean * spread + center, np.sqrt(1 / diagonal) * spread)
