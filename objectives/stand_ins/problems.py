"""A table of analytic problems of realistic scale: by law, by where the optimum lies, by number of partitions."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from objectives.held_out import Floats
from objectives.stand_ins.analytic import AnalyticLoss
from objectives.stand_ins.mixing_laws import ExponentialLawLoss, LinearLawLoss, ScheffeLoss
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


def problem(
    kind: ProblemKind, placement: Placement, partitions: int, *, seed: int, noise_nats: float = 0.0
) -> AnalyticLoss:
    """Make a problem over so many `partitions`, its optimum inside the simplex, on a face or at a vertex.

    Its best value is `BEST_NATS`, and random mixtures (Dirichlet, about as sparse as random points of the search
    space) spread by `SPREAD_NATS`; everything is drawn from the seed. Raises `ValueError` for what there is not.
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


def problems(*, seed: int, noise_nats: float = 0.0) -> dict[str, AnalyticLoss]:
    """Make all of them, for every number of partitions in `SIZES`, by a name such as `scheffe-face-32`."""
    return {
        f"{kind}-{placement}-{count}": problem(kind, placement, count, seed=seed, noise_nats=noise_nats)
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
    """Members that go in similar directions (a few common factors) and each a little its own way."""
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
