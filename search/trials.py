"""What the search writes on an Optuna trial, and how it is read back: attribute names stand here only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from operator import attrgetter

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import binomtest, norm


class Verdict(StrEnum):
    """What the gate says of a proposal."""

    EVALUATE = "evaluate"
    PRUNE = "prune"
    AUDIT = "audit"
    """Would be pruned, is evaluated all the same, so that the false-prune rate is measured."""
    FORCED = "forced"
    """Would be pruned, but too many in a row were: evaluated so that no strategy starves."""


VERDICT = "mixscout:verdict"
CHANCE = "mixscout:chance"
"""The predicted probability of winning: of beating the incumbent, or of adding to the front."""
THRESHOLD = "mixscout:threshold"
PREDICTED_MEANS = "mixscout:predicted_means"
PREDICTED_DEVIATIONS = "mixscout:predicted_deviations"
INTERVAL_COVERAGE = 0.9
"""The share of evaluations that the gate's intervals are to hold."""
START = "mixscout:start"
CACHED = "mixscout:cached"
GRADIENT = "mixscout:gradient"
REASON = "mixscout:reason"
TOKENS_READ = "mixscout:tokens_read"
SECONDS = "mixscout:seconds"
"""What a trial took: proposing, judging and evaluating; after a kill, the second attempt alone."""
STANDARD_ERROR = "mixscout:standard_error"
STOPPED_EARLY = "mixscout:stopped_early"
VIOLATION = "mixscout:violation"
IMPORTED = "mixscout:imported"
"""Evidence of another study: its name. It was not evaluated here, and is no part of the budget."""
ELSEWHERE = "mixscout:elsewhere"
"""Drawn at random, because another worker was busy with what the strategy proposed."""
BEGUN = "mixscout:begun"
"""How often the evaluation was begun, by whichever worker."""
RAISED = "mixscout:raised"
"""The evaluation failed by an exception or by its workers' deaths, not by a loss that is not finite."""
STOPPED_BY = "mixscout:stopped_by"
"""On the study: the stop rule that ended it before its budget, in words; None when none did."""


@dataclass(frozen=True)
class Counts:
    """Where a study's proposals went.

    `merges` is the budget spent: evaluations charged, of which `cached` were remembered from before and
    `failed` had no finite loss and `stopped_early` were abandoned half-way, their value estimated; all together they
    read `tokens_read` held-out tokens. `pruned` cost nothing. `audited` were evaluated against the gate's advice, and
    `false_prunes` of them won all the same.
    """

    merges: int = 0
    pruned: int = 0
    audited: int = 0
    forced: int = 0
    cached: int = 0
    failed: int = 0
    stopped_early: int = 0
    tokens_read: int = 0
    false_prunes: int = 0

    def with_pruned(self, pruned: int) -> Counts:
        """Count so many pruned trials instead."""
        return replace(self, pruned=pruned)

    def plus(self, more: Counts, ended: Sequence[FrozenTrial]) -> Counts:
        """Add the counts of further trials to these; `ended` are all that completed or failed, by number."""
        added = Counts(*(one + other for one, other in zip(astuple(self), astuple(more), strict=True)))
        return replace(added, false_prunes=_false_prunes(ended)) if added.audited else added

    def false_prune_rate(self) -> str:
        """Say the measured false-prune rate with its 95 % Wilson interval, or that none was measured."""
        if self.audited == 0:
            return "not measured (no audit)"
        interval = binomtest(self.false_prunes, self.audited).proportion_ci(method="wilson")
        return (
            f"{self.false_prunes}/{self.audited} = {self.false_prunes / self.audited:.0%} "
            f"(95 % interval {interval.low:.0%} to {interval.high:.0%})"
        )


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """List the finished trials in the order of their numbers."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return sorted(study.get_trials(deepcopy=False, states=states), key=attrgetter("number"))


def started_trials(study: optuna.Study) -> list[FrozenTrial]:
    """List the finished and the running trials in the order of their numbers."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING)
    return sorted(study.get_trials(deepcopy=False, states=states), key=lambda trial: trial.number)


def completed_trials(study: optuna.Study) -> list[FrozenTrial]:
    """List the trials with a value in the order of their numbers."""
    return [trial for trial in finished_trials(study) if trial.state is TrialState.COMPLETE]


def value_of(trial: FrozenTrial) -> float:
    """Return a completed trial's value; with several objectives, their mean."""
    assert trial.values, "only completed trials are asked"
    return math.fsum(trial.values) / len(trial.values) if len(trial.values) > 1 else float(trial.values[0])


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the completed trial with the lowest value of those evaluated in full, the first of equals.

    One that breaks a constraint is returned only where all do.
    """
    full = [trial for trial in trials if not trial.user_attrs.get(STOPPED_EARLY)]
    return min(full, key=lambda trial: (violation_of(trial) > 0, value_of(trial)), default=None)


def violation_of(trial: FrozenTrial) -> float:
    """Return how far a constrained domain is above its ceiling at worst; 0 where every constraint is kept."""
    return float(trial.user_attrs.get(VIOLATION, 0.0))


def pruned_just_before(study: optuna.Study, number: int) -> int:
    """Count the pruned trials in a row before a trial's number; unfinished ones between them do not end it."""
    count = 0
    for trial in reversed(study.get_trials(deepcopy=False)[:number]):
        if trial.state in (TrialState.COMPLETE, TrialState.FAIL):
            break
        count += trial.state is TrialState.PRUNED
    return count


def audit_outcomes(completed: Sequence[FrozenTrial]) -> list[bool]:
    """Tell of each audit, in number order, whether it won: no value before it is as good in every objective.

    `completed` are the completed trials by number.
    """
    audits = [at for at, trial in enumerate(completed) if trial.user_attrs.get(VERDICT) == Verdict.AUDIT]
    if not audits:
        return []
    values = np.array([trial.values for trial in completed])
    return [not (values[:at] <= values[at]).all(axis=1).any() for at in audits]


def interval_errors(completed: Sequence[FrozenTrial]) -> list[tuple[float, ...]]:
    """Give of each trial that the gate predicted, in number order, its errors (D,) in halves of its intervals.

    The intervals are means +- the normal quantile for `INTERVAL_COVERAGE` deviations, as they were when it judged: they
    held their value where the error is at most 1. An interval of no width holds nothing but its mean.
    """
    predicted = [trial for trial in completed if PREDICTED_MEANS in trial.user_attrs]
    quantile = float(norm.ppf((1 + INTERVAL_COVERAGE) / 2))
    errors = []
    for trial in predicted:
        deviations = trial.user_attrs[PREDICTED_DEVIATIONS]
        each = zip(trial.values, trial.user_attrs[PREDICTED_MEANS], deviations, strict=True)
        errors.append(tuple(_in_halves(abs(value - mean), quantile * deviation) for value, mean, deviation in each))
    return errors


def _in_halves(error: float, half: float) -> float:
    if half == 0:
        return math.inf if error > 0 else 0.0
    return error / half


def count_trials(study: optuna.Study) -> Counts:
    """Count where a study's proposals went."""
    trials = finished_trials(study)
    ended = [trial for trial in trials if trial.state is not TrialState.PRUNED]
    return count_of(ended, pruned=len(trials) - len(ended))


def count_of(ended: Sequence[FrozenTrial], *, pruned: int) -> Counts:
    """Count completed and failed trials, by number, beside so many pruned ones; imported ones do not count."""
    own = [trial for trial in ended if IMPORTED not in trial.user_attrs]
    completed = [trial for trial in own if trial.state is TrialState.COMPLETE]
    return Counts(
        merges=len(own),
        pruned=pruned,
        audited=sum(trial.user_attrs.get(VERDICT) == Verdict.AUDIT for trial in completed),
        forced=sum(trial.user_attrs.get(VERDICT) == Verdict.FORCED for trial in completed),
        cached=sum(bool(trial.user_attrs.get(CACHED)) for trial in completed),
        failed=len(own) - len(completed),
        stopped_early=sum(bool(trial.user_attrs.get(STOPPED_EARLY)) for trial in completed),
        tokens_read=sum(trial.user_attrs.get(TOKENS_READ, 0) for trial in completed),
        false_prunes=_false_prunes(ended),
    )


def _false_prunes(ended: Sequence[FrozenTrial]) -> int:
    own = [trial for trial in ended if trial.state is TrialState.COMPLETE and IMPORTED not in trial.user_attrs]
    return sum(audit_outcomes(own))
