"""Gaussian process over mixtures: Matern-5/2 with one length scale per partition (scikit-learn).

Merges favour raw weights and really trained swarms log(w + 1e-3), so the transform of smallest leave-one-out error is
taken. Few evaluations overfit hyperparameters: their leave-one-out predictions come from hyperparameters learnt without
the fold. Gradients are not used: a Scheffe quadratic makes more of them.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from search.surrogates.surrogate import Floats, Observations, Places, Prediction, TwoStepSurrogate, folds

if TYPE_CHECKING:
    from sklearn.gaussian_process.kernels import Kernel

TRANSFORMS: dict[str, Callable[[Floats], Floats]] = {
    "raw": lambda weights: weights,
    "sqrt": np.sqrt,
    "log": lambda weights: np.log(weights + 1e-3),
}
FEW = 100
"""Up to so many evaluations, hyperparameters are learnt for every fold's complement, too."""


@dataclass(frozen=True)
class Features:
    """A transform of the weights, standardised by `mean` and `spread` (K,)."""

    transform: str
    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, transform: str, weights: Floats) -> Features:
        raw = TRANSFORMS[transform](weights)
        return cls(transform, raw.mean(axis=0), raw.std(axis=0))

    @property
    def varies(self) -> npt.NDArray[np.bool_]:
        return self.spread > 1e-9

    def __call__(self, weights: Floats) -> Floats:
        features: Floats = (TRANSFORMS[self.transform](weights) - self.mean) / np.where(self.varies, self.spread, 1.0)
        return features


class Law(Protocol):
    """A covariance of features with its hyperparameters."""

    def predictor(self, weights: Floats, values: Floats) -> Callable[[Floats], Prediction]:
        """Return predictions given the values (N,) of mixtures (N, K)."""

    def leave_one_out(self, weights: Floats, values: Floats) -> Prediction:
        """Predict each value (N,) from the others at these hyperparameters."""


LawOf = TypeVar("LawOf", bound=Law)


@dataclass(frozen=True)
class Folded(Generic[LawOf]):
    """A law learnt from a prefix of the evidence, and from few evaluations one per fold: its places, and its law."""

    whole: LawOf
    parts: list[tuple[Places, LawOf]]

    def leave_one_out(self, weights: Floats, values: Floats) -> Prediction:
        """Predict each value (N,) from the others, at its own fold's law if there is one."""
        loo = self.whole.leave_one_out(weights, values)
        for places, law in self.parts:
            own = law.leave_one_out(weights, values)
            loo.mean[places], loo.deviation[places] = own.mean[places], own.deviation[places]
        return loo


@dataclass(frozen=True)
class Conditioned(Generic[LawOf]):
    law: LawOf
    predictor: Callable[[Floats], Prediction]
    leave_one_out: Prediction

    def predict(self, weights: Floats) -> Prediction:
        return self.predictor(weights)

    def out_of_fold(self) -> Prediction:
        return self.leave_one_out


class ProcessSurrogate(TwoStepSurrogate[Folded[LawOf], Conditioned[LawOf]]):
    """A process under the transform of the weights with the smallest leave-one-out error."""

    def __init__(self, transforms: Sequence[str]) -> None:
        super().__init__()
        self._transforms = tuple(transforms)

    @abstractmethod
    def learn(self, transform: str, weights: Floats, values: Floats) -> LawOf:
        """Learn hyperparameters under a transform from the values (N,) of mixtures (N, K)."""

    def choose(self, observations: Observations) -> Folded[LawOf]:
        weights, values = observations.weights, observations.values
        candidates = [self._folded(name, weights, values) for name in self._transforms]
        return min(candidates, key=lambda one: float(np.mean((one.leave_one_out(weights, values).mean - values) ** 2)))

    def condition(self, choice: Folded[LawOf], observations: Observations) -> Conditioned[LawOf]:
        evidence = observations.weights, observations.values
        return Conditioned(choice.whole, choice.whole.predictor(*evidence), choice.leave_one_out(*evidence))

    def _folded(self, transform: str, weights: Floats, values: Floats) -> Folded[LawOf]:
        whole = self.learn(transform, weights, values)
        if len(values) > FEW:
            return Folded(whole, [])
        everything = np.arange(len(values))
        complements = [(part, np.setdiff1d(everything, part)) for part in folds(len(values))]
        return Folded(whole, [(part, self.learn(transform, weights[rest], values[rest])) for part, rest in complements])


@dataclass(frozen=True)
class _MaternLaw:
    features: Features
    kernel: Kernel

    def predictor(self, weights: Floats, values: Floats) -> Callable[[Floats], Prediction]:
        from sklearn.gaussian_process import GaussianProcessRegressor  # takes two seconds

        regressor = GaussianProcessRegressor(self.kernel, optimizer=None, normalize_y=True)
        regressor.fit(self.features(weights), values)
        return lambda asked: Prediction(*regressor.predict(self.features(asked), return_std=True))

    def leave_one_out(self, weights: Floats, values: Floats) -> Prediction:
        """mean_i = y_i - [K^-1 y]_i / [K^-1]_ii, variance_i = 1 / [K^-1]_ii (Rasmussen and Williams 2006, eq. 5.12)."""
        from scipy.linalg import cho_factor, cho_solve

        center, spread = values.mean(), max(float(values.std()), 1e-12)
        covariance = self.kernel(self.features(weights)) + 1e-10 * np.eye(len(values))
        inverse = cho_solve(cho_factor(covariance, lower=True), np.eye(len(values)))
        standard = (values - center) / spread
        diagonal = np.diag(inverse)
        mean = standard - (inverse @ standard) / diagonal
        return Prediction(mean * spread + center, np.sqrt(1 / diagonal) * spread)


class GaussianProcessSurrogate(ProcessSurrogate[_MaternLaw]):
    """A Gaussian process with a length scale per partition."""

    def __init__(self, transforms: Sequence[str] = tuple(TRANSFORMS)) -> None:
        super().__init__(transforms)

    def learn(self, transform: str, weights: Floats, values: Floats) -> _MaternLaw:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        features, dimensions = Features.of(transform, weights), weights.shape[1]
        matern = Matern(np.full(dimensions, np.sqrt(dimensions)), (0.1, 1e3), nu=2.5)
        kernel = ConstantKernel(1.0, (1e-2, 1e3)) * matern + WhiteKernel(1e-3, (1e-8, 1.0))
        regressor = GaussianProcessRegressor(kernel, normalize_y=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # length scales at their bounds: common and harmless
            regressor.fit(features(weights), values)
        return _MaternLaw(features, regressor.kernel_)
