"""The verb `bench stopping`: what stopping early reads, and whether it changes what a search decides.

Every evaluation stopped early is made again in full. Its stop was wrong if it beats the incumbent of its time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console
from scipy.stats import binomtest

from objectives.evaluation import Evaluation
from objectives.losses.merged_loss import MergedLoss
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.progress import track
from search.loop import Search, advance
from search.strategies.registry import STRATEGIES
from search.trials import (
    START,
    STOPPED_EARLY,
    best_trial,
    completed_trials,
    merged_trials,
    tokens_by_domain,
    value_of,
)
from studies.opened.on_pool import Workbench, one_loss_of
from studies.running.plan import start_mixtures
from studies.terminal import plain_table


@dataclass(frozen=True)
class Rate:
    """A number `found` among others, as a share with its 95 % Clopper-Pearson interval (Clopper and Pearson 1934)."""

    found: int
    among: int
    low: float
    high: float

    @classmethod
    def of(cls, found: int, among: int) -> Rate:
        """Of none among none the share may be anything."""
        if among == 0:
            return cls(0, 0, 0.0, 1.0)
        interval = binomtest(found, among).proportion_ci(0.95, method="exact")
        return cls(found, among, float(interval.low), float(interval.high))

    def __str__(self) -> str:
        return f"{self.found} of {self.among} (95 % interval {self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True)
class StoppedSearch:
    """One search that stopped early, judged by full evaluations.

    merges: its evaluations, without remembered ones
    read, in_full: tokens of these evaluations by domain, as read and as they would have been
    stopped_wrong: those of the evaluations stopped early that beat the incumbent of their time
    winners_stopped: of the evaluations beating the incumbent of their time, those stopped
    best: value of its best mixture
    best_known: the lowest value of its mixtures, all in full, or of the same search without early stopping
    same_best: whether the same search without early stopping ends at the same mixture; None if there is none
    """

    name: str
    seed: int
    merges: int
    read: Mapping[str, int]
    in_full: Mapping[str, int]
    stopped_wrong: Rate
    winners_stopped: Rate
    best: float
    best_known: float
    same_best: bool | None

    @property
    def tokens_ratio(self) -> float:
        """Tokens read over those of full evaluations."""
        return sum(self.read.values()) / max(1, sum(self.in_full.values()))


@dataclass(frozen=True)
class StoppingFigures:
    """The study's own search, if it has evaluations, and searches made for the comparison."""

    own: StoppedSearch | None
    searches: Sequence[StoppedSearch]

    @property
    def all(self) -> list[StoppedSearch]:
        return [*([self.own] if self.own else []), *self.searches]


class _InFull:
    """A loss that evaluates each mixture once, in full."""

    gradient = challenge = foundation = None

    def __init__(self, loss: MergedLoss, known: dict[str, Evaluation]) -> None:
        self._loss, self._known = loss, known
        self.partitions, self.digest = loss.partitions, loss.digest

    def __call__(self, mixture: Mixture) -> Evaluation:
        if mixture.digest not in self._known:
            self._known[mixture.digest] = self._loss(mixture)
        return self._known[mixture.digest]


def run_stopping(bench: Workbench, strategies: Sequence[str], *, seeds: int, merges: int) -> StoppingFigures:
    """Judge the study's own search, and searches by each strategy with and without early stopping.

    Raises `ConfigError` for a strategy that uses gradients, or a study without a single held-out loss.
    """
    one_loss_of(bench, "early stopping is judged")
    steep = [name for name in strategies if STRATEGIES[name].uses_gradient]
    if steep:
        usable = ", ".join(name for name, one in STRATEGIES.items() if not one.uses_gradient)
        raise ConfigError(f"{steep[0]!r} asks for gradients, and stops nothing early; name some of {usable}")
    loss, known = bench.proxy.loss(bench.target, "search"), dict[str, Evaluation]()
    start = start_mixtures(bench, known=())
    cases = [(name, seed) for name in strategies for seed in range(seeds)]
    searches = []
    with track(f"early stopping, searches of {merges} merges", len(cases)) as show:
        for name, seed in cases:
            full, early = (
                _searched(Search(one, bench.space, STRATEGIES[name], seed, start=start, stop_early=True), merges)
                for one in (_InFull(loss, known), loss)
            )
            searches.append(judge_stops(bench, early, _InFull(loss, known), called=(name, seed), without=full))
            show(len(searches), f"{name}: {searches[-1].tokens_ratio:.1%} of the tokens")
    return StoppingFigures(_own(bench), searches)


def _own(bench: Workbench) -> StoppedSearch | None:
    """Judge the study's own search; full evaluations are kept in its database."""
    if bench.config.name not in optuna.get_all_study_names(bench.database.optuna):
        return None
    study, wanted = bench.known_study(), bench.config.search
    if not completed_trials(study):
        return None
    return judge_stops(bench, study, bench.losses["search"], called=(wanted.strategy, wanted.seed))


def _searched(search: Search, merges: int) -> optuna.Study:
    study = optuna.create_study()
    advance(study, search, merges)
    return study


def judge_stops(
    bench: Workbench,
    study: optuna.Study,
    in_full: Callable[[Mixture], Evaluation],
    *,
    called: tuple[str, int],
    without: optuna.Study | None = None,
) -> StoppedSearch:
    """Evaluate in full what a study stopped, and compare each with the incumbent of its time, by trial number.

    called: strategy and seed. without: the same search without early stopping.
    """
    trials, values, winners, wrong = completed_trials(study), list[float](), 0, 0
    for at, trial in enumerate(trials):
        values.append(in_full(bench.space.mixture_of(trial)).value if _stopped(trial) else value_of(trial))
        before = best_trial(trials[:at])
        won = before is not None and START not in trial.user_attrs and values[-1] < value_of(before)
        winners, wrong = winners + won, wrong + (won and _stopped(trial))
    best = best_trial(trials)
    assert best is not None, "a search evaluates its first mixture in full"
    other = best_trial(completed_trials(without)) if without else None
    merged = merged_trials(trials)
    read, in_all = tokens_by_domain(merged, bench.table("search").tokens_but_for())
    return StoppedSearch(
        *called,
        merges=len(merged),
        read=read,
        in_full=in_all,
        stopped_wrong=Rate.of(wrong, sum(map(_stopped, trials))),
        winners_stopped=Rate.of(wrong, winners),
        best=value_of(best),
        best_known=min([*values, *([value_of(other)] if other else [])]),
        same_best=bench.space.mixture_of(other).digest == bench.space.mixture_of(best).digest if other else None,
    )


def _stopped(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get(STOPPED_EARLY))


def show_stopping(console: Console, found: StoppingFigures) -> None:
    """Show tokens by search and by domain, and how many decisions stopping early changed."""
    table = plain_table("search", "merges", "tokens read", "stopped", "wrong", "best is behind by", left=1)
    for one in found.all:
        wrong, behind = one.stopped_wrong, one.best - one.best_known
        figures = (f"{one.tokens_ratio:.1%}", str(wrong.among), str(wrong.found), f"{behind:.5f}")
        table.add_row(_named(one, found), str(one.merges), *figures)
    console.print(table)
    table = plain_table("domain, over all searches", "read", "in full", "share")
    for name in found.all[0].read:
        read, in_all = (sum(part[name] for part in parts) for parts in zip(*_tokens(found), strict=True))
        table.add_row(name, f"{read:,}", f"{in_all:,}", f"{read / max(1, in_all):.1%}")
    console.print(table)
    stops, winners = (
        Rate.of(sum(one.found for one in some), sum(one.among for one in some))
        for some in zip(*((one.stopped_wrong, one.winners_stopped) for one in found.all), strict=True)
    )
    console.print(f"stops that a full evaluation reverses: {stops}", highlight=False)
    console.print(f"mixtures beating the incumbent of their time that were stopped: {winners}", highlight=False)
    told = [one.same_best for one in found.searches]
    if told:
        console.print(f"same best mixture without early stopping: {sum(map(bool, told))} of {len(told)} searches")


def _tokens(found: StoppingFigures) -> list[tuple[Mapping[str, int], Mapping[str, int]]]:
    return [(one.read, one.in_full) for one in found.all]


def _named(one: StoppedSearch, found: StoppingFigures) -> str:
    return "this study" if one is found.own else f"{one.name}, seed {one.seed}"
