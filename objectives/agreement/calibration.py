"""Calibration: from the proxy to the loss of training, learnt from N mixtures really trained.

The correction truth - proxy is linear in features of the mixture and its proxy. The choice is the stiffest family with
a leave-one-out error within a standard error of the smallest (Breiman et al. 1984, section 3.4.3): from a dozen truths
the smallest is often a supple family's luck. Intervals are the jackknife+ (Barber et al. 2021, Annals of Statistics
49(1), eq. 1.3): for mixtures like the trained ones they hold 1 - 2 alpha whatever the data, usually about 1 - alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from objectives.agreement.statistics import Interval
from objectives.held_out import Floats

LEAST_TRUTHS = 6
ALPHA = 0.1
_RIDGES = (3.0, 0.3, 0.03)
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Family:
    """The features of a correction.

    slope: a line in the proxy, not an offset alone.
    fading: times 1 - sum_k w_k^2, zero at a single partition, where the merge is the trained model.
    ridge: the penalty of squared slopes in the weights; None for no such slopes.
    """

    name: str
    slope: bool = False
    fading: bool = False
    ridge: float | None = None

    def features(self, weights: Floats, proxy: Floats, center: float) -> Floats:
        """Return the features (N, D) of mixtures (N, K) with their proxies (N,)."""
        columns = [np.ones(len(proxy))]
        if self.slope:
            columns.append(proxy - center)
        if self.ridge is not None:
            columns += list(weights.T)
        features = np.stack(columns, axis=1)
        return features * (1 - (weights**2).sum(axis=1, keepdims=True)) if self.fading else features

    def penalties(self, partitions: int) -> Floats:
        """Return the penalties of the squared coefficients (D,), none quite zero: the system stays solvable."""
        unpenalised = 1 + self.slope
        ridge = [self.ridge] * partitions if self.ridge is not None else []
        return np.array([_NEGLIGIBLE] * unpenalised + ridge)


FAMILIES = (
    Family("offset"),
    Family("line", slope=True),
    Family("fading line", slope=True, fading=True),
    *(Family(f"line and weights, ridge {ridge:g}", slope=True, ridge=ridge) for ridge in _RIDGES),
)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted correction.

    coefficients: (D,).
    influence: (D, N), of each truth on the coefficients.
    errors: (N,), truth less prediction, each mixture predicted from the others.
    """

    family: Family
    center: float
    coefficients: Floats
    influence: Floats
    errors: Floats

    @classmethod
    def fit(cls, weights: Floats, proxy: Floats, truth: Floats, families: Sequence[Family] = FAMILIES) -> Calibration:
        """Learn from mixtures (N, K), proxies (N,) and truths (N,), choosing among families, the stiffest first.

        Raises `ValueError` for fewer than `LEAST_TRUTHS`.
        """
        if len(truth) < LEAST_TRUTHS:
            raise ValueError(f"calibrating needs {LEAST_TRUTHS} trained mixtures or more: there are {len(truth)}")
        fitted = [_fitted(family, weights, proxy, truth) for family in families]
        best = min(fitted, key=lambda one: one.rmse)
        return next(one for one in fitted if one is best or _hardly_worse(one, best))

    @property
    def rmse(self) -> float:
        """Leave-one-out root mean squared error."""
        return math.sqrt(float((self.errors**2).mean()))

    def predict(self, weights: Floats, proxy: Floats) -> Floats:
        """Predict the trained loss of mixtures (N, K) with proxies (N,)."""
        predicted: Floats = proxy + self.family.features(weights, proxy, self.center) @ self.coefficients
        return predicted

    def intervals(self, weights: Floats, proxy: Floats) -> list[Interval]:
        """Predict with jackknife+ intervals, infinite from too few truths.

        With mu_-i the prediction without truth i and R_i its absolute error: from the floor((N + 1) alpha)-th smallest
        mu_-i - R_i to the ceil((N + 1)(1 - alpha))-th smallest mu_-i + R_i, widened to hold the prediction.
        """
        predicted = self.predict(weights, proxy)
        features = self.family.features(weights, proxy, self.center)
        without = predicted[:, None] - features @ self.influence * self.errors  # (M, N)
        count, sizes = len(self.errors), np.abs(self.errors)
        rank = math.floor((count + 1) * ALPHA)
        if rank < 1:
            return [Interval(float(value), -math.inf, math.inf) for value in predicted]
        lows = np.sort(without - sizes, axis=1)[:, rank - 1]
        highs = np.sort(without + sizes, axis=1)[:, count - rank]
        triples = zip(predicted.tolist(), lows.tolist(), highs.tolist(), strict=True)
        return [Interval(value, min(low, value), max(high, value)) for value, low, high in triples]


def _hardly_worse(one: Calibration, best: Calibration) -> bool:
    differences = one.errors**2 - best.errors**2
    return bool(differences.mean() <= differences.std(ddof=1) / math.sqrt(len(differences)))


def _fitted(family: Family, weights: Floats, proxy: Floats, truth: Floats) -> Calibration:
    """Ridge in closed form; leaving out i changes the coefficients by -A^-1 phi_i e_i, with e_i = r_i / (1 - h_i)."""
    center = float(proxy.mean())
    features = family.features(weights, proxy, center)
    from scipy.linalg import cho_factor, cho_solve  # loads slowly

    factor = cho_factor(features.T @ features + np.diag(family.penalties(weights.shape[1])))
    influence = cho_solve(factor, features.T)
    coefficients = influence @ (truth - proxy)
    leverage = (features * influence.T).sum(axis=1)
    residuals = truth - proxy - features @ coefficients
    return Calibration(family, center, coefficients, influence, residuals / np.maximum(1 - leverage, _NEGLIGIBLE))
