"""Gaussian process over mixtures: Matern-5/2 with one length scale per partition (scikit-learn).

It sees a transform of the weights: raw, square root, or log(w + 1e-3); merges favour the first, really trained
swarms the last, so the one with the smallest leave-one-out error is taken. Leave-one-out predictions come in
closed form (Rasmussen and Williams 2006, eqs. 5.10 to 5.12), at hyperparameters that were fitted without the point
while there are few: they fit few values all too well. Hyperparameters are refitted whenever the evidence has grown by
a quarter. Gradients are not used: a Scheffe quadratic makes more of them. Kept as its evidence and refitted, which
gives the same numbers.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from search.surrogates.surrogate import Floats, Observations, Prediction, fitting_prefix, folds

Places = npt.NDArray[np.int64]

TRANSFORMS: dict[str, Callable[[Floats], Floats]] = {
    "raw": lambda weights: weights,
    "sqrt": np.sqrt,
    "log": lambda weights: np.log(weights + 1e-3),
}
FEW = 100
"""Up to so many evaluations, hyperparameters are fitted for every fold anew."""
_PARTS = 5


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


@dataclass(frozen=True)
class _Folded:
    """What was fitted to a prefix of the evidence, and what to each fold's complement, with the fold's places."""

    whole: _Fitted
    parts: tuple[tuple[Places, _Fitted], ...]

    def leave_one_out(self, weights: Floats, values: Floats) -> Prediction:
        """Predict each value (N,) from the others, at hyperparameters of its fold's complement where there are."""
        loo = _leave_one_out(self.whole, weights, values)
        for places, fitted in self.parts:
            own = _leave_one_out(fitted, weights, values)
            loo.mean[places], loo.deviation[places] = own.mean[places], own.deviation[places]
        return loo


class GaussianProcessSurrogate:
    """A Gaussian process whose transform of the weights is chosen among some by leave-one-out error."""

    def __init__(self, transforms: Sequence[str] = tuple(TRANSFORMS)) -> None:
        self._transforms = tuple(transforms)
        self._fitted: tuple[int, _Folded] | None = None
        self._regressor: GaussianProcessRegressor | None = None
        self._loo: Prediction | None = None

    @property
    def transform(self) -> str:
        """The transform in use. Raises `RuntimeError` before the first fit."""
        return self._ready()[0].whole.transform

    def fit(self, observations: Observations) -> None:
        """Condition on the values; hyperparameters come from a prefix of them."""
        weights, values = observations.weights, observations.values
        prefix = fitting_prefix(len(values))
        if self._fitted is None or self._fitted[0] != prefix:
            self._fitted = (prefix, _fit_best(self._transforms, weights[:prefix], values[:prefix]))
        folded = self._fitted[1]
        self._regressor = GaussianProcessRegressor(folded.whole.kernel, optimizer=None, normalize_y=True)
        self._regressor.fit(folded.whole.features(weights), values)
        self._loo = folded.leave_one_out(weights, values)

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K)."""
        folded, regressor = self._ready()
        mean, deviation = regressor.predict(folded.whole.features(weights), return_std=True)
        return Prediction(mean, deviation)

    def out_of_fold(self) -> Prediction:
        """Predict each fitted mixture (N,) from all the others."""
        self._ready()
        assert self._loo is not None
        return self._loo

    def _ready(self) -> tuple[_Folded, GaussianProcessRegressor]:
        if self._fitted is None or self._regressor is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._fitted[1], self._regressor


def _fit_best(transforms: Sequence[str], weights: Floats, values: Floats) -> _Folded:
    candidates = [_fit_folded(name, weights, values) for name in transforms]
    return min(candidates, key=lambda folded: _squared_error(folded, weights, values))


def _squared_error(folded: _Folded, weights: Floats, values: Floats) -> float:
    return float(np.mean((folded.leave_one_out(weights, values).mean - values) ** 2))


def _fit_folded(name: str, weights: Floats, values: Floats) -> _Folded:
    whole = _fit_one(name, weights, values)
    if len(values) > FEW:
        return _Folded(whole, ())
    everything = np.arange(len(values))
    complements = [(part, np.setdiff1d(everything, part)) for part in folds(len(values), _PARTS)]
    return _Folded(whole, tuple((part, _fit_one(name, weights[rest], values[rest])) for part, rest in complements))


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
