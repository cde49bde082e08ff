"""How well a proxy stands for the ground truth: figures over N mixtures with their intervals, beside the noise floor.

A statistic takes proxy and truth (..., N) and gives (...), NaN if undefined. Intervals are percentile intervals of the
bootstrap over mixtures (Efron and Tibshirani 1993, chapter 13), without the noise of a training run. The noise floor is
the spread of really trained losses when only the order of the data differs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from objectives.held_out import CONFIDENT, Floats

Statistic = Callable[[Floats, Floats], Floats]

TOP_SHARE = 0.25
"""Share of the mixtures counted as the top, and as the low tail of the losses."""
RESAMPLES = 2000
CONFIDENCE = 0.95
_PAIRS_AT_ONCE = 4_000_000
"""Pairs of mixtures compared at once: 32 MB for each array."""


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, low <= value <= high; all NaN if undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "-"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def bootstrap(statistics: Mapping[str, Statistic], proxy: Floats, truth: Floats) -> dict[str, Interval]:
    """Return every statistic of proxy and truth (N,) with its interval, all from the same resamples."""

    def every(proxy: Floats, truth: Floats) -> Floats:
        return np.stack([statistic(proxy, truth) for statistic in statistics.values()])

    values, drawn = every(proxy, truth).tolist(), resampled(every, proxy, truth)
    return {name: interval_of(value, row) for name, value, row in zip(statistics, values, drawn, strict=True)}


def resampled(statistic: Callable[..., Floats], *samples: Floats) -> Floats:
    """Return a statistic (..., B) of B resamples of N mixtures, the same mixtures from every sample (N,).

    N alone decides the resamples.
    """
    count = len(samples[0])
    import scipy.stats  # takes a second, as below: most answers ask for no bootstrap

    if count < 2:  # scipy refuses a single mixture
        return np.repeat(statistic(*samples)[..., None], RESAMPLES, axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)  # of figures undefined in some resamples
        result = scipy.stats.bootstrap(
            samples,
            lambda *drawn, axis: statistic(*drawn),
            n_resamples=RESAMPLES,
            batch=max(1, _PAIRS_AT_ONCE // count**2),
            vectorized=True,
            paired=True,
            method="percentile",
            rng=np.random.default_rng([0, count]),
        )
    distribution: Floats = result.bootstrap_distribution
    return distribution


def interval_of(value: float, drawn: Floats) -> Interval:
    """Turn the values of resamples into an interval, widened to hold the value. Undefined resamples are left out."""
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(defined):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def conformal_quantile(scores: Floats, coverage: float) -> Floats:
    """Return of N scores (N, ...) the one of rank ceil((N + 1) coverage), at most N."""
    rank = min(math.ceil((len(scores) + 1) * coverage), len(scores))
    found: Floats = np.sort(scores, axis=0)[rank - 1]
    return found


def statistics_of(count: int, *, noise_difference: float | None = None) -> Mapping[str, Statistic]:
    """Name the statistics for `count` mixtures.

    `noise_difference` is the chance difference of two truths; `accuracy_beyond_noise` leaves closer pairs out.
    """
    beyond: dict[str, Statistic] = {}
    if noise_difference is not None:
        beyond["accuracy_beyond_noise"] = partial(decision_accuracy, least=noise_difference)
    top = max(1, round(TOP_SHARE * count))
    return {
        "pearson": pearson,
        "spearman": spearman,
        "kendall": kendall,
        "decision_accuracy": decision_accuracy,
        **beyond,
        "top_k_overlap": partial(top_k_overlap, k=top),
        "regret_at_1": regret_at_1,
        "rmse": rmse,
        "low_tail_rmse": partial(low_tail_rmse, k=top),
        "bias": bias,
    }


@dataclass(frozen=True)
class NoiseFloor:
    """Standard deviations of trained losses.

    deviation: of one loss, with its 95 % interval from `low` to `high`.
    deviation_of_difference: of two mixtures trained in the same order, so that their common part cancels.
    freedom: the degrees of freedom behind `deviation`.
    """

    deviation: float
    low: float
    high: float
    deviation_of_difference: float
    freedom: int

    @classmethod
    def of(cls, groups: Sequence[Floats], *, crossed: bool = False) -> NoiseFloor | None:
        """Estimate from groups of losses, one group a mixture; None if no mixture was trained twice.

        deviation^2 = sum_g sum_i (x_gi - mean_g)^2 / sum_g (n_g - 1), times sqrt(2) for a difference. With `crossed`,
        the i-th losses of all groups share their order, and the means of mixtures and orders are taken out of the
        difference (two-way analysis of variance without replication).
        """
        repeated = [group for group in groups if len(group) > 1]
        if not repeated:
            return None
        from scipy.stats import chi2  # takes a second

        freedom = sum(len(group) - 1 for group in repeated)
        squares = math.fsum(float(((group - group.mean()) ** 2).sum()) for group in repeated)
        deviation = math.sqrt(squares / freedom)
        low, high = (deviation * math.sqrt(freedom / chi2.ppf(p, freedom)) for p in (0.975, 0.025))
        alone = _interaction(np.array(repeated)) if crossed and len(repeated) > 1 else deviation
        return cls(deviation, float(low), float(high), math.sqrt(2) * alone, freedom)

    @property
    def margin(self) -> float:
        """The largest chance difference of two truths trained in the same order (95 %)."""
        return CONFIDENT * self.deviation_of_difference

    @property
    def margin_of_one(self) -> float:
        """The largest chance error of a single truth (95 %)."""
        return CONFIDENT * self.deviation

    def ceiling(self, truths: Floats) -> float:
        """Return the highest Pearson any proxy can expect on truths (N,) this noisy.

        sqrt(1 - noise variance / variance of the truths), 0 for truths of noise alone (Spearman 1904).
        """
        variance = float(truths.var(ddof=1))
        return math.sqrt(max(0.0, 1 - self.deviation**2 / variance)) if variance > 0 else 0.0


def pearson(proxy: Floats, truth: Floats) -> Floats:
    x, y = (values - values.mean(axis=-1, keepdims=True) for values in (proxy, truth))
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    constant = (np.ptp(proxy, axis=-1) == 0) | (np.ptp(truth, axis=-1) == 0)
    return _ratio((x * y).sum(axis=-1), np.where(constant, 0.0, scale))


def spearman(proxy: Floats, truth: Floats) -> Floats:
    """Linear correlation of the ranks, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(proxy, axis=-1), rankdata(truth, axis=-1))


def kendall(proxy: Floats, truth: Floats) -> Floats:
    """Kendall's tau-b: concordant less discordant pairs, over the geometric mean of the pairs untied in each."""
    x, y = _pairs(proxy), _pairs(truth)
    signs = np.sign(x) * np.sign(y)
    untied = np.sqrt((x != 0).sum(axis=-1) * (y != 0).sum(axis=-1).astype(np.float64))
    return _ratio(signs.sum(axis=-1), untied)


def decision_accuracy(proxy: Floats, truth: Floats, *, least: float = 0.0) -> Floats:
    """Share of pairs in the proxy's right order, of those with truths more than `least` apart.

    A pair with equal proxies counts half (Magnusson et al. 2025, DataDecide, arXiv 2504.11393).
    """
    x, y = _pairs(proxy), _pairs(truth)
    asked = np.abs(y) > least
    right = ((np.sign(x) * np.sign(y) + 1) / 2 * asked).sum(axis=-1)
    return _ratio(right, asked.sum(axis=-1))


def top_k_overlap(proxy: Floats, truth: Floats, *, k: int) -> Floats:
    """Share of the k mixtures with the lowest truth among the k with the lowest proxy."""
    found: Floats = (_lowest(proxy, k) & _lowest(truth, k)).sum(axis=-1) / k
    return found


def regret_at_1(proxy: Floats, truth: Floats) -> Floats:
    """Cost of choosing by the proxy: the truth of its favourite less the lowest truth; never negative."""
    favourite = np.take_along_axis(truth, proxy.argmin(axis=-1)[..., None], axis=-1)[..., 0]
    regret: Floats = favourite - truth.min(axis=-1)
    return regret


def rmse(proxy: Floats, truth: Floats) -> Floats:
    error: Floats = np.sqrt(((proxy - truth) ** 2).mean(axis=-1))
    return error


def low_tail_rmse(proxy: Floats, truth: Floats, *, k: int) -> Floats:
    """Root of the mean squared difference over the k lowest truths: choices are made there."""
    error: Floats = np.sqrt((((proxy - truth) ** 2) * _lowest(truth, k)).sum(axis=-1) / k)
    return error


def bias(proxy: Floats, truth: Floats) -> Floats:
    """Mean of proxy less truth: below zero, merges look better than training."""
    mean: Floats = (proxy - truth).mean(axis=-1)
    return mean


def _pairs(values: Floats) -> Floats:
    first, second = np.triu_indices(values.shape[-1], 1)
    differences: Floats = values[..., first] - values[..., second]
    return differences


def _lowest(values: Floats, k: int) -> npt.NDArray[np.bool_]:
    order = np.argsort(values, axis=-1, kind="stable")
    lowest = np.zeros(values.shape, dtype=np.bool_)
    np.put_along_axis(lowest, order[..., :k], True, axis=-1)
    return lowest


def _ratio(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Floats:
    over = np.asarray(denominator, dtype=np.float64)
    ratio: Floats = np.where(over > 0, np.asarray(numerator) / np.where(over > 0, over, 1.0), np.nan)
    return ratio


def _interaction(table: Floats) -> float:
    rows, columns = table.shape
    left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return math.sqrt(float((left**2).sum()) / ((rows - 1) * (columns - 1)))


def shares_of(logarithms: Floats) -> Floats:
    """Return exp(logarithms) over their sum along the first axis."""
    powers = np.exp(logarithms - logarithms.max(axis=0))
    found: Floats = powers / powers.sum(axis=0)
    return found
