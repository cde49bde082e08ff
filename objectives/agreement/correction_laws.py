"""Laws of what a proxy gets wrong: a grid of Gaussian processes, and each of them given mixtures really trained.

A law has sizes of a slope, of a smooth correction delta and of noise, and the length of delta over the mixture. The
scale of each output is integrated out, so predictions are Student's t.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np

from objectives.held_out import Floats

FREEDOM = 4.0
"""Degrees of freedom of the prior of an output's scale."""
_FLAT = 30.0
"""Prior deviation of the offset a, in units: as good as flat."""
_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_DELTAS = (0.1, 0.2, 0.4, 0.8, 1.6)
_NOISES = (0.3, 1.0, 3.0, 10.0)
_SLOPES = (0.05, 0.15, 0.4)
_USUAL = np.log([0.4, 1.0, 0.15])
_DOUBT = np.array([0.8, 1.2, 1.0])
"""Centers and deviations of the log-normal priors of delta, noise and slope.

On six pools of 16 truths each, delta was 0.27 to 0.54 units by its likelihood, scale included.
"""


@dataclass(frozen=True, eq=False)
class Places:
    """Mixtures as weights (M, K) in units of their spread, and as proxies (M, E) in units from the center."""

    weights: Floats
    proxy: Floats


@dataclass(frozen=True, eq=False)
class Pairs:
    """M places beside N others: the parts of covariances that all laws share."""

    squares: Floats
    """Squared distances (M, N)."""
    lines: Floats
    """Products of proxies (E, M, N)."""
    variance: Floats
    """Squares of the proxies (E, M) of the M places."""
    _alike: dict[float, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, one: Places, other: Places) -> Pairs:
        differences = one.weights[:, None] - other.weights
        lines = one.proxy.T[:, :, None] * other.proxy.T[:, None, :]
        return cls((differences**2).sum(axis=-1), lines, one.proxy.T**2)

    def alike(self, length: float) -> Floats:
        """Return the correlations of delta (M, N), computed once for each length."""
        if length not in self._alike:
            self._alike[length] = np.asarray(np.exp(-self.squares / (2 * length**2)))
        return self._alike[length]


@dataclass(frozen=True, eq=False)
class CorrectionLaw:
    """A point of the grid; sizes in units, the noise (E,) by output."""

    length: float
    delta: float
    noise: Floats
    slope: float

    def covariance(self, pairs: Pairs) -> Floats:
        """Return the prior covariance (E, M, N) of truth less proxy, without noise."""
        return np.asarray(_FLAT**2 + self.slope**2 * pairs.lines + self.delta**2 * pairs.alike(self.length))

    def variance(self, pairs: Pairs) -> Floats:
        """Return the prior variance (E, M) of the M places, without noise."""
        return np.asarray(_FLAT**2 + self.slope**2 * pairs.variance + self.delta**2)


@dataclass(frozen=True, eq=False)
class LawGiven:
    """A law given N differences of truth and proxy.

    inverse: (E, N, N), of their covariance.
    dual: (E, N), the inverse times the differences.
    square: (E,), the differences times the dual.
    plausible: mean log likelihood of the outputs plus log prior.
    """

    law: CorrectionLaw
    inverse: Floats
    dual: Floats
    square: Floats
    plausible: float

    @classmethod
    def of(cls, law: CorrectionLaw, prior: float, evidence: Pairs, differences: Floats) -> LawGiven:
        """Learn from the pairs of N places among themselves, and their differences (N, E)."""
        count = len(differences)
        covariance = law.covariance(evidence) + law.noise[:, None, None] ** 2 * np.eye(count)
        factor = np.linalg.cholesky(covariance)
        inverse = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        dual = np.einsum("enm,me->en", inverse, differences)
        square = np.einsum("en,ne->e", dual, differences)
        size = np.log(np.einsum("enn->en", factor)).sum()
        likelihood = -0.5 * (FREEDOM + count - 1) * np.log1p(square / FREEDOM).sum() - size
        return cls(law, inverse, dual, square, float(likelihood) / differences.shape[1] + prior)

    @property
    def inflation(self) -> Floats:
        """The estimated scale (E,) of the covariance."""
        return np.asarray((FREEDOM + self.square) / (FREEDOM + self.dual.shape[1] - 1))

    def moments(self, pairs: Pairs, *, noisy: bool) -> tuple[Floats, Floats]:
        """Return means and variances (M, E) of truth less proxy, in units, at M places paired with the evidence."""
        cross = self.law.covariance(pairs)
        mean = np.einsum("emn,en->me", cross, self.dual)
        explained = (cross @ self.inverse * cross).sum(axis=-1)
        variance = self.law.variance(pairs) - explained + (self.law.noise[:, None] ** 2 if noisy else 0.0)
        return mean, np.maximum(variance, 1e-12).T * self.inflation

    def left_out(self, differences: Floats) -> tuple[Floats, Floats, Floats]:
        """Predict each difference (N, E) from the others: means, variances, and log densities of the true ones.

        mean_i = y_i - [C^-1 y]_i / [C^-1]_ii and variance_i = 1 / [C^-1]_ii (Rasmussen and Williams 2006, eq. 5.12).
        """
        precision = np.einsum("enn->ne", self.inverse)
        errors = self.dual.T / precision
        freedom = FREEDOM + len(differences) - 2
        inflation = (FREEDOM + np.maximum(self.square - errors * self.dual.T, 0.0)) / freedom
        variance = inflation / precision
        density = -0.5 * (freedom + 1) * np.log1p(errors**2 / variance / freedom) - 0.5 * np.log(variance)
        return differences - errors, variance, density


def correction_laws(noise: Floats) -> list[tuple[CorrectionLaw, float]]:
    """List the laws with the logarithms of their priors; `noise` (E,) is the usual one, in units."""
    found = []
    for length, *sizes in product(_LENGTHS, _DELTAS, _NOISES, _SLOPES):
        delta, factor, slope = sizes
        prior = float(-0.5 * (((np.log(sizes) - _USUAL) / _DOUBT) ** 2).sum())
        found.append((CorrectionLaw(length, delta, factor * noise, slope), prior))
    return found
