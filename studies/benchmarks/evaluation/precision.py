"""Whether bfloat16 changes the answer."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import kendalltau, spearmanr

from pool.progress import track
from studies.benchmarks.evaluation.costs import random_mixture
from studies.benchmarks.ratio import Ratio
from studies.opened.on_pool import Workbench


@dataclass(frozen=True)
class PrecisionCheck:
    """bfloat16 less float32, in the goal's measure.

    spread, change_spread: standard deviations of the float32 values and of the change
    regret: float32 value of bfloat16's best mixture over the lowest
    """

    mixtures: int
    spread: float
    mean_change: float
    largest_change: float
    change_spread: float
    spearman: float
    kendall: float
    same_best: bool
    regret: float
    seconds_ratio: Ratio


def run_precision(bench: Workbench, mixtures: int) -> PrecisionCheck:
    fine, coarse = (
        bench.proxy.loss(bench.target, "search", replace(bench.proxy.settings, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    rng = np.random.default_rng(bench.config.search.seed)
    rows = []
    with track("float32 and bfloat16", mixtures) as show:
        for done in range(mixtures):
            mixture = random_mixture(bench.space, rng)
            one, other = fine(mixture), coarse(mixture)
            rows.append((one.value, other.value, other.seconds / one.seconds))
            show(done + 1, f"last change {other.value - one.value:+.5f}")
    exact, rough, ratios = (np.array(column) for column in zip(*rows, strict=True))
    change = rough - exact
    return PrecisionCheck(
        mixtures=mixtures,
        spread=float(exact.std(ddof=1)),
        mean_change=float(change.mean()),
        largest_change=float(np.abs(change).max()),
        change_spread=float(change.std(ddof=1)),
        spearman=float(spearmanr(exact, rough).statistic),
        kendall=float(kendalltau(exact, rough).statistic),
        same_best=bool(exact.argmin() == rough.argmin()),
        regret=float(exact[rough.argmin()] - exact.min()),
        seconds_ratio=Ratio.of(ratios.tolist()),
    )
