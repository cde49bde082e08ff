"""The verb `bench surrogate`: how well each surrogate predicts trained models that it has not seen, from how many.

RegMix's own regression, the reference that surrogates are measured beside: LightGBM on raw weights.

The settings are those of `regression_fitting/regression.ipynb` in https://github.com/sail-sg/regmix (Liu et al. 2024,
arXiv 2407.01492), LightGBM's defaults where it says nothing (31 leaves of at least 20 runs, so 32 runs cannot be
split well). As there, boosting stops on the very runs that it is then scored on, which favours it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable, read_swarms
from pool.errors import ConfigError
from pool.progress import track
from search.surrogates.automatic import SURROGATES
from search.surrogates.surrogate import ConformalSurrogate, Observations, Prediction, Surrogate, coverage
from studies.benchmarks.surrogates import surrogate as regmix_regression

REFERENCE = "RegMix's LightGBM"
UNSEEN_SHARE = 1 / 3
"""Share of a swarm without test runs that is kept for testing."""
LEAST_RUNS = 3
MEAN = "mean"

Method = Callable[[Floats, Floats, Floats, Floats], Prediction]
"""Mixtures (N, K), values (N,), unseen mixtures (M, K), their values (M,) -> predictions (M,)."""


@dataclass(frozen=True)
class Spread:
    """Mean, least and greatest over the subsets; NaN where one of them was not defined."""

    mean: float
    min: float
    max: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """Sum up figures."""
        return cls(float(np.mean(figures)), float(np.min(figures)), float(np.max(figures)))


@dataclass(frozen=True)
class SurrogateResult:
    """How one surrogate, fitted on so many `runs`, predicts one metric of the `unseen` runs.

    `rmse` is in the metric's unit, `spearman` not defined (NaN) where all predictions are equal. `coverage` is the
    share of the unseen inside their conformal 90 % interval, NaN for the reference, which has none.
    """

    metric: str
    surrogate: str
    runs: int
    subsets: int
    unseen: int
    spearman: Spread
    rmse: Spread
    coverage: Spread


@dataclass(frozen=True)
class Question:
    """Which metrics to predict, from how many runs, on how many random subsets of them."""

    metrics: tuple[str, ...]
    sizes: tuple[int, ...]
    subsets: int


def run_surrogates(folder: Path, metrics: Sequence[str], sizes: Sequence[int], subsets: int) -> list[SurrogateResult]:
    """Fit every surrogate on random subsets of a folder's training runs and score it on the unseen ones.

    All surrogates see the same subsets. `mean` is the mean of all metrics, where the table has none of that name.
    Without metrics, all of the table are predicted. Raises `ConfigError`.
    """
    train, unseen = read_swarms(folder)
    if unseen is None:
        train, unseen = split(train)
    if MEAN in metrics:
        train, unseen = _with_mean(train), _with_mean(unseen)
    question = Question(tuple(metrics) or tuple(train.metrics), tuple(sizes), subsets)
    _check(question, train, folder)
    results = []
    total = len(question.metrics) * len(question.sizes) * len(methods())
    with track("surrogates", total) as show:
        for metric in question.metrics:
            for size in question.sizes:
                chosen = _subsets(train, size, question.subsets)
                for name, method in methods().items():
                    results.append(_result(name, method, metric, chosen, unseen))
                    show(len(results), f"{name}, {size} runs: Spearman {results[-1].spearman.mean:.4f}")
    return results


def methods() -> dict[str, Method]:
    """List what is compared: every surrogate there is, and the reference where it is installed."""
    ours = {name: _method(make) for name, make in SURROGATES.items()}
    return ours | ({REFERENCE: _reference} if regmix_regression.is_installed() else {})


def split(table: SwarmTable, *, seed: int = 0) -> tuple[SwarmTable, SwarmTable]:
    """Split a swarm at random into runs to train on and runs to test on, always alike."""
    order = np.random.default_rng(seed).permutation(len(table.runs)).tolist()
    kept = max(1, round(UNSEEN_SHARE * len(order)))
    return table.take(order[kept:]), table.take(order[:kept])


def as_json(results: Sequence[SurrogateResult]) -> list[dict[str, object]]:
    """Give what `bench surrogate --json` prints."""
    return [asdict(result) for result in results]


def _with_mean(table: SwarmTable) -> SwarmTable:
    mean: Floats = np.mean(list(table.metrics.values()), axis=0)
    return replace(table, metrics={MEAN: mean, **table.metrics})


def _check(question: Question, train: SwarmTable, folder: Path) -> None:
    unknown = [name for name in question.metrics if name not in train.metrics]
    if unknown:
        raise ConfigError(f"--metric: {unknown[0]!r} is no metric of {folder}; it has {', '.join(train.metrics)}")
    if max(question.sizes) > len(train.runs):
        raise ConfigError(f"--sizes: {folder} has {len(train.runs)} runs to train on, fewer than {max(question.sizes)}")


def _subsets(train: SwarmTable, size: int, subsets: int) -> list[SwarmTable]:
    """Draw subsets of the runs; there is only one of all of them."""
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
        rmse=Spread.of([float(np.sqrt(np.mean((one.mean - truth) ** 2))) for one in predictions]),
        coverage=Spread.of([coverage(one, truth) if one.deviation.any() else np.nan for one in predictions]),
    )


def _reference(weights: Floats, values: Floats, unseen: Floats, truth: Floats) -> Prediction:
    mean = regmix_regression.predict(weights, values, unseen, truth)
    return Prediction(mean, np.zeros_like(mean))


def _method(make: Callable[[], Surrogate]) -> Method:
    def predict(weights: Floats, values: Floats, unseen: Floats, _: Floats) -> Prediction:
        surrogate = ConformalSurrogate(make())
        surrogate.fit(Observations.of_values(weights, values))
        return surrogate.predict(unseen)

    return predict


def _spearman(predicted: Floats, truth: Floats) -> float:
    if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(spearmanr(predicted, truth).statistic)


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


def is_installed() -> bool:
    """Tell whether LightGBM is there."""
    return find_spec("lightgbm") is not None


def predict(weights: Floats, values: Floats, unseen: Floats, unseen_values: Floats) -> Floats:
    """Fit mixtures (N, K) and values (N,) and predict unseen mixtures (M, K), whose values (M,) end the boosting."""
    from lightgbm import Dataset, early_stopping, train

    evidence = Dataset(weights, values)
    test = Dataset(unseen, unseen_values, reference=evidence)
    stopping = early_stopping(stopping_rounds=STOPPING_ROUNDS, verbose=False)
    booster = train(SETTINGS, evidence, num_boost_round=TREES, valid_sets=[test], callbacks=[stopping])
    return np.asarray(booster.predict(unseen), dtype=np.float64)
