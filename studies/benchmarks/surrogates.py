"""The verbs `bench surrogate` and `bench landscape`: predictions of unseen trained models, and of unseen merges.

The reference is RegMix's own regression (Liu et al. 2024, arXiv 2407.01492): LightGBM on raw weights, with the settings
of `regression_fitting/regression.ipynb` in https://github.com/sail-sg/regmix. As there, boosting stops on the test
runs, which favours the reference; its leaves of at least 20 runs cannot split 32 runs well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from objectives.evaluation import Objective
from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable, read_swarms, say_notes
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.progress import track
from search.space import CappedSimplex
from search.surrogates.automatic import SURROGATES
from search.surrogates.surrogate import ConformalSurrogate, Observations, Prediction, coverage

REFERENCE = "RegMix's LightGBM"
UNSEEN_SHARE = 1 / 3
"""Share of test runs, drawn from a swarm without any."""
LEAST_RUNS = 3
MEAN = "mean"

SETTINGS = {
    "boosting_type": "gbdt",
    "objective": "regression",
    "metric": ["l1", "l2"],
    "learning_rate": 1e-2,
    "seed": 42,
    "verbosity": -1,
    "num_threads": 1,  # not RegMix's: on tables this small threads only cost
}
TREES = 1000
STOPPING_ROUNDS = 3

Method = Callable[[Floats, Floats, Floats, Floats], Prediction]
"""Mixtures (N, K), values (N,), unseen mixtures (M, K), their values (M,) -> predictions (M,)."""


@dataclass(frozen=True)
class Spread:
    """Mean, least and greatest over the subsets; NaN if undefined for a subset."""

    mean: float
    min: float
    max: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        return cls(float(np.mean(figures)), float(np.min(figures)), float(np.max(figures)))


@dataclass(frozen=True)
class SurrogateResult:
    """The predictions of one metric of the `unseen` runs, by a surrogate fitted on so many `runs`.

    spearman: NaN if all predictions are equal.
    rmse: in the unit of the metric.
    coverage: share of unseen runs inside their conformal 90 % interval; NaN for the reference without intervals.
    """

    metric: str
    surrogate: str
    runs: int
    subsets: int
    unseen: int
    spearman: Spread
    rmse: Spread
    coverage: Spread


def run_surrogates(folder: Path, metrics: Sequence[str], sizes: Sequence[int], subsets: int) -> list[SurrogateResult]:
    """Fit every surrogate on the same random subsets of a swarm's training runs, and score it on unseen runs.

    No `metrics` means all of the swarm; the metric `mean` is the mean of all, unless the swarm has its own. Raises
    `ConfigError`.
    """
    train, unseen = read_swarms(folder)
    if unseen is None:
        train, unseen = split(train)
    if MEAN in metrics:
        train, unseen = _with_mean(train), _with_mean(unseen)
    metrics = metrics or list(train.metrics)
    train.check_metrics(metrics)
    unknown = [name for name in metrics if name not in train.metrics]
    if unknown:
        raise ConfigError(f"--metric: {unknown[0]!r} is no metric of {folder}; it has {', '.join(train.metrics)}")
    if max(sizes) > len(train.runs):
        raise ConfigError(f"--sizes: {folder} has {len(train.runs)} runs to train on, fewer than {max(sizes)}")
    say_notes(train, unseen)
    results = []
    with track("surrogates", len(metrics) * len(sizes) * len(methods())) as show:
        for metric, size in product(metrics, sizes):
            chosen = _subsets(train, size, subsets)
            for name, method in methods().items():
                results.append(_result(name, method, metric, chosen, unseen))
                show(len(results), f"{name}, {size} runs: Spearman {results[-1].spearman.mean:.4f}")
    return results


def methods() -> dict[str, Method]:
    ours: dict[str, Method] = {name: partial(_of_ours, name) for name in SURROGATES}
    return ours | ({REFERENCE: regmix_regression} if find_spec("lightgbm") is not None else {})


def split(table: SwarmTable) -> tuple[SwarmTable, SwarmTable]:
    """Split a swarm at random, but always alike, into training and test runs."""
    order = np.random.default_rng(0).permutation(len(table.runs)).tolist()
    kept = max(1, round(UNSEEN_SHARE * len(order)))
    return table.take(order[kept:]), table.take(order[:kept])


def _with_mean(table: SwarmTable) -> SwarmTable:
    mean: Floats = np.mean(list(table.metrics.values()), axis=0)
    return replace(table, metrics={MEAN: mean, **table.metrics})


def _subsets(train: SwarmTable, size: int, subsets: int) -> list[SwarmTable]:
    """Draw subsets of the runs; all runs make one subset."""
    count = 1 if size == len(train.runs) else subsets
    orders = (np.random.default_rng([size, subset]).permutation(len(train.runs)) for subset in range(count))
    return [train.take(order[:size].tolist()) for order in orders]


def _result(
    name: str, method: Method, metric: str, chosen: Sequence[SwarmTable], unseen: SwarmTable
) -> SurrogateResult:
    truth = unseen.metrics[metric]
    predictions = [method(one.weights, one.metrics[metric], unseen.weights, truth) for one in chosen]
    return SurrogateResult(
        metric,
        name,
        runs=len(chosen[0].runs),
        subsets=len(chosen),
        unseen=len(truth),
        spearman=Spread.of([_spearman(one.mean, truth) for one in predictions]),
        rmse=Spread.of([_rmse(one.mean, truth) for one in predictions]),
        coverage=Spread.of([coverage(one, truth) if one.deviation.any() else np.nan for one in predictions]),
    )


def _of_ours(name: str, weights: Floats, values: Floats, unseen: Floats, _: Floats) -> Prediction:
    return _predicted(name, Observations.of_values(weights, values), unseen)


def _predicted(name: str, observations: Observations, unseen: Floats) -> Prediction:
    surrogate = ConformalSurrogate(SURROGATES[name]())
    surrogate.fit(observations)
    return surrogate.predict(unseen)


def _spearman(predicted: Floats, truth: Floats) -> float:
    if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(spearmanr(predicted, truth).statistic)


def _rmse(predicted: Floats, truth: Floats) -> float:
    return float(np.sqrt(np.mean((predicted - truth) ** 2)))


def regmix_regression(weights: Floats, values: Floats, unseen: Floats, truth: Floats) -> Prediction:
    """Predict by the reference, with deviations of zero; the `truth` (M,) stops the boosting."""
    from lightgbm import Dataset, early_stopping, train

    evidence = Dataset(weights, values)
    test = Dataset(unseen, truth, reference=evidence)
    stopping = early_stopping(stopping_rounds=STOPPING_ROUNDS, verbose=False)
    booster = train(SETTINGS, evidence, num_boost_round=TREES, valid_sets=[test], callbacks=[stopping])
    mean = np.asarray(booster.predict(unseen), dtype=np.float64)
    return Prediction(mean, np.zeros_like(mean))


@dataclass(frozen=True)
class Fit:
    """The predictions of `unseen` merges by a surrogate fitted on so many evaluations, with or without gradients.

    rmse: in the study's measure.
    spread: standard deviation of the unseen values.
    coverage: share of unseen values inside their conformal 90 % interval.
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
    objective: Objective, space: CappedSimplex, plain: Sequence[int], steep: Sequence[int], *, unseen: int, seed: int
) -> list[Fit]:
    """Fit every surrogate on the first evaluations of mixtures drawn from Dirichlet(1) and projected to the space.

    Numbers of evaluations are `plain` of values alone, and `steep` of values with gradients. Raises `ConfigError` for
    an objective without gradients.
    """
    gradient = objective.gradient
    if gradient is None:
        raise ConfigError("bench landscape needs an objective with gradients; take [downstream] out of the study file")
    with track("landscape", unseen + max(plain) + max(steep)) as show:
        done = 0

        def evaluated(mixtures: Sequence[Mixture], *, with_gradient: bool) -> Observations:
            nonlocal done
            rows = []
            for mixture in mixtures:
                rows.append(gradient(mixture) if with_gradient else objective(mixture))
                done += 1
                show(done, "merges")
            weights = [mixture.over(space.names).array for mixture in mixtures]
            known = [row.gradient if with_gradient else None for row in rows]
            return Observations.of_gradients(weights, [row.value for row in rows], known)

        truth = evaluated(_draw(space, unseen, [seed, 0]), with_gradient=False)
        values = evaluated(_draw(space, max(plain), [seed, 1]), with_gradient=False)
        start = space.project(np.full(len(space.names), 1 / len(space.names)))
        slopes = evaluated([start, *_draw(space, max(steep) - 1, [seed, 2])], with_gradient=True)
    fits = [_fit(name, values.take(slice(count)), truth) for count in plain for name in SURROGATES]
    return fits + [_fit("scheffe", slopes.take(slice(count)), truth) for count in steep]


def _draw(space: CappedSimplex, count: int, seed: Sequence[int]) -> list[Mixture]:
    rows = np.random.default_rng(seed).dirichlet(np.ones(len(space.names)), size=count)
    return [space.project(row) for row in rows]


def _fit(name: str, observations: Observations, truth: Observations) -> Fit:
    prediction = _predicted(name, observations, truth.weights)
    return Fit(
        name,
        evaluations=len(observations),
        gradients=bool(observations.differentiated.any()),
        unseen=len(truth),
        spearman=_spearman(prediction.mean, truth.values),
        rmse=_rmse(prediction.mean, truth.values),
        spread=float(truth.values.std()),
        coverage=coverage(prediction, truth.values),
    )
