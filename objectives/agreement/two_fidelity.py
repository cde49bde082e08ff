"""Two fidelities in one model: the truth of any mixture from its proxy, learnt from N mixtures really trained.

    truth(w) = proxy(w) + a + (b - 1) (proxy(w) - center) + delta(w) + noise

a and b correct the proxy as a line does (Kennedy and O'Hagan 2000, Biometrika 87(1), eq. 2), and delta is a Gaussian
process over the mixture. The sizes of b - 1, delta and noise, and the length of delta, are averaged over a grid by
their marginal likelihood: from four truths the most likely point of the grid is luck. The scale of each output is
integrated out, so predictions are Student's t. Outputs (a study's value and its held-out domains) share the grid. The
grid's likelihood is the mean of the outputs' own, for their errors go together: a sum made intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from objectives.agreement.statistics import conformal_quantile, shares_of
from objectives.held_out import Floats

ENOUGH_FOR_CONFORMAL = 12
"""From so many truths, the errors of truths left out set the width of intervals."""
LEVEL = 0.9
"""The share of truths left out that the widened intervals hold."""
_FREEDOM = 4.0
"""Degrees of freedom of the prior of an output's scale."""
_FLAT = 30.0
"""Prior deviation of the offset a, in units: as good as flat."""
_LENGTHS = (0.5, 1.0, 2.0, 4.0)
_DELTAS = (0.01, 0.03, 0.1, 0.2, 0.4)
_NOISES = (0.3, 1.0, 3.0, 10.0)
_SLOPES = (0.05, 0.15, 0.4)
_USUAL = np.log([0.1, 1.0, 0.15])
_DOUBT = np.array([1.2, 1.2, 1.0])
"""Centers and deviations of the log-normal priors of delta, noise and slope."""
_USUAL_NOISE = 0.03
"""Noise in units where no mixture was trained twice."""
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What corrections are measured by: M mixtures of all kinds with their proxies.

    weights: (M, K).
    proxy: (M, E).
    unit: (E,), what counts as a large difference of an output, by default the deviation of its proxy.
    noise: (E,), the deviation of a truth trained again; NaN, not known.
    """

    weights: Floats
    proxy: Floats
    unit: Floats
    noise: Floats

    @classmethod
    def of(
        cls, weights: Floats, proxy: Floats, *, unit: Floats | None = None, noise: Floats | None = None
    ) -> Yardstick:
        spread = np.maximum(proxy.std(axis=0), 1e-9) if unit is None else unit
        return cls(weights, proxy, spread, np.full(proxy.shape[1], np.nan) if noise is None else noise)

    @property
    def center(self) -> Floats:
        """The mean proxy (E,)."""
        return np.asarray(self.proxy.mean(axis=0))

    @property
    def noise_in_units(self) -> Floats:
        return np.where(np.isfinite(self.noise), self.noise / self.unit, _USUAL_NOISE)

    def places(self, weights: Floats, proxy: Floats) -> _Places:
        spread = np.maximum(self.weights.std(axis=0), 1e-3)
        return _Places(weights / spread / np.sqrt(weights.shape[1]), (proxy - self.center) / self.unit)


@dataclass(frozen=True, eq=False)
class _Places:
    """Mixtures as weights (M, K) in units of their spread, and as proxies (M, E) in units from the center."""

    weights: Floats
    proxy: Floats


@dataclass(frozen=True, eq=False)
class Truth:
    """Predictions of M truths in E outputs: Student's t with `mean` and `scale`, both (M, E)."""

    mean: Floats
    scale: Floats
    freedom: float

    def half_width(self, level: float) -> Floats:
        """Return half the width (M, E) of intervals that hold a truth with probability `level`."""
        from scipy.special import stdtrit  # loads slowly

        return np.asarray(self.scale * float(stdtrit(self.freedom, (1 + level) / 2)))


@dataclass(frozen=True, eq=False)
class _Law:
    """A point of the grid; sizes in units, the noise (E,) by output."""

    length: float
    delta: float
    noise: Floats
    slope: float

    def covariance(self, one: _Places, other: _Places) -> Floats:
        """Return the prior covariance (E, M, N) of truth less proxy, without noise."""
        differences = one.weights[:, None] - other.weights
        alike = np.exp(-(differences**2).sum(axis=-1) / (2 * self.length**2))
        lines = one.proxy.T[:, :, None] * other.proxy.T[:, None, :]
        return np.asarray(_FLAT**2 + self.slope**2 * lines + self.delta**2 * alike)

    def variance(self, at: _Places) -> Floats:
        """Return the prior variance (E, M), without noise."""
        return np.asarray(_FLAT**2 + self.slope**2 * at.proxy.T**2 + self.delta**2)


@dataclass(frozen=True, eq=False)
class _Posterior:
    """A law given N differences of truth and proxy.

    inverse: (E, N, N), of their covariance.
    dual: (E, N), the inverse times the differences.
    square: (E,), the differences times the dual.
    plausible: mean log likelihood of the outputs plus log prior.
    """

    law: _Law
    inverse: Floats
    dual: Floats
    square: Floats
    plausible: float

    @classmethod
    def of(cls, law: _Law, prior: float, evidence: _Places, differences: Floats) -> _Posterior:
        count = len(differences)
        covariance = law.covariance(evidence, evidence) + law.noise[:, None, None] ** 2 * np.eye(count)
        factor = np.linalg.cholesky(covariance)
        inverse = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        dual = np.einsum("enm,me->en", inverse, differences)
        square = np.einsum("en,ne->e", dual, differences)
        size = np.log(np.einsum("enn->en", factor)).sum()
        likelihood = -0.5 * (_FREEDOM + count - 1) * np.log1p(square / _FREEDOM).sum() - size
        return cls(law, inverse, dual, square, float(likelihood) / differences.shape[1] + prior)

    @property
    def inflation(self) -> Floats:
        """The estimated scale (E,) of the covariance."""
        return np.asarray((_FREEDOM + self.square) / (_FREEDOM + self.dual.shape[1] - 1))

    def moments(self, evidence: _Places, at: _Places, *, noisy: bool) -> tuple[Floats, Floats]:
        """Return means and variances (M, E) of truth less proxy, in units."""
        cross = self.law.covariance(at, evidence)
        mean = np.einsum("emn,en->me", cross, self.dual)
        explained = np.einsum("emn,enk,emk->em", cross, self.inverse, cross, optimize=True)
        variance = self.law.variance(at) - explained + (self.law.noise[:, None] ** 2 if noisy else 0.0)
        return mean, np.maximum(variance, 1e-12).T * self.inflation

    def left_out(self, differences: Floats) -> tuple[Floats, Floats, Floats]:
        """Predict each difference (N, E) from the others: means, variances, and log densities of the true ones.

        mean_i = y_i - [C^-1 y]_i / [C^-1]_ii and variance_i = 1 / [C^-1]_ii (Rasmussen and Williams 2006, eq. 5.12).
        """
        precision = np.einsum("enn->ne", self.inverse)
        errors = self.dual.T / precision
        freedom = _FREEDOM + len(differences) - 2
        inflation = (_FREEDOM + np.maximum(self.square - errors * self.dual.T, 0.0)) / freedom
        variance = inflation / precision
        density = -0.5 * (freedom + 1) * np.log1p(errors**2 / variance / freedom) - 0.5 * np.log(variance)
        return differences - errors, variance, density


@dataclass(frozen=True, eq=False)
class TwoFidelity:
    """A model of N truths in E outputs.

    evidence: the N mixtures.
    differences: (N, E), truth less proxy in units.
    posteriors: the laws that are not negligible.
    widening: (E,), the factor of all scales with which intervals hold truths left out.
    """

    yardstick: Yardstick
    evidence: _Places
    differences: Floats
    posteriors: Sequence[_Posterior]
    widening: Floats

    @classmethod
    def fit(cls, weights: Floats, proxy: Floats, truth: Floats, yardstick: Yardstick) -> TwoFidelity:
        """Learn from mixtures (N, K) with their proxies and truths (N, E). Raises `ValueError` for none."""
        model = cls.unwidened(weights, proxy, truth, yardstick)
        return replace(model, widening=model._widening()) if len(truth) >= ENOUGH_FOR_CONFORMAL else model

    @classmethod
    def unwidened(cls, weights: Floats, proxy: Floats, truth: Floats, yardstick: Yardstick) -> TwoFidelity:
        """Learn as `fit` does; intervals are those of the laws alone. Raises `ValueError` for none."""
        if not len(truth):
            raise ValueError("learning truths from proxies takes a trained mixture: there is none")
        evidence = yardstick.places(weights, proxy)
        differences = (truth - proxy) / yardstick.unit
        every = [_Posterior.of(law, prior, evidence, differences) for law, prior in _grid(yardstick)]
        most = max(one.plausible for one in every)
        kept = [one for one in every if one.plausible - most > np.log(_NEGLIGIBLE)]
        return cls(yardstick, evidence, differences, kept, np.ones(truth.shape[1]))

    @property
    def log_likelihood(self) -> float:
        """The log density of the N truths, in their own unit, as the mean over outputs."""
        units = len(self.differences) * np.log(self.yardstick.unit).mean()
        return float(np.logaddexp.reduce([one.plausible for one in self.posteriors]) - units)

    @property
    def shares(self) -> Floats:
        """The weights of the laws, summing to one."""
        return shares_of(np.array([one.plausible for one in self.posteriors]))

    def predict(self, weights: Floats, proxy: Floats, *, noisy: bool = True) -> Truth:
        """Predict mixtures (M, K) with proxies (M, E); `noisy`: as trained once, else the mean over data orders."""
        at = self.yardstick.places(weights, proxy)
        parts = [one.moments(self.evidence, at, noisy=noisy) for one in self.posteriors]
        return self._truth(proxy, *pooled(self.shares, parts), self._freedom)

    def means_of(self, output: int, weights: Floats, proxy: Floats) -> Floats:
        """Predict one output (M,) of many mixtures (M, K) from its proxies (M,) alone."""
        only = slice(output, output + 1)
        at = self.yardstick.places(weights, np.repeat(proxy[:, None], len(self.yardstick.unit), axis=1))
        at, evidence = (replace(one, proxy=one.proxy[:, only]) for one in (at, self.evidence))
        parts = [one.law.covariance(at, evidence)[0] @ one.dual[output] for one in self.posteriors]
        return np.asarray(proxy + self.yardstick.unit[output] * (self.shares @ np.stack(parts)))

    def left_out(self) -> Truth:
        """Predict each of the N truths from the others, with laws weighed without the truth left out."""
        proxy = self.evidence.proxy * self.yardstick.unit + self.yardstick.center
        return self._truth(proxy, *self._left_out(), self._freedom - 1)

    def draws(self, weights: Floats, proxy: Floats, output: int, rng: np.random.Generator, *, count: int) -> Floats:
        """Draw truths without noise (count, M) of mixtures (M, K), jointly, in one output."""
        at = self.yardstick.places(weights, proxy)
        drawn = []
        for posterior, often in zip(self.posteriors, rng.multinomial(count, self.shares), strict=True):
            if often:
                drawn.append(self._drawn(posterior, at, output, rng, int(often)))
        return np.asarray(proxy[:, output] + np.concatenate(drawn) * self.yardstick.unit[output])

    @property
    def _freedom(self) -> float:
        return _FREEDOM + len(self.differences) - 1

    def _truth(self, proxy: Floats, mean: Floats, variance: Floats, freedom: float) -> Truth:
        unit = self.yardstick.unit
        return Truth(proxy + mean * unit, np.sqrt(variance) * unit * self.widening, freedom)

    def _left_out(self) -> tuple[Floats, Floats]:
        means, variances, densities = zip(*(one.left_out(self.differences) for one in self.posteriors), strict=True)
        plausible = np.array([one.plausible for one in self.posteriors])
        rows = []
        for row in range(len(self.differences)):
            shares = shares_of(plausible - np.array([one[row].mean() for one in densities]))
            parts = [(mean[row], variance[row]) for mean, variance in zip(means, variances, strict=True)]
            rows.append(pooled(shares, parts))
        return np.stack([mean for mean, _ in rows]), np.stack([variance for _, variance in rows])

    def _widening(self) -> Floats:
        """Return the factor (E,) with which intervals would have held enough of the truths left out."""
        mean, variance = self._left_out()
        half = Truth(mean, np.sqrt(variance), self._freedom - 1).half_width(LEVEL)
        return conformal_quantile(np.abs(self.differences - mean) / half, LEVEL)

    def _drawn(self, posterior: _Posterior, at: _Places, output: int, rng: np.random.Generator, count: int) -> Floats:
        law, inverse = posterior.law, posterior.inverse[output]
        cross = law.covariance(at, self.evidence)[output]
        covariance = law.covariance(at, at)[output] - cross @ inverse @ cross.T
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0) * posterior.inflation[output])
        normal = rng.standard_normal((count, len(cross))) @ root.T
        stretch = np.sqrt(self._freedom / rng.chisquare(self._freedom, size=(count, 1)))
        return np.asarray(cross @ posterior.dual[output] + normal * stretch * self.widening[output])


def _grid(yardstick: Yardstick) -> list[tuple[_Law, float]]:
    """List the laws with the logarithms of their priors."""
    found = []
    for length, *sizes in product(_LENGTHS, _DELTAS, _NOISES, _SLOPES):
        delta, noise, slope = sizes
        law = _Law(length, delta, noise * yardstick.noise_in_units, slope)
        found.append((law, float(-0.5 * (((np.log(sizes) - _USUAL) / _DOUBT) ** 2).sum())))
    return found


def pooled(shares: Floats, parts: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return mean and variance of a mixture of laws."""
    mean = sum(share * one for share, (one, _) in zip(shares, parts, strict=True))
    second = sum(share * (variance + one**2) for share, (one, variance) in zip(shares, parts, strict=True))
    return np.asarray(mean), np.maximum(np.asarray(second) - np.asarray(mean) ** 2, 1e-12)
