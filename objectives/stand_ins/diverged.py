"""Runs of a swarm that diverged: their metric lies far outside the others'.

One diverged run would rule every prediction, so such runs are named and left out. Gaps judge, not deviations: honest
metrics of few mixtures are heavy-tailed, and to lose an honest run is worse than to keep a mild outlier.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objectives.held_out import Floats
from objectives.stand_ins.swarm_table import SwarmTable

MANY = 16
"""From so many other runs on, a gap as wide as the others' spread tells; with fewer, a wider one."""
MOST = 4
"""At most one run in so many is far outside."""
WORSE, BETTER = 2.0, 10.0
"""Least ratio to the others' median: on the worse side, and on the better one."""
PRESENCE = 10.0
"""Largest ratio that the presence of a partition explains."""
TREND = 0.2
"""Least share of a deviation that a trend must foretell to explain it."""

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Diverged:
    """One run far outside, and the range of the others' values."""

    run: str
    metric: str
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"run {self.run}: {self.metric} {self.value:.6g} (the others {self.low:.6g} to {self.high:.6g})"


def diverged_runs(
    table: SwarmTable, metrics: Iterable[str], *, maximised: Collection[str] = ()
) -> tuple[Diverged, ...]:
    """Find the runs whose value of a metric lies far outside the others', in the order of the table.

    Let s be the spread (greatest less least) of the N other runs' logarithms. A run is far outside where all hold:

    - its logarithm is further than s max(1, 16 / N) from the nearest other's;
    - its value is at least twice the others' median; on the better side, at most a tenth;
    - its mixture does not explain the value. A value up to ten times off is explained where the run alone has a
      partition, or alone lacks one. Any value is explained where the others' trend foretells a fifth of the deviation.

    Several runs are judged together, up to a quarter of all. A metric with values of zero or below is judged as it
    stands, by twice that gap alone; one whose median repeats in more than a quarter of the runs is not judged.
    """
    found: dict[str, Diverged] = {}
    for metric in metrics:
        values = table.metrics[metric]
        far = far_rows(table.weights, values, higher_is_better=metric in maximised)
        others = np.delete(values, far)
        for row in far:
            one = Diverged(table.runs[row], metric, float(values[row]), float(others.min()), float(others.max()))
            found.setdefault(one.run, one)
    return tuple(sorted(found.values(), key=lambda one: table.runs.index(one.run)))


def far_rows(weights: Floats, values: Floats, *, higher_is_better: bool = False) -> _Rows:
    """Find the rows of mixtures (N, K) whose values (N,) lie far outside."""
    rows = np.arange(len(values))
    kept, most = rows, len(rows) // MOST
    while True:
        left = most - (len(rows) - len(kept))
        groups = (_far_group(weights[kept], values[kept], left, above, higher_is_better) for above in (True, False))
        group = next((one for one in groups if len(one)), None)
        if group is None:
            return np.setdiff1d(rows, kept)
        kept = np.delete(kept, group)


def _far_group(weights: Floats, values: Floats, most: int, above: bool, higher_is_better: bool) -> _Rows:
    """Find the largest group of at most `most` far rows at the upper or lower end of values (N,)."""
    ratio = WORSE if above != higher_is_better else BETTER
    judge = _is_far_by_ratio if (values > 0).all() else _is_far_as_it_stands
    order = np.argsort(values if above else -values, kind="stable")
    for size in range(most, 0, -1):
        others, group = order[:-size], order[-size:]
        if judge(weights, values, group, others, ratio):
            return group
    return order[:0]


def _is_far_by_ratio(weights: Floats, values: Floats, group: _Rows, others: _Rows, ratio: float) -> bool:
    logarithms: Floats = np.log(values)
    if not _wide_gap(logarithms, group, others):
        return False
    off = abs(float(logarithms[group[0]] - np.median(logarithms[others])))
    if off < math.log(ratio) or (off < math.log(PRESENCE) and _presence_explains(weights[group], weights[others])):
        return False
    features = (weights, np.sqrt(weights))
    return not any(_trend_explains(one, logarithms, group, others) for one in features)


def _is_far_as_it_stands(weights: Floats, values: Floats, group: _Rows, others: _Rows, ratio: float) -> bool:
    repeated = float(np.mean(values[others] == np.median(values[others])))  # as of an accuracy that is mostly zero
    return repeated <= 1 / MOST and _wide_gap(values, group, others, times=2.0)


def _wide_gap(values: Floats, group: _Rows, others: _Rows, *, times: float = 1.0) -> bool:
    gap = abs(values[group[0]] - values[others[-1]])
    return bool(gap > times * np.ptp(values[others]) * max(1.0, MANY / len(others)))


def _presence_explains(far: Floats, others: Floats) -> bool:
    alone_have = (far > 0).all(axis=0) & (others == 0).all(axis=0)
    alone_lack = (far == 0).all(axis=0) & (others > 0).all(axis=0)
    return bool((alone_have | alone_lack).any())


def _trend_explains(features: Floats, values: Floats, group: _Rows, others: _Rows) -> bool:
    """Tell whether a linear trend of the others foretells the share `TREND` of every far row's deviation."""
    middle, mean = features[others].mean(axis=0), values[others].mean()
    slopes = np.linalg.lstsq(features[others] - middle, values[others] - mean, rcond=1e-6)[0]
    foretold = (features[group] - middle) @ slopes
    return bool((foretold / (values[group] - mean) >= TREND).all())
