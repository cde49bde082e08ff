"""Whether shortcuts of an evaluation change the answer: early stopping and bfloat16."""

from dataclasses import dataclass, replace

import numpy as np
import optuna
from scipy.stats import kendalltau, spearmanr

from objectives.evaluation import Evaluation
from objectives.losses.merged_loss import MergedLoss
from objectives.scoring.paired import EarlyStopping
from pool.mixture import Mixture
from pool.progress import track
from search.loop import Search, advance
from search.space import CappedSimplex
from search.strategies.registry import STRATEGIES
from search.trials import STOPPED_EARLY, TOKENS_READ, best_trial, completed_trials, value_of
from studies.benchmarks.evaluation.costs import random_mixture
from studies.benchmarks.ratio import Ratio
from studies.opened.on_pool import Workbench


@dataclass(frozen=True)
class Savings:
    """Random searches with early stopping beside the same without.

    adaptive_tokens_ratio: tokens read with early stopping over those without
    adaptive_same_best: 1 where the best mixture is the same
    winners: mixtures better than their time's incumbent; `winners_stopped` of them were stopped
    """

    adaptive_tokens_ratio: Ratio
    adaptive_same_best: Ratio
    same_best_share: float
    winners: int
    winners_stopped: int
    merges: int


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


class _Recalled:
    """A loss computed once for each mixture, without shortcuts."""

    gradient = challenge = foundation = None

    def __init__(self, loss: MergedLoss) -> None:
        self._loss = loss
        self._known: dict[str, Evaluation] = {}
        self.partitions, self.digest = loss.partitions, loss.digest

    def __call__(self, mixture: Mixture) -> Evaluation:
        if mixture.digest not in self._known:
            self._known[mixture.digest] = self._loss(mixture)
        return self._known[mixture.digest]


def run_savings(bench: Workbench, *, seeds: int, merges: int) -> Savings:
    """Run a random search with and without early stopping for each seed, which also orders the windows."""
    space, random = bench.space, STRATEGIES["random"]
    tokens, same, winners, stopped = [], [], 0, 0
    with track(f"early stopping, random search of {merges} merges", seeds) as show:
        for seed in range(seeds):
            stopping = EarlyStopping(bench.config.early_stopping.error_rate, order_seed=seed)
            settings = replace(bench.proxy.settings, early_stopping=stopping)
            loss = bench.proxy.loss(bench.target, "search", settings)
            full = _run(Search(_Recalled(loss), space, random, seed), merges)
            early = _run(Search(loss, space, random, seed, stop_early=True), merges)
            tokens.append(_tokens(early) / _tokens(full))
            same.append(float(_best(early, space).digest == _best(full, space).digest))
            won, lost = _winners(full, early)
            winners, stopped = winners + won, stopped + lost
            show(seed + 1, f"tokens {tokens[-1]:.3f}, same best {sum(same):.0f} of {seed + 1}")
    return Savings(Ratio.of(tokens), Ratio.of(same), sum(same) / len(same), winners, stopped, merges)


def _run(search: Search, merges: int) -> optuna.Study:
    study = optuna.create_study()
    advance(study, search, merges)
    return study


def _tokens(study: optuna.Study) -> int:
    return sum(int(trial.user_attrs[TOKENS_READ]) for trial in completed_trials(study))


def _best(study: optuna.Study, space: CappedSimplex) -> Mixture:
    trial = best_trial(completed_trials(study))
    assert trial is not None, "losses of a built pool are finite"
    return space.mixture_of(trial)


def _winners(full: optuna.Study, early: optuna.Study) -> tuple[int, int]:
    """Count mixtures better than the incumbent of `early`, and those stopped."""
    incumbent, winners, stopped = float("inf"), 0, 0
    for plain, trial in zip(completed_trials(full), completed_trials(early), strict=True):
        was_stopped = bool(trial.user_attrs[STOPPED_EARLY])
        if value_of(plain) < incumbent:
            winners, stopped = winners + 1, stopped + was_stopped
        if not was_stopped:
            incumbent = min(incumbent, value_of(trial))
    return winners, stopped


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
