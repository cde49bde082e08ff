"""The seam between surrogates and whoever asks them: what is observed, what is predicted.

When to choose again: what is dear to choose (hyperparameters, a family) is chosen on a prefix of the evidence.

The prefix depends on the length of the evidence alone, so a resumed study chooses as an uninterrupted one does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observations:
    """Evaluated mixtures, in the order of their evaluation.

    `weights` (N, K), `values` (N,), nats per token, and `gradients` (N, K): partial derivatives with respect to the
    raw weights, a row of NaN where they are not known. Only their component along the simplex (the mean removed)
    says anything about mixtures. Raises `ValueError` when the shapes differ, or a number is not finite.
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
        """Observe values alone."""
        array = np.array(weights, dtype=np.float64)
        return cls(array, np.array(values, dtype=np.float64), np.full(array.shape, np.nan))

    @classmethod
    def of_gradients(
        cls, weights: npt.ArrayLike, values: npt.ArrayLike, gradients: Sequence[npt.ArrayLike | None]
    ) -> Self:
        """Observe values with the gradients (K,) where there are any, None elsewhere."""
        plain = cls.of_values(weights, values)
        missing = np.full(plain.weights.shape[1:], np.nan)
        rows = [missing if row is None else np.array(row, dtype=np.float64) for row in gradients]
        return cls(plain.weights, plain.values, np.array(rows).reshape(len(rows), *missing.shape))

    def __len__(self) -> int:
        """Count the evaluations, N."""
        return len(self.values)

    @property
    def differentiated(self) -> npt.NDArray[np.bool_]:
        """Tell (N,) where the gradient is known."""
        known: npt.NDArray[np.bool_] = np.all(np.isfinite(self.gradients), axis=1)
        return known

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64] | slice) -> Self:
        """Keep some of the evaluations, gradients and all."""
        return type(self)(self.weights[which], self.values[which], self.gradients[which])

    def as_numbers(self) -> dict[str, object]:
        """Give the observations in JSON's types; a partial that is not known is null."""
        missing = [None] * self.weights.shape[1]
        rows = zip(self.gradients.tolist(), self.differentiated.tolist(), strict=True)
        gradients = [row if known else missing for row, known in rows]
        return {"weights": self.weights.tolist(), "values": self.values.tolist(), "gradients": gradients}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, object]) -> Self:
        """Read what `as_numbers` gave, beside whatever else is there. Raises `KeyError` where a part is missing."""
        return cls(*(np.array(numbers[part], dtype=np.float64) for part in ("weights", "values", "gradients")))


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of the value, nats per token, both (N,)."""

    mean: Floats
    deviation: Floats


def check_family(numbers: Mapping[str, object], family: str) -> None:
    """Raise `ValueError` when the numbers were written by a surrogate of another family."""
    if numbers.get("family") != family:
        raise ValueError(
            f"these are not the numbers of a {family!r} surrogate: their family is {numbers.get('family')!r}"
        )


class Surrogate(Protocol):
    """Learns the value of mixtures from evaluated ones. It sees mixtures, never the parameters behind them."""

    def fit(self, observations: Observations) -> None:
        """Learn from N >= 3 evaluations; equal observations give equal predictions, whatever was fitted before."""

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K). Raises `RuntimeError` before the first fit."""

    def out_of_fold(self) -> Prediction:
        """Predict each of the fitted mixtures (N,) from others only. Raises `RuntimeError` before the first fit."""


_FIRST = 8
_GROWTH = 1.25


def fitting_prefix(count: int) -> int:
    """Return the largest fitting point not above `count`: 8, 10, 13, 17, 22, ...; below 8, all there is."""
    if count < _FIRST:
        return count
    prefix = _FIRST
    while int(np.ceil(prefix * _GROWTH)) <= count:
        prefix = int(np.ceil(prefix * _GROWTH))
    return prefix


def folds(count: int, parts: int) -> list[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Split `count` evaluations into at most `parts` folds, at random but always alike."""
    order = np.random.default_rng(count).permutation(count)
    return [np.sort(order[start::parts]) for start in range(min(parts, count))]
