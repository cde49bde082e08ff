"""What early stopping saves in a random search, and whether it changes the answer: both really run, side by side."""

from dataclasses import asdict, dataclass, replace

import optuna

from objectives.evaluation import Evaluation
from objectives.merged_loss import MergedLoss
from objectives.scoring.early_stopping import EarlyStopping
from pool.mixture import Mixture
from pool.progress import track
from search.loop import Search, advance
from search.strategies.registry import STRATEGIES
from search.trials import STOPPED_EARLY, TOKENS_READ, best_trial, completed_trials, value_of
from studies.benchmarks.ratio import Ratio
from studies.opened.on_pool import Workbench


@dataclass(frozen=True)
class Savings:
    """Over the seeds: `adaptive_tokens_ratio`, tokens read with early stopping over tokens read without;
    `adaptive_same_best`, 1 where the best mixture is the same; `winners`, how many mixtures were better than the
    incumbent of their time, and `winners_stopped`, how many of them were stopped all the same.
    """

    adaptive_tokens_ratio: Ratio
    adaptive_same_best: Ratio
    same_best_share: float
    winners: int
    winners_stopped: int
    merges: int

    def as_json(self) -> dict[str, object]:
        """Give what `bench objective --json` prints of it."""
        return dict(asdict(self))


class _Recalled:
    """A loss that is computed once a mixture, and otherwise recalled: the plain search of the comparison."""

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
    """Run a random search with and without early stopping, once a seed, each with its own order of the windows."""
    tokens, same, winners, stopped = [], [], 0, 0
    with track(f"early stopping, random search of {merges} merges", seeds) as show:
        for seed in range(seeds):
            stopping = EarlyStopping(bench.config.early_stopping.error_rate, order_seed=seed)
            settings = replace(bench.proxy, early_stopping=stopping)
            loss = MergedLoss(bench.pool, bench.stacked, bench.target, "search", settings=settings)
            plain = _Recalled(loss)
            full = _run(bench, Search(plain, bench.space, STRATEGIES["random"], seed), merges)
            early = _run(bench, Search(loss, bench.space, STRATEGIES["random"], seed, stop_early=True), merges)
            tokens.append(_tokens(early) / _tokens(full))
            same.append(float(_best(bench, early).digest == _best(bench, full).digest))
            won, lost = _winners(full, early)
            winners, stopped = winners + won, stopped + lost
            show(seed + 1, f"tokens {tokens[-1]:.3f}, same best {sum(same):.0f} of {seed + 1}")
    return Savings(Ratio.of(tokens), Ratio.of(same), sum(same) / len(same), winners, stopped, merges)


def _run(bench: Workbench, search: Search, merges: int) -> optuna.Study:
    study = optuna.create_study()
    advance(study, search, merges)
    return study


def _tokens(study: optuna.Study) -> int:
    return sum(int(trial.user_attrs[TOKENS_READ]) for trial in completed_trials(study))


def _best(bench: Workbench, study: optuna.Study) -> Mixture:
    trial = best_trial(completed_trials(study))
    assert trial is not None, "losses of a built pool are finite"
    return bench.space.mixture_of(trial)


def _winners(full: optuna.Study, early: optuna.Study) -> tuple[int, int]:
    """Count mixtures that beat the incumbent that early stopping held against them, and those stopped of them."""
    incumbent, winners, stopped = float("inf"), 0, 0
    for plain, trial in zip(completed_trials(full), completed_trials(early), strict=True):
        was_stopped = bool(trial.user_attrs[STOPPED_EARLY])
        if value_of(plain) < incumbent:
            winners, stopped = winners + 1, stopped + was_stopped
        if not was_stopped:
            incumbent = min(incumbent, value_of(trial))
    return winners, stopped
