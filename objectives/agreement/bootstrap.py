"""Intervals by the bootstrap over mixtures: proxy and truth of a mixture are drawn together.

The percentile interval (Efron and Tibshirani 1993, chapter 13). It says how far a figure depends on which mixtures
happened to be trained; the noise of a training run is another matter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objectives.agreement.statistics import Statistic
from objectives.held_out import Floats

RESAMPLES = 2000
CONFIDENCE = 0.95
_PAIRS_AT_ONCE = 4_000_000
"""Pairs of mixtures compared at once: 32 MB for each array."""


@dataclass(frozen=True)
class Interval:
    """A figure with its interval; all NaN where it is not defined. Low <= value <= high otherwise."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "-"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def as_json(self) -> dict[str, float]:
        """Give the three numbers by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


def resamples(count: int, *, seed: int = 0) -> Iterator[npt.NDArray[np.int64]]:
    """Yield indices (B, N) of mixtures drawn with replacement, a few rows at a time, always the same ones."""
    rng = np.random.default_rng([seed, count])
    rows = max(1, _PAIRS_AT_ONCE // count**2)
    for start in range(0, RESAMPLES, rows):
        yield rng.integers(0, count, (min(rows, RESAMPLES - start), count))


def bootstrap(
    statistics: Mapping[str, Statistic], proxy: Floats, truth: Floats, *, seed: int = 0
) -> dict[str, Interval]:
    """Return every statistic of proxy and truth (N,) with its interval; all see the same resamples."""
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
    for rows in resamples(len(proxy), seed=seed):
        for name, statistic in statistics.items():
            drawn[name].append(statistic(proxy[rows], truth[rows]))
    return {
        name: interval_of(float(statistic(proxy, truth)), np.concatenate(drawn[name]))
        for name, statistic in statistics.items()
    }


def interval_of(value: float, drawn: Floats) -> Interval:
    """Turn the values of the resamples into an interval, widened to hold the value where it does not.

    Resamples in which the figure is not defined are left out.
    """
    defined = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or not len(defined):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))
