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

import numpy as np

from objectives.agreement.correction_laws import FREEDOM, LawGiven, Pairs, Places, correction_laws
from objectives.agreement.statistics import conformal_quantile, shares_of
from objectives.held_out import Floats

ENOUGH_FOR_CONFORMAL = 12
"""From so many truths, the errors of truths left out set the width of intervals."""
LEVEL = 0.9
"""The share of truths left out that the widened intervals hold."""
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

    def places(self, weights: Floats, proxy: Floats) -> Places:
        spread = np.maximum(self.weights.std(axis=0), 1e-3)
        return Places(weights / spread / np.sqrt(weights.shape[1]), (proxy - self.center) / self.unit)


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
class TwoFidelity:
    """A model of N truths in E outputs.

    evidence: the N mixtures.
    differences: (N, E), truth less proxy in units.
    posteriors: the laws that are not negligible.
    widening: (E,), the factor of all scales with which intervals hold truths left out.
    """

    yardstick: Yardstick
    evidence: Places
    differences: Floats
    posteriors: Sequence[LawGiven]
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
        pairs, laws = Pairs.of(evidence, evidence), correction_laws(yardstick.noise_in_units)
        every = [LawGiven.of(law, prior, pairs, differences) for law, prior in laws]
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
        pairs = Pairs.of(self.yardstick.places(weights, proxy), self.evidence)
        parts = [one.moments(pairs, noisy=noisy) for one in self.posteriors]
        return self._truth(proxy, *pooled(self.shares, parts), self._freedom)

    def means_of(self, output: int, weights: Floats, proxy: Floats) -> Floats:
        """Predict one output (M,) of many mixtures (M, K) from its proxies (M,) alone."""
        only = slice(output, output + 1)
        at = self.yardstick.places(weights, np.repeat(proxy[:, None], len(self.yardstick.unit), axis=1))
        at, evidence = (replace(one, proxy=one.proxy[:, only]) for one in (at, self.evidence))
        pairs = Pairs.of(at, evidence)
        parts = [one.law.covariance(pairs)[0] @ one.dual[output] for one in self.posteriors]
        return np.asarray(proxy + self.yardstick.unit[output] * (self.shares @ np.stack(parts)))

    def left_out(self) -> Truth:
        """Predict each of the N truths from the others, with laws weighed without the truth left out."""
        proxy = self.evidence.proxy * self.yardstick.unit + self.yardstick.center
        return self._truth(proxy, *self._left_out(), self._freedom - 1)

    def draws(self, weights: Floats, proxy: Floats, output: int, rng: np.random.Generator, *, count: int) -> Floats:
        """Draw truths without noise (count, M) of mixtures (M, K), jointly, in one output."""
        at = self.yardstick.places(weights, proxy)
        cross, own = Pairs.of(at, self.evidence), Pairs.of(at, at)
        drawn = []
        for posterior, often in zip(self.posteriors, rng.multinomial(count, self.shares), strict=True):
            if often:
                drawn.append(self._drawn(posterior, (cross, own), output, rng, int(often)))
        return np.asarray(proxy[:, output] + np.concatenate(drawn) * self.yardstick.unit[output])

    @property
    def _freedom(self) -> float:
        return FREEDOM + len(self.differences) - 1

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

    def _drawn(
        self, posterior: LawGiven, pairs: tuple[Pairs, Pairs], output: int, rng: np.random.Generator, count: int
    ) -> Floats:
        """Draw by one law, given M places paired with the evidence and with themselves."""
        law, inverse = posterior.law, posterior.inverse[output]
        cross, own = (law.covariance(one)[output] for one in pairs)
        covariance = own - cross @ inverse @ cross.T
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0) * posterior.inflation[output])
        normal = rng.standard_normal((count, len(cross))) @ root.T
        stretch = np.sqrt(self._freedom / rng.chisquare(self._freedom, size=(count, 1)))
        return np.asarray(cross @ posterior.dual[output] + normal * stretch * self.widening[output])


def pooled(shares: Floats, parts: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return mean and variance of a mixture of laws."""
    mean = sum(share * one for share, (one, _) in zip(shares, parts, strict=True))
    second = sum(share * (variance + one**2) for share, (one, variance) in zip(shares, parts, strict=True))
    return np.asarray(mean), np.maximum(np.asarray(second) - np.asarray(mean) ** 2, 1e-12)
