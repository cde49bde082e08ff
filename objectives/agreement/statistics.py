"""How well a proxy stands for the ground truth: figures over N mixtures, losses in whatever unit both share.

Every statistic takes proxy and truth (..., N) and gives (...), so that resamples are one call. NaN where it is not
defined (all values equal, no pair to judge).
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from objectives.held_out import Floats

Statistic = Callable[[Floats, Floats], Floats]

TOP_SHARE = 0.25
"""Share of the mixtures that counts as the top, and as the low tail of the losses."""


def statistics_of(count: int, *, noise_difference: float | None = None) -> Mapping[str, Statistic]:
    """Name the statistics for `count` mixtures.

    `noise_difference` is by how much two truths differ by chance: pairs closer than that are no fair question, and
    `accuracy_beyond_noise`, which there is where the noise is known, leaves them out.
    """
    beyond = {} if noise_difference is None else {"accuracy_beyond_noise": noise_difference}
    top = max(1, round(TOP_SHARE * count))
    return {
        "pearson": pearson,
        "spearman": spearman,
        "kendall": kendall,
        "decision_accuracy": decision_accuracy,
        **{name: partial(decision_accuracy, least=least) for name, least in beyond.items()},
        "top_k_overlap": partial(top_k_overlap, k=top),
        "regret_at_1": regret_at_1,
        "rmse": rmse,
        "low_tail_rmse": partial(low_tail_rmse, k=top),
        "bias": bias,
    }


def pearson(proxy: Floats, truth: Floats) -> Floats:
    """Linear correlation."""
    x, y = (values - values.mean(axis=-1, keepdims=True) for values in (proxy, truth))
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    constant = (np.ptp(proxy, axis=-1) == 0) | (np.ptp(truth, axis=-1) == 0)
    return _ratio((x * y).sum(axis=-1), np.where(constant, 0.0, scale))


def spearman(proxy: Floats, truth: Floats) -> Floats:
    """Linear correlation of the ranks, equal values sharing their mean rank."""
    return pearson(rankdata(proxy, axis=-1), rankdata(truth, axis=-1))


def kendall(proxy: Floats, truth: Floats) -> Floats:
    """Kendall's tau-b: concordant less discordant pairs, over the geometric mean of the pairs untied in each."""
    x, y = _pairs(proxy), _pairs(truth)
    signs = np.sign(x) * np.sign(y)
    untied = np.sqrt((x != 0).sum(axis=-1) * (y != 0).sum(axis=-1).astype(np.float64))
    return _ratio(signs.sum(axis=-1), untied)


def decision_accuracy(proxy: Floats, truth: Floats, *, least: float = 0.0) -> Floats:
    """Share of pairs that the proxy puts in the right order, of those whose truths differ by more than `least`.

    A pair that the proxy holds equal counts half (Magnusson et al. 2025, DataDecide, arXiv 2504.11393).
    """
    x, y = _pairs(proxy), _pairs(truth)
    asked = np.abs(y) > least
    right = ((np.sign(x) * np.sign(y) + 1) / 2 * asked).sum(axis=-1)
    return _ratio(right, asked.sum(axis=-1))


def top_k_overlap(proxy: Floats, truth: Floats, *, k: int) -> Floats:
    """Share of the k mixtures with the lowest truth that are among the k with the lowest proxy."""
    chosen, best = _lowest(proxy, k), _lowest(truth, k)
    found: Floats = (chosen & best).sum(axis=-1) / k
    return found


def regret_at_1(proxy: Floats, truth: Floats) -> Floats:
    """What choosing by the proxy costs: the truth of its favourite less the lowest truth; never negative."""
    favourite = np.take_along_axis(truth, proxy.argmin(axis=-1)[..., None], axis=-1)[..., 0]
    regret: Floats = favourite - truth.min(axis=-1)
    return regret


def rmse(proxy: Floats, truth: Floats) -> Floats:
    """Root of the mean squared difference."""
    error: Floats = np.sqrt(((proxy - truth) ** 2).mean(axis=-1))
    return error


def low_tail_rmse(proxy: Floats, truth: Floats, *, k: int) -> Floats:
    """The same over the k lowest truths, where choices are made."""
    low = _lowest(truth, k)
    error: Floats = np.sqrt((((proxy - truth) ** 2) * low).sum(axis=-1) / k)
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
