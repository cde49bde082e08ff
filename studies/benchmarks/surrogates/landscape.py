"""The verb `bench landscape`: how well surrogates predict unseen merges of a pool, from values and from gradients.

Mixtures are Dirichlet(1) draws projected to the study's space; the evaluations are remembered, so asking again is free.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import spearmanr

from objectives.held_out import Floats
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.progress import track
from search.surrogates.automatic import SURROGATES
from search.surrogates.surrogate import ConformalSurrogate, Observations, coverage
from studies.opened.on_pool import Workbench


@dataclass(frozen=True)
class Fit:
    """A surrogate fitted on so many evaluations, values alone or with their gradients, against the unseen merges.

    `rmse` is in the study's measure; `spread` is the standard deviation of the unseen merges' values; `coverage` is the
    share of them inside their conformal 90 % interval.
    """

    surrogate: str
    evaluations: int
    gradients: bool
    unseen: int
    spearman: float
    rmse: float
    spread: float
    coverage: float


def run_landscape(
    bench: Workbench, values: Sequence[int], gradients: Sequence[int], *, unseen: int, seed: int
) -> list[Fit]:
    """Fit every surrogate on the first so many evaluations. Raises `ConfigError` where there are no gradients."""
    if bench.objective.gradient is None:
        raise ConfigError("bench landscape needs an objective with gradients; take [downstream] out of the study file")
    with track("landscape", unseen + max(values) + max(gradients)) as show:
        done = 0

        def evaluated(mixtures: Sequence[Mixture], *, with_gradient: bool) -> Observations:
            nonlocal done
            rows = []
            for mixture in mixtures:
                assert bench.objective.gradient is not None
                rows.append(bench.objective.gradient(mixture) if with_gradient else bench.objective(mixture))
                done += 1
                show(done, "merges")
            weights = [mixture.over(bench.space.names).array for mixture in mixtures]
            known = [row.gradient if with_gradient else None for row in rows]
            return Observations.of_gradients(weights, [row.value for row in rows], known)

        truth = evaluated(draw(bench, unseen, [seed, 0]), with_gradient=False)
        plain = evaluated(draw(bench, max(values), [seed, 1]), with_gradient=False)
        start = bench.space.project(np.full(len(bench.space.names), 1 / len(bench.space.names)))
        steep = evaluated([start, *draw(bench, max(gradients) - 1, [seed, 2])], with_gradient=True)
    fits = [_fit(name, plain.take(slice(count)), truth) for count in values for name in SURROGATES]
    return fits + [_fit(name, steep.take(slice(count)), truth) for count in gradients for name in ("scheffe",)]


def draw(bench: Workbench, count: int, seed: Sequence[int]) -> list[Mixture]:
    """Draw mixtures of the study's space."""
    rows = np.random.default_rng(seed).dirichlet(np.ones(len(bench.space.names)), size=count)
    return [bench.space.project(row) for row in rows]


def as_json(fits: Sequence[Fit]) -> list[dict[str, object]]:
    """Give what `bench landscape --json` prints."""
    return [asdict(fit) for fit in fits]


def _fit(name: str, observations: Observations, truth: Observations) -> Fit:
    surrogate = ConformalSurrogate(SURROGATES[name]())
    surrogate.fit(observations)
    prediction = surrogate.predict(truth.weights)
    predicted: Floats = prediction.mean
    return Fit(
        name,
        evaluations=len(observations),
        gradients=bool(observations.differentiated.any()),
        unseen=len(truth),
        spearman=float(spearmanr(predicted, truth.values).statistic),
        rmse=float(np.sqrt(np.mean((predicted - truth.values) ** 2))),
        spread=float(truth.values.std()),
        coverage=coverage(prediction, truth.values),
    )
