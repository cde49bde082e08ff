"""Formulas as proxies that are a little wrong: a truth with a known optimum, plus a bias of a known kind.

A search among truths can be tested on them in seconds: the proxy is what a merge would say, the formula what training
would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from objectives.evaluation import Evaluation
from objectives.held_out import Floats
from objectives.stand_ins.analytic import AnalyticLoss
from pool.files.digests import digest_json
from pool.mixture import Mixture

BiasKind = Literal["smooth", "vertices", "moved"]
BIASES: tuple[BiasKind, ...] = get_args(BiasKind)
BIAS_NATS = 0.03
"""Standard deviation of a bias over random mixtures: half the spread of the truth."""

_SAMPLES = 512
_Bias = tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]
"""Values (N,) of mixtures (N, K), and the slopes (K,) at a mixture (K,)."""


class BiasedProxy:
    """truth(w) + bias(w), without noise, with gradients, as an `Objective`.

    smooth: w'Aw with A random and symmetric, its diagonal zero: nothing at the vertices, as for merges.
    vertices: h (1 - h) with h = sum_k w_k^2: largest for mixtures that one partition dominates.
    moved: g'w with g random: the optimum of the proxy lies elsewhere.
    """

    challenge = foundation = None

    def __init__(self, truth: AnalyticLoss, kind: BiasKind, *, seed: int) -> None:
        self._truth = truth.with_noise(0.0, seed=0)
        count = len(truth.partitions)
        self._value, self._slopes = _BIASES[kind](np.random.default_rng([seed, 3]), count)
        drawn = np.random.default_rng([seed, 4]).dirichlet(np.full(count, np.sqrt(2 / count)), size=_SAMPLES)
        self._scale = BIAS_NATS / float(self._value(drawn).std())
        self.digest = digest_json({"proxy": self._truth.digest, "bias": [kind, seed]})

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._truth.partitions

    def exact(self, weights: Floats) -> Floats:
        """Return the values (N,) of mixtures (N, K), nats per token."""
        return np.asarray(self._truth.exact(weights) + self._scale * self._value(weights))

    def partials(self, weights: Floats) -> Floats:
        """Return d value / d weight (K,) at a mixture (K,)."""
        return np.asarray(self._truth.partials(weights) + self._scale * self._slopes(weights))

    def __call__(self, mixture: Mixture) -> Evaluation:
        return self._evaluation(mixture, with_gradient=False)

    def gradient(self, mixture: Mixture) -> Evaluation:
        return self._evaluation(mixture, with_gradient=True)

    def _evaluation(self, mixture: Mixture, *, with_gradient: bool) -> Evaluation:
        started = time.perf_counter()
        weights = mixture.over(self.partitions).array
        slopes = dict(zip(self.partitions, self.partials(weights).tolist(), strict=True)) if with_gradient else {}
        return Evaluation(
            mixture,
            value=float(self.exact(weights[None])[0]),
            standard_error=0.0,
            domains={},
            kind="analytic",
            objective_digest=self.digest,
            seconds=time.perf_counter() - started,
            tokens_read=0,
            gradient=tuple(slopes[name] for name in mixture.names) if with_gradient else None,
        )


def _smooth(rng: np.random.Generator, count: int) -> _Bias:
    drawn = rng.normal(size=(count, count))
    pairs = drawn + drawn.T
    np.fill_diagonal(pairs, 0.0)
    return lambda weights: ((weights @ pairs) * weights).sum(axis=1), lambda weights: 2 * pairs @ weights


def _vertices(rng: np.random.Generator, count: int) -> _Bias:
    def value(weights: Floats) -> Floats:
        dominated = (weights**2).sum(axis=1)
        return np.asarray(dominated * (1 - dominated))

    return value, lambda weights: (1 - 2 * (weights**2).sum()) * 2 * weights


def _moved(rng: np.random.Generator, count: int) -> _Bias:
    slopes = rng.normal(size=count)
    return lambda weights: weights @ slopes, lambda weights: slopes


_BIASES: dict[BiasKind, Callable[[np.random.Generator, int], _Bias]] = {
    "smooth": _smooth,
    "vertices": _vertices,
    "moved": _moved,
}
