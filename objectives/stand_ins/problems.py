"""Mixing laws as objectives with a known optimum, and a table of problems of realistic scale.

Merges nearly follow Scheffe's quadratic, with the linear law its simplest case; really trained models follow the
exponential law. `with_optimum` solves for the coefficients not given, without numerical optimisation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from objectives.held_out import Floats
from objectives.stand_ins.analytic import AnalyticLoss, formula_digest
from pool.mixture import Mixture

ProblemKind = Literal["linear", "scheffe", "exponential"]
Placement = Literal["inside", "face", "vertex"]

SIZES = (8, 32, 128)
BEST_NATS = 3.2
SPREAD_NATS = 0.06
"""Standard deviation of the values of random mixtures: that of small merged models on real text."""
FACE_SHARE = 0.25
"""Share of the partitions that have weight at an optimum on a face."""

_SAMPLES = 512
Law = Callable[[Mixture, np.random.Generator, float], AnalyticLoss]


class ScheffeLoss(AnalyticLoss):
    """L(w) = b'w + w'Qw, with b `linear` (K,) and Q `quadratic` (K, K), symmetric and positive semidefinite.

    The canonical mixture polynomial of degree two (Scheffe 1958, J. R. Stat. Soc. B 20). Raises `ValueError` for
    another Q and other shapes.
    """

    def __init__(self, optimum: Mixture, linear: Floats, quadratic: Floats) -> None:
        count = len(optimum.names)
        if linear.shape != (count,) or quadratic.shape != (count, count):
            raise ValueError(f"expected shapes {(count,)} and {(count, count)}: got {linear.shape}, {quadratic.shape}")
        eigenvalues = np.linalg.eigvalsh(quadratic)
        if not np.array_equal(quadratic, quadratic.T) or eigenvalues[0] < -1e-10 * max(1.0, eigenvalues[-1]):
            raise ValueError(f"Q must be symmetric, its eigenvalues >= 0: the least of them is {eigenvalues[0]:.3g}")
        self._linear, self._quadratic = linear.copy(), quadratic.copy()
        super().__init__(optimum, formula_digest("scheffe", optimum.names, linear, quadratic))

    @classmethod
    def with_optimum(
        cls, optimum: Mixture, quadratic: Floats, multipliers: Floats, *, best_value: float
    ) -> ScheffeLoss:
        """Solve for b so that `optimum` w* is exact: b = nu + mu - 2 Q w*, with nu = best_value + w*'Q w*.

        mu `multipliers` (K,) > 0 is the cost of a partition's weight at the optimum; only those with w* = 0 count.
        On the simplex L(w) = best_value + mu'w + (w - w*)'Q(w - w*). Raises `ValueError`.
        """
        best = optimum.array
        nu = best_value + float(best @ quadratic @ best)
        linear = nu + _on_zeros(multipliers, optimum) - 2 * quadratic @ best
        return cls(optimum, linear, quadratic)

    def exact(self, weights: Floats) -> Floats:
        values: Floats = weights @ self._linear + ((weights @ self._quadratic) * weights).sum(axis=1)
        return values

    def partials(self, weights: Floats) -> Floats:
        slopes: Floats = self._linear + 2 * self._quadratic @ weights
        return slopes


class LinearLawLoss(AnalyticLoss):
    """L(w) = b'w, with b `slopes` (K,), the partitions' own losses. Lowest at a vertex, the first of equals."""

    def __init__(self, partitions: Sequence[str], slopes: Floats) -> None:
        if slopes.shape != (len(partitions),):
            raise ValueError(f"expected one slope for each of {len(partitions)} partitions: got {slopes.shape}")
        self._slopes = slopes.copy()
        optimum = Mixture.vertex(partitions, partitions[int(np.argmin(slopes))])
        super().__init__(optimum, formula_digest("linear", partitions, slopes))

    def exact(self, weights: Floats) -> Floats:
        values: Floats = weights @ self._slopes
        return values

    def partials(self, weights: Floats) -> Floats:
        return self._slopes.copy()


class ExponentialLawLoss(AnalyticLoss):
    """L(w) = c + sum_e exp(a_e + t_e'w) over E held-out domains, with a `levels` (E,) and t `slopes` (E, K).

    Ye et al. 2024 (arXiv 2403.16952), with the domains' offsets and target weights inside `offset` c and the levels.
    Convex for any slopes. Raises `ValueError` for shapes that do not fit.
    """

    def __init__(self, optimum: Mixture, offset: float, levels: Floats, slopes: Floats) -> None:
        if levels.ndim != 1 or slopes.shape != (len(levels), len(optimum.names)):
            raise ValueError(
                f"expected levels (E,) and slopes (E, {len(optimum.names)}): got {levels.shape}, {slopes.shape}"
            )
        self._offset, self._levels, self._slopes = offset, levels.copy(), slopes.copy()
        digest = formula_digest("exponential", optimum.names, np.array([offset]), levels, slopes)
        super().__init__(optimum, digest)

    @classmethod
    def with_optimum(
        cls, optimum: Mixture, slopes: Floats, excess: Floats, multipliers: Floats, *, best_value: float
    ) -> ExponentialLawLoss:
        """Solve for offset and levels so that `optimum` w* is exact, and shift the slopes.

        `excess` y (E,) > 0 is each domain's value above its offset at w*, nats: a_e = log y_e - t_e'w*. All t_e shift
        by the same d (K,) = (T'y - 1 nu - mu) / sum_e y_e, so that the gradient is T'y = 1 nu + mu. `multipliers` mu
        as for `ScheffeLoss`. Raises `ValueError`.
        """
        if not (excess > 0).all():
            raise ValueError(f"the domains' excess must be above 0: the least of it is {excess.min():.3g}")
        pull = slopes.T @ excess
        nu = float(optimum.array @ pull)
        shifted = slopes - (pull - nu - _on_zeros(multipliers, optimum)) / excess.sum()
        levels = np.log(excess) - shifted @ optimum.array
        return cls(optimum, best_value - float(excess.sum()), levels, shifted)

    def exact(self, weights: Floats) -> Floats:
        values: Floats = self._offset + np.exp(self._levels + weights @ self._slopes.T).sum(axis=1)
        return values

    def partials(self, weights: Floats) -> Floats:
        slopes: Floats = np.exp(self._levels + self._slopes @ weights) @ self._slopes
        return slopes


def _on_zeros(multipliers: Floats, optimum: Mixture) -> Floats:
    """Return the multipliers (K,), zero for partitions of the optimum: complementary slackness."""
    zeros = optimum.array == 0
    if multipliers.shape != zeros.shape or not (multipliers[zeros] > 0).all():
        raise ValueError(f"expected {len(zeros)} multipliers, above 0 wherever the optimum has no weight")
    kept: Floats = np.where(zeros, multipliers, 0.0)
    return kept


def problem(
    kind: ProblemKind, placement: Placement, partitions: int, *, seed: int, noise_nats: float = 0.0
) -> AnalyticLoss:
    """Make a problem over so many `partitions`, its optimum inside the simplex, on a face or at a vertex.

    The best value is `BEST_NATS`; random mixtures, about as sparse as random points of the search space, spread by
    `SPREAD_NATS`. Raises `ValueError` for a combination not `available`.
    """
    if (kind, placement) not in available():
        known = ", ".join(f"{a} {b}" for a, b in available())
        raise ValueError(f"there is no {placement!r} problem of kind {kind!r}: there are {known}")
    least = 3 if placement == "face" else 2
    if partitions < least:
        raise ValueError(f"the {placement} problem needs at least {least} partitions: got {partitions}")
    optimum = _optimum(placement, partitions, np.random.default_rng([seed, 0]))
    mixtures = np.random.default_rng([seed, 1]).dirichlet(np.full(partitions, np.sqrt(2 / partitions)), size=_SAMPLES)

    def law(scale: float) -> AnalyticLoss:
        return _LAWS[kind](optimum, np.random.default_rng([seed, 2]), scale)

    # Every law is proportional to its scale, but for the best value.
    return law(SPREAD_NATS / float(law(1.0).exact(mixtures).std())).with_noise(noise_nats, seed=seed)


def available() -> list[tuple[ProblemKind, Placement]]:
    """List the kinds with their placements: a linear law has its optimum at a vertex only."""
    every = [(kind, placement) for kind in get_args(ProblemKind) for placement in get_args(Placement)]
    return [(kind, placement) for kind, placement in every if kind != "linear" or placement == "vertex"]


def problems(*, seed: int) -> dict[str, AnalyticLoss]:
    """Make all problems, for every number of partitions in `SIZES`, by names such as `scheffe-face-32`."""
    return {
        f"{kind}-{placement}-{count}": problem(kind, placement, count, seed=seed)
        for kind, placement in available()
        for count in SIZES
    }


def _optimum(placement: Placement, count: int, rng: np.random.Generator) -> Mixture:
    used = {"inside": count, "face": max(2, round(FACE_SHARE * count)), "vertex": 1}[placement]
    weights = np.zeros(count)
    weights[rng.choice(count, size=used, replace=False)] = rng.dirichlet(np.ones(used))
    return Mixture.from_array([f"p{k:03d}" for k in range(count)], weights / weights.sum())


def _linear(optimum: Mixture, rng: np.random.Generator, scale: float) -> AnalyticLoss:
    slopes: Floats = BEST_NATS + scale * np.where(optimum.array > 0, 0.0, _multipliers(optimum, rng))
    return LinearLawLoss(optimum.names, slopes)


def _scheffe(optimum: Mixture, rng: np.random.Generator, scale: float) -> AnalyticLoss:
    """Members move in similar directions (a few common factors), and each a little in its own."""
    count = len(optimum.names)
    factors = rng.normal(size=(count, max(2, count // 4))) / np.sqrt(max(2, count // 4))
    quadratic = factors @ factors.T + np.diag(rng.uniform(0.2, 1.0, count))
    quadratic = scale * (quadratic + quadratic.T) / 2
    return ScheffeLoss.with_optimum(optimum, quadratic, scale * _multipliers(optimum, rng), best_value=BEST_NATS)


def _exponential(optimum: Mixture, rng: np.random.Generator, scale: float) -> AnalyticLoss:
    """As many domains as partitions, each helped most by its own partition."""
    count = len(optimum.names)
    slopes = rng.normal(0.0, 0.3, (count, count)) - np.diag(rng.uniform(1.0, 3.0, count))
    excess = scale * rng.uniform(0.5, 1.5, count) / count
    multipliers = scale * _multipliers(optimum, rng)
    return ExponentialLawLoss.with_optimum(optimum, slopes, excess, multipliers, best_value=BEST_NATS)


def _multipliers(optimum: Mixture, rng: np.random.Generator) -> Floats:
    multipliers: Floats = rng.uniform(0.1, 1.0, len(optimum.names))
    return multipliers


_LAWS: dict[ProblemKind, Law] = {"linear": _linear, "scheffe": _scheffe, "exponential": _exponential}
