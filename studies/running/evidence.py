"""Evidence: another study's evaluations, taken over for free, say under a pool since extended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from objectives.evaluation import Evaluation
from pool.errors import ConfigError
from search.space import CappedSimplex
from search.trials import (
    CACHED,
    GRADIENT,
    IMPORTED,
    STANDARD_ERROR,
    START,
    STOPPED_EARLY,
    TOKENS_READ,
    VERDICT,
    VIOLATION,
    Verdict,
    completed_trials,
    in_full,
    signed,
    signs_of,
)
from studies.database.remembered import RememberedObjective
from studies.opened.identity import recorded_space

EVIDENCE = "mixscout:evidence"
"""Attribute of a study with its evidence: {study: name of the other, trials: how many were taken over}."""


@dataclass(frozen=True)
class Found:
    """A valid evaluation of another study's trial."""

    trial_number: int
    evaluation: Evaluation


def find_evidence(
    storage: optuna.storages.BaseStorage, other: str, objective: RememberedObjective, space: CappedSimplex
) -> list[Found]:
    """List another study's full evaluations that are feasible in a space and remembered for an objective.

    Evaluations under another pool count where both pools agree in every member the mixture rests on.

    Raises `ConfigError` for an unknown study, one of others, or one without any valid evaluation.
    """
    where = f"[search] evidence_from: study {other!r}"
    try:
        study = optuna.load_study(storage=storage, study_name=other)
    except KeyError:
        raise ConfigError(f"{where} is not in this database; name one that is") from None
    theirs = recorded_space(study)
    if theirs is None:
        raise ConfigError(f"{where} was not made by Mixscout; name one that was")
    trials = completed_trials(study)
    found = [(trial.number, theirs.mixture_of(trial)) for trial in in_full(trials)]
    ours = [
        (number, mixture.over(space.names)) for number, mixture in found if set(mixture.support) <= set(space.names)
    ]
    feasible = [one for one in ours if space.project(one[1].array).digest == one[1].digest]
    recalled = [(number, objective.recall(mixture)) for number, mixture in feasible]
    valid = [Found(number, evaluation) for number, evaluation in recalled if evaluation]
    if not valid:
        raise ConfigError(
            f"{where}: none of its {len(trials)} evaluations holds here: pool members, held-out text, target, rule or "
            "precision differ, or the space rules them out; leave evidence_from out"
        )
    return valid


def take_over(study: optuna.Study, other: str, found: Sequence[Found], space: CappedSimplex) -> None:
    """Add evidence to a study as finished trials, each once, even after a worker was killed here."""
    if EVIDENCE in study.user_attrs:
        return
    there = {trial.user_attrs.get(START) for trial in study.get_trials(deepcopy=False)}
    for one in found:
        name = f"evidence:{other}:{one.trial_number}"
        if name not in there:
            study.add_trial(imported_trial(one.evaluation, {START: name, IMPORTED: other}, study, space))
    study.set_user_attr(EVIDENCE, {"study": other, "trials": len(found)})


def as_evidence(study: optuna.Study) -> list[FrozenTrial]:
    """Copy a study's full evaluations for another of the same space and goal, outside the other's budget."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [
        create_trial(
            state=trial.state,
            params=trial.params,
            distributions=trial.distributions,
            values=trial.values,
            user_attrs={**trial.user_attrs, START: f"study:{trial.number}", IMPORTED: study.study_name},
        )
        for trial in in_full(trials)
    ]


def imported_trial(
    evaluation: Evaluation, attributes: dict[str, object], study: optuna.Study, space: CappedSimplex
) -> FrozenTrial:
    """Make a finished trial of an evaluation from elsewhere, with further attributes."""
    attributes |= {VERDICT: Verdict.EVALUATE.value, CACHED: True, TOKENS_READ: 0, STOPPED_EARLY: False}
    if evaluation.violation > 0:
        attributes[VIOLATION] = evaluation.violation
    if math.isfinite(evaluation.standard_error):
        attributes[STANDARD_ERROR] = evaluation.standard_error
    if evaluation.gradient is not None:
        attributes[GRADIENT] = list(evaluation.gradient)
    signs = signs_of(study)
    values = signed(signs, evaluation.values if len(signs) > 1 else [evaluation.value])
    return create_trial(
        state=TrialState.COMPLETE,
        params=space.parameters(evaluation.mixture),
        distributions=dict(space.distributions),
        values=values,
        user_attrs=attributes,
    )
