"""Formulas as proxies that are a little wrong: a truth with a known optimum, plus a bias of a known kind.

A search among truths can be tested on them in seconds: the proxy is what a merge would say, the formula what training
would.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from objectives.held_out import Floats
from objectives.stand_ins.analytic import AnalyticLoss, Formula
from pool.files.digests import digest_json

BiasKind = Literal["smooth", "vertices", "moved"]
BIASES: tuple[BiasKind, ...] = get_args(BiasKind)
BIAS_NATS = 0.03
"""Standard deviation of a bias over random mixtures: half the spread of the truth."""

_SAMPLES = 512
_Bias = tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]
"""Values (N,) of mixtures (N, K), and the slopes (K,) at a mixture (K,)."""


class BiasedProxy(Formula):
    """truth(w) + bias(w), without noise, with gradients, as an `Objective`.

    smooth: w'Aw with A random and symmetric, its diagonal zero: nothing at the vertices, as for merges.
    vertices: h (1 - h) with h = sum_k w_k^2: largest for mixtures that one partition dominates.
    moved: g'w with g random: the optimum of the proxy lies elsewhere.
    """

    def __init__(self, truth: AnalyticLoss, kind: BiasKind, *, seed: int) -> None:
        self._truth = truth.with_noise(0.0, seed=0)
        count = len(truth.partitions)
        self._value, self._slopes = _BIASES[kind](np.random.default_rng([seed, 3]), count)
        drawn = np.random.default_rng([seed, 4]).dirichlet(np.full(count, np.sqrt(2 / count)), size=_SAMPLES)
        self._scale = BIAS_NATS / float(self._value(drawn).std())
        self._bias = [kind, seed]

    @property
    def partitions(self) -> tuple[str, ...]:
        return self._truth.partitions

    @property
    def digest(self) -> str:
        return digest_json({"proxy": self._truth.digest, "bias": self._bias})

    def exact(self, weights: Floats) -> Floats:
        return np.asarray(self._truth.exact(weights) + self._scale * self._value(weights))

    def partials(self, weights: Floats) -> Floats:
        return np.asarray(self._truth.partials(weights) + self._scale * self._slopes(weights))


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
