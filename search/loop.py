"""The loop: propose, judge, evaluate, tell, until the budget of merges is spent, and not one more.

A trial that a killed process left running is taken up again under its own number: proposals, verdicts and
seeds depend on the study's trials alone, so it ends as it would have.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState

from objectives.evaluation import DifferentiableObjective, Evaluation, Objective
from pool.errors import NonFiniteLossError
from pool.mixture import Mixture
from search.gate import Decision, Evidence, Gate
from search.per_trial_sampler import PerTrialSampler
from search.space import CappedSimplex
from search.strategies.strategy import Strategy
from search.trials import (
    CACHED,
    GRADIENT,
    INCUMBENT,
    PREDICTED_DEVIATION,
    PREDICTED_MEAN,
    REASON,
    START,
    VERDICT,
    Counts,
    Verdict,
    completed_trials,
    count_trials,
    finished_trials,
    pruned_in_a_row,
    value_of,
)


@dataclass(frozen=True)
class Search:
    """What a study is advanced with. `start` is evaluated first, by name; without a `gate` nothing is pruned.

    Raises `ValueError` when the strategy needs gradients and the objective has none.
    """

    objective: Objective
    space: CappedSimplex
    strategy: Strategy
    seed: int
    gate: Gate | None = None
    start: Mapping[str, Mixture] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.strategy.uses_gradient and not isinstance(self.objective, DifferentiableObjective):
            raise ValueError(f"strategy {self.strategy.name!r} needs an objective with gradients")

    def evaluate(self, mixture: Mixture) -> Evaluation:
        """Evaluate with the gradient where the strategy uses it."""
        if self.strategy.uses_gradient:
            assert isinstance(self.objective, DifferentiableObjective)
            return self.objective.gradient(mixture)
        return self.objective(mixture)


def advance(
    study: optuna.Study,
    search: Search,
    merges: int,
    *,
    watch: Callable[[Counts, float], None] = lambda counts, best: None,
) -> Counts:
    """Advance a study to a total of `merges` evaluations charged; does nothing when it has them.

    `watch` is called after every trial with the counts and the lowest value yet.
    """
    patience = search.gate.rule.patience if search.gate else 1
    study.sampler = PerTrialSampler(search.strategy, search.space, seed=search.seed, patience=patience)
    _enqueue_start(study, search)
    counts = count_trials(study)
    while counts.merges < merges:
        _step(study, search)
        counts = count_trials(study)
        watch(counts, _evidence(study, search.space).incumbent)
    return counts


def _enqueue_start(study: optuna.Study, search: Search) -> None:
    there = {trial.user_attrs.get(START) for trial in study.get_trials(deepcopy=False)}
    for name, mixture in search.start.items():
        if name not in there:
            study.enqueue_trial(search.space.parameters(mixture), user_attrs={START: name})


def _step(study: optuna.Study, search: Search) -> None:
    trial = _left_running(study) or study.ask()
    mixture = search.space.suggest(trial)
    decision = _judge(study, search, trial, mixture)
    _record(trial, decision)
    if decision.verdict is Verdict.PRUNE:
        study.tell(trial, state=TrialState.PRUNED)
        return
    try:
        evaluation = search.evaluate(mixture)
    except NonFiniteLossError as error:
        trial.set_user_attr(REASON, str(error))
        study.tell(trial, state=TrialState.FAIL)
        return
    trial.set_user_attr(CACHED, evaluation.cached)
    if evaluation.gradient is not None:
        trial.set_user_attr(GRADIENT, list(evaluation.gradient))
    study.tell(trial, evaluation.value)


def _left_running(study: optuna.Study) -> optuna.Trial | None:
    running: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    if not running:
        return None
    first = min(running, key=lambda trial: trial.number)
    return optuna.Trial(study, first._trial_id)


def _judge(study: optuna.Study, search: Search, trial: optuna.Trial, mixture: Mixture) -> Decision:
    evidence = _evidence(study, search.space)
    if search.gate is None or START in trial.user_attrs:
        return Decision(Verdict.EVALUATE, evidence.incumbent)
    return search.gate.judge(
        mixture,
        evidence,
        trial_number=trial.number,
        pruned_in_a_row=pruned_in_a_row(finished_trials(study)),
    )


def _evidence(study: optuna.Study, space: CappedSimplex) -> Evidence:
    trials = completed_trials(study)
    return Evidence([space.mixture_of(trial) for trial in trials], [value_of(trial) for trial in trials])


def _record(trial: optuna.Trial, decision: Decision) -> None:
    trial.set_user_attr(VERDICT, decision.verdict.value)
    if decision.mean is not None:
        trial.set_user_attr(INCUMBENT, decision.incumbent)
        trial.set_user_attr(PREDICTED_MEAN, decision.mean)
        trial.set_user_attr(PREDICTED_DEVIATION, decision.deviation)
