"""The loop: propose, judge, evaluate, tell, until the budget of merges is spent, and not one more.

Proposals, verdicts and seeds depend on the study's trials alone. So a trial left by a killed process ends alike under
its own number, and several processes may advance one study.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from objectives.evaluation import FORWARDS_PER_GRADIENT, Evaluation, Objective
from pool.mixture import Mixture
from search import trials
from search.crew import ALONE, Crew, Failed, attempt, check_not_hopeless, has_room, keep_failed, left_running
from search.gate import Decision, Gate
from search.history import History
from search.per_trial_sampler import PerTrialSampler
from search.space import CappedSimplex
from search.stop import StopRules
from search.strategies.strategy import Strategy
from search.trials import START, STOPPED_BY, Counts, Verdict, best_trial


@dataclass(frozen=True)
class Search:
    """The parts of a search.

    start: mixtures by name, evaluated first and never judged.
    gate: None to prune nothing.
    several: the objective has several values, so it is asked for no gradients.
    stop_early: abandon evaluations unable to beat the incumbent, if the objective can and no gradients are needed.
    retries: how often a raising evaluation is tried again.

    Raises `ValueError` if the strategy needs gradients and the objective has none.
    """

    objective: Objective
    space: CappedSimplex
    strategy: Strategy
    seed: int
    gate: Gate | None = None
    start: Mapping[str, Mixture] = field(default_factory=dict)
    several: bool = False
    stop_early: bool = False
    stop: StopRules = field(default_factory=StopRules)
    retries: int = 0

    def __post_init__(self) -> None:
        if self.strategy.uses_gradient and not (self.wants_gradient or self.strategy.gradient_optional):
            raise ValueError(f"strategy {self.strategy.name!r} needs an objective with gradients")

    def evaluate(self, mixture: Mixture, incumbent: Evaluation | None) -> Evaluation:
        """Evaluate with the gradient if the strategy uses gradients, else against the incumbent if given."""
        if self.wants_gradient:
            assert self.objective.gradient is not None
            return self.objective.gradient(mixture)
        if incumbent is None:
            return self.objective(mixture)
        assert self.objective.challenge is not None
        return self.objective.challenge(mixture, incumbent)

    @property
    def wants_gradient(self) -> bool:
        """Whether mixtures are evaluated with their gradient."""
        able = self.objective.gradient is not None and not self.several
        return able and self.strategy.uses_gradient

    @property
    def forwards_per_merge(self) -> int:
        """The forward-equivalents of one merge: three with its gradient, else one, stopped early or not."""
        return FORWARDS_PER_GRADIENT if self.wants_gradient else 1

    @property
    def patience(self) -> int:
        """The pruned proposals in a row before the next is let through, by rule and strategy."""
        if self.gate is None:
            return 1
        own, rule = self.strategy.patience, self.gate.rule.patience
        return rule if own is None else min(rule, own)

    @property
    def stops_early(self) -> bool:
        """Whether evaluations may be abandoned half-way."""
        return self.stop_early and not self.wants_gradient and self.objective.challenge is not None


def advance(
    study: optuna.Study,
    search: Search,
    merges: int,
    *,
    crew: Crew = ALONE,
    watch: Callable[[Counts, float], None] = lambda counts, best: None,
) -> Counts:
    """Advance a study to a total of `merges` evaluations charged, by all its workers together.

    A stop rule ending the search sooner is recorded in the study as `STOPPED_BY`. `watch` is called with the counts and
    the lowest value yet whenever they may have changed.
    """
    started = time.monotonic()
    study.sampler = PerTrialSampler(search.strategy, search.space, seed=search.seed, patience=search.patience)
    with crew.asking(study):
        crew.look(study)
        _enqueue_start(study, search)
    work = _Work(study, search, crew, History(study, search.space))
    waited = 0
    while True:
        with crew.asking(study):
            work.look()
            counts = work.history.counts
            if counts.merges >= merges:
                reason = None
                break
            trial = left_running(study, work.history, merges, crew)
            reason = None if trial else search.stop.reason(work.history.ended, time.monotonic() - started)
            if reason:
                break
            trial = trial or _ask(work, merges)
        watch(counts, work.history.lowest)
        if trial is None:  # all merges that are left are reserved by others, who may die
            waited += 1
            crew.wait(waited)
            continue
        waited = 0
        _step(work, trial)
    watch(counts, work.history.lowest)
    if study.user_attrs.get(STOPPED_BY) != reason:
        study.set_user_attr(STOPPED_BY, reason)
    return counts


class _Work:
    """One worker's tools, and the evaluation to beat, looked up again only if it changes."""

    def __init__(self, study: optuna.Study, search: Search, crew: Crew, history: History) -> None:
        self.study = study
        self.search = search
        self.crew = crew
        self.history = history
        self.signs = trials.signs_of(study)
        self._known: Evaluation | None = None
        self._paid = time.process_time()

    def look(self) -> None:
        self.crew.look(self.study)
        self.history.look()

    def record_time(self, trial: optuna.Trial, started: float) -> None:
        """Record the seconds of a trial, the processor time since the last one, and the end."""
        before, self._paid = self._paid, time.process_time()
        trial.set_user_attr(trials.SECONDS, time.monotonic() - started)
        trial.set_user_attr(trials.PROCESSOR_SECONDS, self._paid - before)
        trial.set_user_attr(trials.ENDED_UNIX, time.time())

    def to_beat(self, trial: optuna.Trial) -> Evaluation | None:
        """Return the incumbent; None if nothing stops early, and for the start design, evaluated in full."""
        if START in trial.user_attrs or not self.search.stops_early:
            return None
        best = best_trial(self.history.completed)
        if best is None:
            return None
        mixture = self.search.space.mixture_of(best)
        if self._known is None or self._known.mixture.digest != mixture.digest:
            self._known = self.search.objective(mixture)
        return self._known


def _ask(work: _Work, merges: int) -> optuna.Trial | None:
    """Ask for a trial and its proposal, before another worker proposes; None without room in the budget."""
    if not has_room(work.history, merges):
        return None
    trial = work.study.ask()
    work.crew.take(work.study, trial.number)
    work.search.space.suggest(trial)
    work.crew.publish()
    return trial


def _enqueue_start(study: optuna.Study, search: Search) -> None:
    there = {trial.user_attrs.get(START) for trial in study.get_trials(deepcopy=False)}
    for name, mixture in search.start.items():
        if name not in there:
            study.enqueue_trial(search.space.parameters(mixture), user_attrs={START: name})


def _step(work: _Work, trial: optuna.Trial) -> None:
    with suppress(UpdateFinishedTrialError):  # this worker was taken for dead, and another has finished its trial
        _finish(work, trial)
    work.crew.leave(work.study, trial.number)
    if trial.user_attrs.get(trials.RAISED):
        work.look()
        check_not_hopeless(work.history.ended)


def _finish(work: _Work, trial: optuna.Trial) -> None:
    started = time.monotonic()
    study, search = work.study, work.search
    mixture = search.space.suggest(trial)
    decision = _judge(work, trial, mixture)
    _record(trial, decision, work.signs)
    if decision.verdict is Verdict.PRUNE:
        work.record_time(trial, started)
        study.tell(trial, state=TrialState.PRUNED)
        return
    found = attempt(
        trial,
        lambda: search.evaluate(mixture, work.to_beat(trial)),
        retries=search.retries,
        begin=work.crew.publish,
    )
    work.record_time(trial, started)
    if isinstance(found, Failed):
        keep_failed(study, trial, found)
        return
    _record_evaluation(trial, found, with_gradient=search.wants_gradient)
    values = list(found.values) if len(work.signs) > 1 else [found.value]
    study.tell(trial, trials.signed(work.signs, values))


def _record_evaluation(trial: optuna.Trial, evaluation: Evaluation, *, with_gradient: bool) -> None:
    trial.set_user_attr(trials.CACHED, evaluation.cached)
    trial.set_user_attr(trials.TOKENS_READ, evaluation.tokens_read)
    trial.set_user_attr(trials.STOPPED_EARLY, evaluation.stopped_early)
    if evaluation.stopped_early:
        trial.set_user_attr(trials.UNREAD, dict(evaluation.unread))
    if evaluation.violation > 0:
        trial.set_user_attr(trials.VIOLATION, evaluation.violation)
    if math.isfinite(evaluation.standard_error):
        trial.set_user_attr(trials.STANDARD_ERROR, evaluation.standard_error)
    # A gradient not asked for, from another study's remembered evaluation, would be a gift.
    if evaluation.gradient is not None and with_gradient:
        trial.set_user_attr(trials.GRADIENT, list(evaluation.gradient))


def _judge(work: _Work, trial: optuna.Trial, mixture: Mixture) -> Decision:
    if work.search.gate is None or START in trial.user_attrs:
        return Decision(Verdict.EVALUATE)
    return work.search.gate.judge(
        mixture,
        work.history.evidence,
        trial_number=trial.number,
        pruned_in_a_row=work.history.pruned_in_a_row,
        patience=work.search.patience,
    )


def _record(trial: optuna.Trial, decision: Decision, signs: Sequence[float]) -> None:
    trial.set_user_attr(trials.VERDICT, decision.verdict.value)
    if decision.chance is not None:
        trial.set_user_attr(trials.CHANCE, decision.chance)
        trial.set_user_attr(trials.THRESHOLD, decision.threshold)
        trial.set_user_attr(trials.PREDICTED_MEANS, trials.signed(signs, decision.means))
        trial.set_user_attr(trials.PREDICTED_DEVIATIONS, list(decision.deviations))
