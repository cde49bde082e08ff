"""The seam between surrogates and their callers: observations, predictions, and their calibration.

Choices costly to make are made on a prefix of the evidence. Its length depends on the evidence's alone, so a resumed
study chooses as an undisturbed one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from objectives.agreement.statistics import conformal_quantile

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

_FIRST_PREFIX = 8
_GROWTH = 1.25
_FOLDS = 5
_SMALLEST_FACTOR = 1e-3  # errors of zero out of fold do not prove the next one zero


@dataclass(frozen=True, eq=False)
class Observations:
    """Evaluated mixtures, in the order of their evaluation.

    weights: (N, K).
    values: (N,), nats per token.
    gradients: (N, K), by the raw weights, a row of NaN if unknown; only the component along the simplex counts.

    Raises `ValueError` for shapes that differ and numbers not finite.
    """

    weights: Floats
    values: Floats
    gradients: Floats

    def __post_init__(self) -> None:
        if self.weights.ndim != 2 or self.values.shape != self.weights.shape[:1]:
            raise ValueError(
                "observations need weights (N, K) and values (N,): "
                f"got shapes {self.weights.shape} and {self.values.shape}"
            )
        if self.gradients.shape != self.weights.shape:
            raise ValueError(
                f"gradients have the shape of the weights {self.weights.shape}, NaN where not known: "
                f"got {self.gradients.shape}"
            )
        if not np.isfinite(self.weights).all() or not np.isfinite(self.values).all():
            raise ValueError("weights and values must be finite: leave out evaluations that failed")
        broken = ~np.isfinite(self.gradients).all(axis=1) & ~np.isnan(self.gradients).all(axis=1)
        if broken.any():
            raise ValueError(
                f"gradient {int(np.argmax(broken))} is known in part: give all K partials, or a row of NaN"
            )

    @classmethod
    def of_values(cls, weights: npt.ArrayLike, values: npt.ArrayLike) -> Self:
        array = np.array(weights, dtype=np.float64)
        return cls(array, np.array(values, dtype=np.float64), np.full(array.shape, np.nan))

    @classmethod
    def of_gradients(
        cls, weights: npt.ArrayLike, values: npt.ArrayLike, gradients: Sequence[npt.ArrayLike | None]
    ) -> Self:
        """Observe values and gradients (K,), None for an unknown gradient."""
        plain = cls.of_values(weights, values)
        missing = np.full(plain.weights.shape[1:], np.nan)
        rows = [missing if row is None else np.array(row, dtype=np.float64) for row in gradients]
        return cls(plain.weights, plain.values, np.array(rows).reshape(len(rows), *missing.shape))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def differentiated(self) -> npt.NDArray[np.bool_]:
        """Tell (N,) of each evaluation whether its gradient is known."""
        known: npt.NDArray[np.bool_] = np.all(np.isfinite(self.gradients), axis=1)
        return known

    def plus(self, more: Self) -> Self:
        """Add further evaluations, of the same partitions."""
        return type(self)(
            np.vstack([self.weights, more.weights]),
            np.concatenate([self.values, more.values]),
            np.vstack([self.gradients, more.gradients]),
        )

    def take(self, which: npt.NDArray[np.bool_] | Places | slice) -> Self:
        return type(self)(self.weights[which], self.values[which], self.gradients[which])


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of the value, nats per token, both (N,)."""

    mean: Floats
    deviation: Floats


class Fitted(Protocol):
    """A surrogate fitted to N mixtures."""

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K). Raises `RuntimeError` before the first fit."""

    def out_of_fold(self) -> Prediction:
        """Predict each of the fitted mixtures (N,) from others only. Raises `RuntimeError` before the first fit."""


class Surrogate(Fitted, Protocol):
    """Learns the value of mixtures from evaluated ones. A surrogate sees mixtures, never the parameters behind them."""

    def fit(self, observations: Observations) -> None:
        """Learn from N >= 3 evaluations; equal observations give equal predictions, whatever was fitted before."""


Choice = TypeVar("Choice")
FittedTo = TypeVar("FittedTo", bound=Fitted)


class TwoStepSurrogate(ABC, Generic[Choice, FittedTo]):
    """A surrogate fitted in two steps: a costly choice on a prefix of the evidence, then a fit to all of it."""

    def __init__(self) -> None:
        self._choice: tuple[int, Choice] | None = None
        self._fitted: FittedTo | None = None

    @abstractmethod
    def choose(self, observations: Observations) -> Choice:
        """Choose hyperparameters by a prefix of the evidence."""

    @abstractmethod
    def condition(self, choice: Choice, observations: Observations) -> FittedTo:
        """Fit to all evidence at the choice."""

    def fit(self, observations: Observations) -> None:
        prefix = fitting_prefix(len(observations))
        if self._choice is None or self._choice[0] != prefix:
            self._choice = (prefix, self.choose(observations.take(slice(prefix))))
        self._fitted = self.condition(self._choice[1], observations)

    @property
    def fitted(self) -> FittedTo:
        """The latest fit. Raises `RuntimeError` before the first."""
        if self._fitted is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._fitted

    def predict(self, weights: Floats) -> Prediction:
        return self.fitted.predict(weights)

    def out_of_fold(self) -> Prediction:
        return self.fitted.out_of_fold()


def fitting_prefix(count: int) -> int:
    """Return the largest fitting point not above `count`: 8, 10, 13, 17, 22, ...; below 8, `count` itself."""
    if count < _FIRST_PREFIX:
        return count
    prefix = _FIRST_PREFIX
    while int(np.ceil(prefix * _GROWTH)) <= count:
        prefix = int(np.ceil(prefix * _GROWTH))
    return prefix


def folds(count: int) -> list[Places]:
    """Split `count` evaluations into at most five folds, at random but always alike."""
    order = np.random.default_rng(count).permutation(count)
    return [np.sort(order[start::_FOLDS]) for start in range(min(_FOLDS, count))]


class ConformalSurrogate:
    """Another surrogate's means, with deviations scaled until mean +- z deviation holds `coverage` of the values.

    z is the normal quantile of (1 + coverage) / 2. The scale comes from normalised out-of-fold residuals (Papadopoulos
    et al. 2002; Angelopoulos and Bates 2021, arXiv 2107.07511, section 2.2), so the promise is for mixtures like the
    evidence. Raises `ValueError` unless 0 < coverage < 1.
    """

    def __init__(self, inner: Surrogate, *, coverage: float = 0.9) -> None:
        if not 0 < coverage < 1:
            raise ValueError(f"coverage is a probability inside (0, 1): got {coverage!r}")
        self.inner = inner
        self._coverage = coverage
        self._factor = 1.0

    @property
    def factor(self) -> float:
        """The factor of the inner deviations, above 1 if they were too small."""
        return self._factor

    def fit(self, observations: Observations) -> None:
        self.inner.fit(observations)
        held_out = self.inner.out_of_fold()
        self._factor = calibration_factor(observations.values - held_out.mean, held_out.deviation, self._coverage)

    def predict(self, weights: Floats) -> Prediction:
        return self._calibrated(self.inner.predict(weights))

    def out_of_fold(self) -> Prediction:
        return self._calibrated(self.inner.out_of_fold())

    def _calibrated(self, prediction: Prediction) -> Prediction:
        return Prediction(prediction.mean, prediction.deviation * self._factor)


def calibration_factor(errors: Floats, deviations: Floats, coverage: float) -> float:
    """Return the factor of deviations (N,) with which +- z of them hold `coverage` of the errors (N,)."""
    quantile = float(conformal_quantile(np.abs(errors) / deviations, coverage))
    return max(quantile / normal_quantile(coverage), _SMALLEST_FACTOR)


def normal_quantile(coverage: float) -> float:
    """Return the z for which mean +- z deviations hold `coverage` of a normal law."""
    from scipy.special import ndtri  # the same digits as scipy.stats.norm, which loads for a second

    return float(ndtri((1 + coverage) / 2))


def coverage(prediction: Prediction, values: Floats, *, nominal: float = 0.9) -> float:
    """Return the share of values (N,) inside mean +- z deviation, z the normal quantile of (1 + nominal) / 2."""
    return float(np.mean(np.abs(values - prediction.mean) <= normal_quantile(nominal) * prediction.deviation))
