"""The seam between surrogates and the gate."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Mean and standard deviation of the value, nats per token, both (N,)."""

    mean: Floats
    deviation: Floats


class Surrogate(Protocol):
    """Learns the value of mixtures from evaluated ones. It sees mixtures, never the parameters behind them."""

    def fit(self, weights: Floats, values: Floats) -> None:
        """Learn from mixtures (N, K) and their values (N,), in the order they were evaluated, N >= 3."""

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K)."""

    def out_of_fold(self) -> Prediction:
        """Predict each of the fitted mixtures (N,) from all the others."""
