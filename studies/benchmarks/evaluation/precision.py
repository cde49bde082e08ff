"""bfloat16 against float32: the change of the loss, and of the ranking, over many mixtures."""

from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy.stats import kendalltau, spearmanr

from objectives.merged_loss import MergedLoss
from pool.progress import track
from studies.benchmarks.evaluation.objective import random_mixture
from studies.benchmarks.ratio import Ratio
from studies.opened.on_pool import Workbench


@dataclass(frozen=True)
class PrecisionCheck:
    """bfloat16 less float32 over `mixtures` mixtures, in the goal's measure, and what it does to the ranking.

    `spread` is the standard deviation of the float32 values, `change_spread` that of the change: a change that is the
    same for all mixtures costs nothing. `regret` is how much worse, in float32, bfloat16's best mixture is.
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

    def as_json(self) -> dict[str, object]:
        """Give what `bench objective --precision --json` prints of it."""
        return dict(asdict(self))


def run_precision(bench: Workbench, mixtures: int) -> PrecisionCheck:
    """Evaluate random mixtures in both precisions, in turns."""
    fine, coarse = (
        MergedLoss(
            bench.pool, bench.stacked, bench.target, "search", settings=replace(bench.proxy, precision=precision)
        )
        for precision in ("float32", "bfloat16")
    )
    rng = np.random.default_rng(bench.config.search.seed)
    rows = []
    with track("float32 and bfloat16", mixtures) as show:
        for done in range(mixtures):
            mixture = random_mixture(bench, rng)
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
