"""Additive Gaussian process: a sum of functions of one weight each (Duvenaud et al. 2011, arXiv 1112.4394, order one).

From few evaluations of many partitions it beats what sees all weights at once: a loss depends on most partitions
each by itself. It sees the square root or log(w + 1e-3) of the weights, whichever has the smaller leave-one-out error.
How much each partition matters starts equal and is learned by two steps towards the largest likelihood only; more
steps fit few evaluations all too well. Refitted whenever the evidence has grown by a quarter. Gradients are not used.
Kept as its evidence and refitted, which gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.surrogates.gaussian_process import FEW, TRANSFORMS, Places
from search.surrogates.surrogate import Floats, Observations, Prediction, fitting_prefix, folds

LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Length scales tried, in standard deviations of the transformed weights."""
NOISES = (1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3)
"""Noise variances tried, as shares of the process's."""
STEPS = 2
MOST = 200
"""Hyperparameters are learned from no more evaluations than this, the first ones."""
_PARTS = 5


@dataclass(frozen=True, eq=False)
class _Law:
    """A kernel over transformed weights, standardised by `mean` and `scale` (K,): sum_k shares_k matern(x_k)."""

    transform: str
    mean: Floats
    scale: Floats
    length: float
    shares: Floats
    noise: float

    def features(self, weights: Floats) -> Floats:
        features: Floats = (TRANSFORMS[self.transform](weights) - self.mean) / self.scale
        return features

    def covariance(self, one: Floats, other: Floats) -> Floats:
        """Return (N, M) of features (N, K) and (M, K), without noise."""
        total = np.zeros((len(one), len(other)))
        for k in np.flatnonzero(self.shares):
            total += self.shares[k] * _matern((one[:, k, None] - other[None, :, k]) / self.length)
        return total


@dataclass(frozen=True, eq=False)
class _Conditioned:
    """A law given values (N,), standardised by `center` and `spread`: their covariance's inverse, times them too."""

    law: _Law
    features: Floats
    values: Floats
    inverse: Floats

    @classmethod
    def on(cls, law: _Law, weights: Floats, values: Floats) -> _Conditioned:
        features = law.features(weights)
        covariance = law.covariance(features, features) + law.noise * np.eye(len(values))
        return cls(law, features, values, np.linalg.inv(covariance).astype(np.float64))

    @property
    def center(self) -> float:
        return float(self.values.mean())

    @property
    def weighted(self) -> Floats:
        """The inverse times the centered values (N,)."""
        weighted: Floats = self.inverse @ (self.values - self.center)
        return weighted

    @property
    def variance(self) -> float:
        """The process's variance of largest likelihood, in the values' unit squared."""
        return max(float((self.values - self.center) @ self.weighted) / len(self.values), 1e-18)

    def predict(self, weights: Floats) -> Prediction:
        across = self.law.covariance(self.law.features(weights), self.features)
        explained = ((across @ self.inverse) * across).sum(axis=1)
        left = np.maximum(float(self.law.shares.sum()) + self.law.noise - explained, self.law.noise)
        return Prediction(self.center + across @ self.weighted, np.sqrt(self.variance * left))

    def leave_one_out(self) -> Prediction:
        """Rasmussen and Williams 2006, eqs. 5.10 to 5.12."""
        diagonal = np.diag(self.inverse)
        return Prediction(self.values - self.weighted / diagonal, np.sqrt(self.variance / diagonal))


class AdditiveProcessSurrogate:
    """An additive Gaussian process whose transform of the weights is chosen among some by leave-one-out error."""

    def __init__(self, transforms: Sequence[str] = ("sqrt", "log")) -> None:
        self._transforms = tuple(transforms)
        self._laws: tuple[int, _Law, list[tuple[Places, _Law]]] | None = None
        self._conditioned: _Conditioned | None = None
        self._out_of_fold: Prediction | None = None

    def fit(self, observations: Observations) -> None:
        """Condition on the values; hyperparameters come from a prefix of them."""
        weights, values = observations.weights, observations.values
        prefix = fitting_prefix(len(values))
        if self._laws is None or self._laws[0] != prefix:
            candidates = [_laws(name, weights[:prefix], values[:prefix]) for name in self._transforms]
            errors = [_error(*laws, weights[:prefix], values[:prefix]) for laws in candidates]
            self._laws = (prefix, *candidates[int(np.argmin(errors))])
        _, whole, parts = self._laws
        self._conditioned = _Conditioned.on(whole, weights, values)
        self._out_of_fold = _leave_one_out(whole, parts, weights, values)

    def predict(self, weights: Floats) -> Prediction:
        """Predict mixtures (N, K)."""
        if self._conditioned is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._conditioned.predict(weights)

    def out_of_fold(self) -> Prediction:
        """Predict each fitted mixture (N,) from all the others."""
        if self._out_of_fold is None:
            raise RuntimeError("fit the surrogate before asking it")
        return self._out_of_fold


def _leave_one_out(whole: _Law, parts: list[tuple[Places, _Law]], weights: Floats, values: Floats) -> Prediction:
    """Predict each value (N,) from the others, at hyperparameters of its fold's complement where there are."""
    loo = _Conditioned.on(whole, weights, values).leave_one_out()
    for places, law in parts:
        own = _Conditioned.on(law, weights, values).leave_one_out()
        loo.mean[places], loo.deviation[places] = own.mean[places], own.deviation[places]
    return loo


def _error(whole: _Law, parts: list[tuple[Places, _Law]], weights: Floats, values: Floats) -> float:
    return float(np.mean((_leave_one_out(whole, parts, weights, values).mean - values) ** 2))


def _laws(transform: str, weights: Floats, values: Floats) -> tuple[_Law, list[tuple[Places, _Law]]]:
    """Learn a law from all, and while there are few one from every fold's complement."""
    whole = _learn(transform, weights[:MOST], values[:MOST])
    if len(values) > FEW:
        return whole, []
    everything = np.arange(len(values))
    complements = [(part, np.setdiff1d(everything, part)) for part in folds(len(values), _PARTS)]
    return whole, [(part, _learn(transform, weights[rest], values[rest])) for part, rest in complements]


def _learn(transform: str, weights: Floats, values: Floats) -> _Law:
    raw = TRANSFORMS[transform](weights)
    spread = raw.std(axis=0)
    mean, scale = raw.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)
    features = (raw - mean) / scale
    standard = (values - values.mean()) / max(float(values.std()), 1e-12)
    varies = spread > 1e-9  # what never changes, a fixed weight, says nothing
    start = np.where(varies, 1.0, 0.0) if varies.any() else np.ones_like(spread)
    found = [(*_likeliest(features, standard, length, start / start.sum()), length) for length in LENGTHS]
    _, shares, noise, length = max(found, key=lambda one: one[0])
    return _Law(transform, mean, scale, length, shares, noise)


def _likeliest(features: Floats, standard: Floats, length: float, shares: Floats) -> tuple[float, Floats, float]:
    """Return the log likelihood, shares (K,) and noise that are likeliest, after each of the first few steps.

    A step is the minorise-maximise one for variance components (Zhou et al. 2019, arXiv 1509.07426, eq. 7).
    """
    count, partitions = features.shape
    kernels = np.stack([_matern((column[:, None] - column[None]) / length) for column in features.T])
    flat = kernels.reshape(partitions, -1)
    best = (-np.inf, shares, NOISES[0])
    for _ in range(STEPS + 1):
        values, vectors = np.linalg.eigh((shares @ flat).reshape(count, count))
        rotated = vectors.T @ standard
        spectra = [np.maximum(values, 0) + noise for noise in NOISES]
        likelihoods = [_log_likelihood(rotated, spectrum) for spectrum in spectra]
        at = int(np.argmax(likelihoods))
        if likelihoods[at] > best[0]:
            best = (likelihoods[at], shares, NOISES[at])
        spectrum = spectra[at]
        weighted = vectors @ (rotated / spectrum)
        fitted = flat @ np.outer(weighted, weighted).ravel()
        expected = flat @ ((vectors / spectrum) @ vectors.T).ravel()
        shares = shares * np.sqrt(np.maximum(fitted, 0) / np.maximum(expected, 1e-12))
        if not shares.any():  # equal values, which say nothing of the shares
            break
        shares = shares / shares.sum()
    return best


def _log_likelihood(rotated: Floats, spectrum: Floats) -> float:
    """Return it for values (N,) in the eigenvectors' frame, but for a constant, at the likeliest variance."""
    return float(-0.5 * (len(rotated) * np.log(np.sum(rotated**2 / spectrum) + 1e-300) + np.sum(np.log(spectrum))))


def _matern(distances: Floats) -> Floats:
    """Matern-5/2 of distances in length scales."""
    scaled = np.sqrt(5) * np.abs(distances)
    kernel: Floats = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return kernel
