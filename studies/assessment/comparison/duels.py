"""Who wins against whom over the seeds, and whether so few seeds can tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np
from scipy.stats import wilcoxon

TIE = 1e-9
"""Values closer than this are the same mixture but for rounding."""
EXACT_WITHOUT_TIES, EXACT_WITH_TIES = 50, 13
"""Most differences for which SciPy's p value is exact, by whether some are equally large."""


@dataclass(frozen=True)
class Duel:
    """Two contenders over n seeds: seeds won by the first, tied, won by the second (lower is better).

    `median_difference` is the first's value less the second's. `p_value` is Wilcoxon's signed-rank test's, two-sided
    (Wilcoxon 1945); None where both end alike in every seed of theirs: repeats of one difference are no evidence.
    `exact` says that it was counted, not approximated.
    """

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    median_difference: float
    p_value: float | None
    exact: bool


def duels(ends: Mapping[str, Sequence[float]]) -> tuple[Duel, ...]:
    """Let every two contenders meet: their values at the end (n,), in the same order of seeds."""
    return tuple(_duel(one, other, ends[one], ends[other]) for one, other in combinations(ends, 2))


def least_p(seeds: int) -> float:
    """Return the lowest p value that so many seeds can give: all won by one side, 2 * (1/2)^n."""
    return min(1.0, 2.0 ** (1 - seeds))


def seeds_needed(level: float) -> int:
    """Return how many seeds a p value below a level takes at least."""
    return next(seeds for seeds in range(1, 1000) if least_p(seeds) < level)


def _duel(first: str, second: str, mine: Sequence[float], other: Sequence[float]) -> Duel:
    differences = np.array(mine) - np.array(other)
    wins, losses = int((differences < -TIE).sum()), int((differences > TIE).sum())
    counted = differences[np.abs(differences) > TIE]
    p, exact = (None, False) if _constant(mine) and _constant(other) else _test(counted)
    ties = len(differences) - wins - losses
    return Duel(first, second, wins, ties, losses, float(median(differences.tolist())), p, exact)


def _constant(values: Sequence[float]) -> bool:
    return float(np.ptp(values)) <= TIE


def _test(differences: np.ndarray) -> tuple[float, bool]:
    """Test differences other than 0; with none of them nothing speaks against equality."""
    if len(differences) == 0:
        return 1.0, True
    some_equal = len(np.unique(np.abs(differences))) < len(differences)
    exact = len(differences) <= (EXACT_WITH_TIES if some_equal else EXACT_WITHOUT_TIES)
    return float(wilcoxon(differences).pvalue), exact
