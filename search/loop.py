"""The loop: propose, judge, evaluate, tell, until the budget of merges is spent, and not one more.

A trial that a killed process left running is taken up again under its own number: proposals, verdicts and
seeds depend on the study's trials alone, so it ends as it would have. Several processes may advance one study.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from objectives.evaluation import DifferentiableObjective, Evaluation, Objective, SequentialObjective
from pool.mixture import Mixture
from search.attempts import Failed, attempt, check_not_hopeless, keep_failed
from search.crew import ALONE, Crew, has_room, left_running
from search.gate import Decision, Evidence, Gate
from search.per_trial_sampler import PerTrialSampler
from search.space import CappedSimplex
from search.stop import StopRules
from search.strategies.strategy import Strategy
from search.trials import (
    CACHED,
    CHANCE,
    GRADIENT,
    PREDICTED_DEVIATIONS,
    PREDICTED_MEANS,
    RAISED,
    SECONDS,
    STANDARD_ERROR,
    START,
    STOPPED_BY,
    STOPPED_EARLY,
    THRESHOLD,
    TOKENS_READ,
    VERDICT,
    VIOLATION,
    Counts,
    Verdict,
    best_trial,
    completed_trials,
    count_trials,
    finished_trials,
    pruned_in_a_row,
    value_of,
)


@dataclass(frozen=True)
class Search:
    """What a study is advanced with. `start` is evaluated first, by name; without a `gate` nothing is pruned.

    With `stop_early`, evaluations that cannot beat the incumbent are abandoned half-way, where the objective can and
    the strategy needs no gradients. `stop` ends it before the budget. With `several` objectives no gradients are asked
    for: there would be one for each. An evaluation that raises is tried again up to `retries` times. Raises
    `ValueError` when the strategy needs
    gradients and the objective has none.
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
        """Evaluate with the gradient where the strategy uses it, else against the incumbent where there is one."""
        if self.wants_gradient:
            assert isinstance(self.objective, DifferentiableObjective)
            return self.objective.gradient(mixture)
        if incumbent is None:
            return self.objective(mixture)
        assert isinstance(self.objective, SequentialObjective)
        return self.objective.challenge(mixture, incumbent)

    @property
    def wants_gradient(self) -> bool:
        """Whether mixtures are evaluated with their gradient."""
        able = isinstance(self.objective, DifferentiableObjective) and not self.several
        return able and self.strategy.uses_gradient

    @property
    def stops_early(self) -> bool:
        """Whether evaluations are abandoned half-way at all."""
        return self.stop_early and not self.wants_gradient and isinstance(self.objective, SequentialObjective)


def advance(
    study: optuna.Study,
    search: Search,
    merges: int,
    *,
    crew: Crew = ALONE,
    watch: Callable[[Counts, float], None] = lambda counts, best: None,
) -> Counts:
    """Advance a study to a total of `merges` evaluations charged; does nothing when it has them.

    Other workers may advance it at the same time: this one is back when all merges are made, its own and theirs. A stop
    rule that ends it sooner is recorded in the study, as `STOPPED_BY`. `watch` is called with the counts and the lowest
    value yet whenever they may have changed.
    """
    started = time.monotonic()
    patience = search.gate.rule.patience if search.gate else 1
    study.sampler = PerTrialSampler(search.strategy, search.space, seed=search.seed, patience=patience)
    with crew.asking(study):
        crew.look(study)
        _enqueue_start(study, search)
    incumbent = _Incumbent(study, search)
    waited = 0
    while True:
        with crew.asking(study):
            crew.look(study)
            counts = count_trials(study)
            if counts.merges >= merges:
                reason = None
                break
            trial = left_running(study, merges, crew)
            reason = None if trial else search.stop.reason(finished_trials(study), time.monotonic() - started)
            if reason:
                break
            trial = trial or _ask(study, search, merges, crew)
        watch(counts, _lowest(study))
        if trial is None:  # all merges that are left are reserved by others, who may die
            waited += 1
            crew.wait(waited)
            continue
        waited = 0
        _step(study, search, trial, incumbent, crew)
    watch(counts, _lowest(study))
    if study.user_attrs.get(STOPPED_BY) != reason:
        study.set_user_attr(STOPPED_BY, reason)
    return counts


def _ask(study: optuna.Study, search: Search, merges: int, crew: Crew) -> optuna.Trial | None:
    """Ask for a trial and its proposal, before another worker proposes; None where there is no room for one."""
    if not has_room(study, merges):
        return None
    trial = study.ask()
    crew.take(study, trial.number)
    search.space.suggest(trial)
    crew.publish()
    return trial


def _lowest(study: optuna.Study) -> float:
    return min((value_of(trial) for trial in completed_trials(study)), default=math.inf)


class _Incumbent:
    """The evaluation that has to be beaten; looked up again only when another trial has become the best."""

    def __init__(self, study: optuna.Study, search: Search) -> None:
        self._study = study
        self._search = search
        self._known: Evaluation | None = None

    def to_beat(self, trial: optuna.Trial) -> Evaluation | None:
        """Return it; None where nothing stops early, and for the start design, which is evaluated in full."""
        best = best_trial(completed_trials(self._study))
        if best is None or START in trial.user_attrs or not self._search.stops_early:
            return None
        mixture = self._search.space.mixture_of(best)
        if self._known is None or self._known.mixture.digest != mixture.digest:
            self._known = self._search.objective(mixture)
        return self._known


def _enqueue_start(study: optuna.Study, search: Search) -> None:
    there = {trial.user_attrs.get(START) for trial in study.get_trials(deepcopy=False)}
    for name, mixture in search.start.items():
        if name not in there:
            study.enqueue_trial(search.space.parameters(mixture), user_attrs={START: name})


def _step(study: optuna.Study, search: Search, trial: optuna.Trial, incumbent: _Incumbent, crew: Crew) -> None:
    with suppress(UpdateFinishedTrialError):  # this worker was taken for dead, and another has finished its trial
        _finish(study, search, trial, incumbent, crew)
    crew.leave(study, trial.number)
    if trial.user_attrs.get(RAISED):
        crew.look(study)
        check_not_hopeless(finished_trials(study))


def _finish(study: optuna.Study, search: Search, trial: optuna.Trial, incumbent: _Incumbent, crew: Crew) -> None:
    started = time.monotonic()
    mixture = search.space.suggest(trial)
    decision = _judge(study, search, trial, mixture)
    _record(trial, decision)
    if decision.verdict is Verdict.PRUNE:
        trial.set_user_attr(SECONDS, time.monotonic() - started)
        study.tell(trial, state=TrialState.PRUNED)
        return
    found = attempt(
        trial,
        lambda: search.evaluate(mixture, incumbent.to_beat(trial)),
        retries=search.retries,
        begin=crew.publish,
    )
    trial.set_user_attr(SECONDS, time.monotonic() - started)
    if isinstance(found, Failed):
        keep_failed(study, trial, found)
        return
    _record_evaluation(trial, found, with_gradient=search.wants_gradient)
    study.tell(trial, list(found.values) if len(study.directions) > 1 else found.value)


def _record_evaluation(trial: optuna.Trial, evaluation: Evaluation, *, with_gradient: bool) -> None:
    trial.set_user_attr(CACHED, evaluation.cached)
    trial.set_user_attr(TOKENS_READ, evaluation.tokens_read)
    trial.set_user_attr(STOPPED_EARLY, evaluation.stopped_early)
    if evaluation.violation > 0:
        trial.set_user_attr(VIOLATION, evaluation.violation)
    if math.isfinite(evaluation.standard_error):
        trial.set_user_attr(STANDARD_ERROR, evaluation.standard_error)
    # One that was not asked for, and is there because another study's evaluation was remembered, would be a gift.
    if evaluation.gradient is not None and with_gradient:
        trial.set_user_attr(GRADIENT, list(evaluation.gradient))


def _judge(study: optuna.Study, search: Search, trial: optuna.Trial, mixture: Mixture) -> Decision:
    if search.gate is None or START in trial.user_attrs:
        return Decision(Verdict.EVALUATE)
    return search.gate.judge(
        mixture,
        Evidence.of(completed_trials(study), search.space),
        trial_number=trial.number,
        pruned_in_a_row=pruned_in_a_row(finished_trials(study)),
    )


def _record(trial: optuna.Trial, decision: Decision) -> None:
    trial.set_user_attr(VERDICT, decision.verdict.value)
    if decision.chance is not None:
        trial.set_user_attr(CHANCE, decision.chance)
        trial.set_user_attr(THRESHOLD, decision.threshold)
        trial.set_user_attr(PREDICTED_MEANS, list(decision.means))
        trial.set_user_attr(PREDICTED_DEVIATIONS, list(decision.deviations))
