"""Conformal calibration: deviations scaled until as many out-of-fold errors lie within as the normal law says.

Normalised residuals (Papadopoulos et al. 2002; Angelopoulos and Bates 2021, arXiv 2107.07511, section 2.2) of
out-of-fold predictions, as in the jackknife. The promise holds where what is asked looks like the evidence; a search
asks elsewhere, so audits are still needed.
"""

import math

import numpy as np
from scipy.stats import norm

from search.surrogates.surrogate import Floats, Observations, Prediction, Surrogate

_SMALLEST = 1e-3  # errors of zero out of fold do not prove the next one zero


class ConformalSurrogate:
    """Another surrogate's means, with deviations such that mean +- z deviation holds `coverage` of the values.

    z is the normal quantile of (1 + coverage) / 2. With too few evaluations for the coverage the largest score
    stands in. Raises `ValueError` where the coverage is not inside (0, 1).
    """

    def __init__(self, inner: Surrogate, *, coverage: float = 0.9) -> None:
        if not 0 < coverage < 1:
            raise ValueError(f"coverage is a probability inside (0, 1): got {coverage!r}")
        self.inner = inner
        self._coverage = coverage
        self._factor = 1.0

    @property
    def factor(self) -> float:
        """By what the inner deviations are multiplied; above 1 where they were too sure."""
        return self._factor

    def fit(self, observations: Observations) -> None:
        """Fit the inner surrogate and calibrate it on its out-of-fold predictions."""
        self.inner.fit(observations)
        held_out = self.inner.out_of_fold()
        self._factor = calibration_factor(observations.values - held_out.mean, held_out.deviation, self._coverage)

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K), calibrated."""
        return self._calibrated(self.inner.predict(weights))

    def out_of_fold(self) -> Prediction:
        """Give the inner out-of-fold predictions (N,), calibrated on all of them."""
        return self._calibrated(self.inner.out_of_fold())

    def _calibrated(self, prediction: Prediction) -> Prediction:
        return Prediction(prediction.mean, prediction.deviation * self._factor)


def calibration_factor(errors: Floats, deviations: Floats, coverage: float) -> float:
    """Return by what deviations (N,) are to be multiplied so that +- z of them hold `coverage` of the errors (N,)."""
    quantile = conformal_quantile(np.abs(errors) / deviations, coverage)
    return max(quantile / normal_quantile(coverage), _SMALLEST)


def normal_quantile(coverage: float) -> float:
    """Return z such that mean +- z deviations hold `coverage` of a normal law."""
    return float(norm.ppf((1 + coverage) / 2))


def coverage(prediction: Prediction, values: Floats, *, nominal: float = 0.9) -> float:
    """Return the share of values (N,) inside mean +- z deviation, z the normal quantile of (1 + nominal) / 2."""
    return float(np.mean(np.abs(values - prediction.mean) <= norm.ppf((1 + nominal) / 2) * prediction.deviation))


def conformal_quantile(scores: Floats, coverage: float) -> float:
    """Return the score of rank ceil((N + 1) coverage), the largest where that is beyond N."""
    rank = min(math.ceil((len(scores) + 1) * coverage), len(scores))
    return float(np.sort(scores)[rank - 1])
