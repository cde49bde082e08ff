"""Additive Gaussian process: a sum of functions of one weight each (Duvenaud et al. 2011, arXiv 1112.4394, order one).

From few evaluations of many partitions it beats models of all weights at once. The shares of the partitions take two
steps from equal towards the largest likelihood; more steps overfit. Gradients are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from search.surrogates.gaussian_process import Features, ProcessSurrogate
from search.surrogates.surrogate import Floats, Prediction

LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Length scales tried, in standard deviations of the transformed weights."""
NOISES = (1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 0.1, 0.3)
"""Noise variances tried, as shares of the process's."""
STEPS = 2
MOST = 200
"""Hyperparameters are learnt from at most so many evaluations, the first ones."""


@dataclass(frozen=True, eq=False)
class _AdditiveLaw:
    """The kernel sum_k shares_k matern(x_k) over features x."""

    features: Features
    length: float
    shares: Floats
    noise: float

    def covariance(self, one: Floats, other: Floats) -> Floats:
        """Return (N, M) of features (N, K) and (M, K), without noise."""
        total = np.zeros((len(one), len(other)))
        for k in np.flatnonzero(self.shares):
            total += self.shares[k] * _matern((one[:, k, None] - other[None, :, k]) / self.length)
        return total

    def predictor(self, weights: Floats, values: Floats) -> Callable[[Floats], Prediction]:
        return _Conditioned.on(self, weights, values).predict

    def leave_one_out(self, weights: Floats, values: Floats) -> Prediction:
        return _Conditioned.on(self, weights, values).leave_one_out()


@dataclass(frozen=True, eq=False)
class _Conditioned:
    """A law given values (N,) at features (N, K), with the inverse (N, N) of their covariance."""

    law: _AdditiveLaw
    features: Floats
    values: Floats
    inverse: Floats

    @classmethod
    def on(cls, law: _AdditiveLaw, weights: Floats, values: Floats) -> _Conditioned:
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


class AdditiveProcessSurrogate(ProcessSurrogate[_AdditiveLaw]):
    """An additive Gaussian process with one length scale and a share per partition."""

    def __init__(self, transforms: Sequence[str] = ("sqrt", "log")) -> None:
        super().__init__(transforms)

    def learn(self, transform: str, weights: Floats, values: Floats) -> _AdditiveLaw:
        weights, values = weights[:MOST], values[:MOST]
        features = Features.of(transform, weights)
        standard = (values - values.mean()) / max(float(values.std()), 1e-12)
        # A fixed weight says nothing.
        start = np.where(features.varies, 1.0, 0.0) if features.varies.any() else np.ones_like(features.spread)
        start = start / start.sum()
        found = [(*_likeliest(features(weights), standard, length, start), length) for length in LENGTHS]
        _, shares, noise, length = max(found, key=lambda one: one[0])
        return _AdditiveLaw(features, length, shares, noise)


def _likeliest(features: Floats, standard: Floats, length: float, shares: Floats) -> tuple[float, Floats, float]:
    """Return the largest log likelihood over a few steps, with its shares (K,) and noise.

    A step is the minorise-maximise step for variance components (Zhou et al. 2019, arXiv 1509.07426, eq. 7).
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
        if not shares.any():  # equal values say nothing of the shares
            break
        shares = shares / shares.sum()
    return best


def _log_likelihood(rotated: Floats, spectrum: Floats) -> float:
    """Take values (N,) in the eigenvectors' frame; the variance is the likeliest, and a constant is left out."""
    return float(-0.5 * (len(rotated) * np.log(np.sum(rotated**2 / spectrum) + 1e-300) + np.sum(np.log(spectrum))))


def _matern(distances: Floats) -> Floats:
    scaled = np.sqrt(5) * np.abs(distances)
    kernel: Floats = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return kernel
