"""The search's attributes of an Optuna trial, written and read by the names here alone.

In the database a trial has its values with their own sign, and the study its directions. The functions here hand out
trials `as_minimised`: the values of maximised objectives are negated, so lower is better for everybody above.
"""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from operator import attrgetter
from statistics import NormalDist

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.surrogates.surrogate import normal_quantile

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Verdict(StrEnum):
    """The gate's word on a proposal."""

    EVALUATE = "evaluate"
    PRUNE = "prune"
    AUDIT = "audit"
    """Evaluated although unlikely to win, to measure the false-prune rate."""
    FORCED = "forced"
    """Evaluated although unlikely to win, after too many pruned in a row: no strategy starves."""


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
"""Of proposing, judging and evaluating; after a kill, of the second attempt alone."""
PROCESSOR_SECONDS = "mixscout:processor_seconds"
"""Of the worker's process since its last trial: proposals, waits and records count too."""
ENDED_UNIX = "mixscout:ended_unix"
"""In Unix seconds: Optuna's own times have no zone."""
STANDARD_ERROR = "mixscout:standard_error"
STOPPED_EARLY = "mixscout:stopped_early"
UNREAD = "mixscout:unread"
"""The tokens left unread of each held-out domain by an evaluation stopped early."""
VIOLATION = "mixscout:violation"
IMPORTED = "mixscout:imported"
"""The name of another study, the source of this evidence; not evaluated here, and outside the budget."""
ELSEWHERE = "mixscout:elsewhere"
"""Drawn at random: another worker was busy with the strategy's proposal."""
BEGUN = "mixscout:begun"
"""How often the evaluation was begun, by any worker."""
RAISED = "mixscout:raised"
"""The evaluation failed by an exception or by its workers' deaths, not by an infinite loss or NaN."""
STOPPED_BY = "mixscout:stopped_by"
"""On the study: the stop rule that ended it before its budget, in words, or None."""


@dataclass(frozen=True)
class Counts:
    """The proposals of a study, counted by their fate.

    merges: the budget spent. Of them `cached` were remembered from before, `failed` had no finite loss, and
        `stopped_early` were abandoned half-way, their value estimated.
    pruned: proposals without a merge.
    audited: merges against the gate's advice, with `false_prunes` winning all the same.
    forced: merges after too many pruned in a row.
    tokens_read, tokens_unread: held-out tokens read by all merges, and left unread by stopping early.
    reasons: of the failed merges, the first line each, without the mixture; how often by reason.
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
    tokens_unread: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    def with_pruned(self, pruned: int) -> Counts:
        return replace(self, pruned=pruned)

    def plus(self, more: Counts, ended: Sequence[FrozenTrial]) -> Counts:
        """Add the counts of further trials; `ended` are all completed and failed trials, by number."""
        numbers = {name: getattr(self, name) + getattr(more, name) for name in _NUMBERS}
        added = Counts(**numbers, reasons=dict(Counter(self.reasons) + Counter(more.reasons)))
        return replace(added, false_prunes=_false_prunes(ended)) if added.audited else added

    def failures(self) -> list[str]:
        """Say how many merges failed for each reason, the most frequent first."""
        by_number = sorted(self.reasons.items(), key=lambda item: -item[1])
        return [f"{number} failed: {reason}" for reason, number in by_number]

    def false_prune_rate(self) -> str:
        """Say the measured false-prune rate with its 95 % Wilson interval, or the lack of audits."""
        if self.audited == 0:
            return "not measured (no audit)"
        low, high = wilson_interval(self.false_prunes, self.audited)
        return (
            f"{self.false_prunes}/{self.audited} = {self.false_prunes / self.audited:.0%} "
            f"(95 % interval {low:.0%} to {high:.0%})"
        )


def wilson_interval(found: int, among: int, *, coverage: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (Newcombe 1998), as scipy's `binomtest`, which loads for a second.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), and 0 or 1 for none or all.
    """
    p, z = found / among, NormalDist().inv_cdf(0.5 + 0.5 * coverage)
    scale = 2 * (among + z**2)
    centre, half = (2 * among * p + z**2) / scale, z / scale * math.sqrt(4 * among * p * (1 - p) + z**2)
    return (0.0 if found == 0 else centre - half), (1.0 if found == among else centre + half)


_NUMBERS = tuple(one.name for one in fields(Counts) if one.name != "reasons")
_MIXTURE = re.compile(r"\{.*?\}")


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    return _by_number(study, FINISHED)


def started_trials(study: optuna.Study) -> list[FrozenTrial]:
    return _by_number(study, (*FINISHED, TrialState.RUNNING))


def completed_trials(study: optuna.Study) -> list[FrozenTrial]:
    return _by_number(study, (TrialState.COMPLETE,))


def _by_number(study: optuna.Study, states: tuple[TrialState, ...]) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False, states=states)
    return as_minimised(sorted(trials, key=attrgetter("number")), signs_of(study))


def signs_of(study: optuna.Study) -> tuple[float, ...]:
    """Return 1 of each minimised objective, and -1 of each maximised one."""
    return tuple(-1.0 if one is StudyDirection.MAXIMIZE else 1.0 for one in study.directions)


def signed(signs: Sequence[float], values: Sequence[float]) -> list[float]:
    """Negate the values (D,) of maximised objectives; a second time gives them back."""
    return [sign * value for sign, value in zip(signs, values, strict=True)]


def as_minimised(trials: Sequence[FrozenTrial], signs: Sequence[float]) -> list[FrozenTrial]:
    """Return the trials with minimised values and predictions; copies where something is maximised."""
    if -1.0 not in signs:
        return list(trials)
    return [_as_minimised(trial, signs) for trial in trials]


def _as_minimised(trial: FrozenTrial, signs: Sequence[float]) -> FrozenTrial:
    turned = copy.copy(trial)
    if trial.values:
        turned.values = signed(signs, trial.values)
    if trial.user_attrs.get(PREDICTED_MEANS):
        means = signed(signs, trial.user_attrs[PREDICTED_MEANS])
        turned.user_attrs = {**trial.user_attrs, PREDICTED_MEANS: means}
    return turned


def value_of(trial: FrozenTrial) -> float:
    """Return a completed trial's value; with several objectives, their mean."""
    assert trial.values, "only completed trials are asked"
    return math.fsum(trial.values) / len(trial.values) if len(trial.values) > 1 else float(trial.values[0])


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Return the lowest completed trial evaluated in full, the first of equals.

    A trial breaking a constraint comes after all trials keeping theirs.
    """
    return min(in_full(trials), key=lambda trial: (violation_of(trial) > 0, value_of(trial)), default=None)


def in_full(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out trials stopped early: their values are estimates."""
    return [trial for trial in trials if not trial.user_attrs.get(STOPPED_EARLY)]


def merged_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Leave out trials remembered, or taken over from another study: they read nothing."""
    return [one for one in trials if not one.user_attrs.get(CACHED) and IMPORTED not in one.user_attrs]


def tokens_by_domain(trials: Sequence[FrozenTrial], sizes: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the tokens by domain that trials read, and those of as many full evaluations, from the domains' tokens."""
    whole = {name: tokens * len(trials) for name, tokens in sizes.items()}
    left = [trial.user_attrs.get(UNREAD, {}) for trial in trials]
    return {name: tokens - sum(one.get(name, 0) for one in left) for name, tokens in whole.items()}, whole


def violation_of(trial: FrozenTrial) -> float:
    """Return the largest excess of a constrained domain over its ceiling; 0 if every constraint is kept."""
    return float(trial.user_attrs.get(VIOLATION, 0.0))


def pruned_just_before(study: optuna.Study, number: int) -> int:
    """Count the pruned trials in a row before a trial's number, passing over unfinished ones."""
    count = 0
    for trial in reversed(study.get_trials(deepcopy=False)[:number]):
        if trial.state in (TrialState.COMPLETE, TrialState.FAIL):
            break
        count += trial.state is TrialState.PRUNED
    return count


def audit_outcomes(completed: Sequence[FrozenTrial]) -> list[bool]:
    """Tell of each audit among the completed trials, by number, whether it won.

    An audit wins if no trial before it is as good in every objective.
    """
    audits = [at for at, trial in enumerate(completed) if trial.user_attrs.get(VERDICT) == Verdict.AUDIT]
    if not audits:
        return []
    values = np.array([trial.values for trial in completed])
    return [not (values[:at] <= values[at]).all(axis=1).any() for at in audits]


def interval_errors(completed: Sequence[FrozenTrial]) -> list[tuple[float, ...]]:
    """Give the errors (D,) of each trial with the gate's prediction, by number, in halves of its intervals.

    An interval is mean +- z deviation, z the normal quantile for `INTERVAL_COVERAGE`; without width it holds its mean.
    """
    z = normal_quantile(INTERVAL_COVERAGE)
    errors = []
    for trial in completed:
        if PREDICTED_MEANS in trial.user_attrs:
            means, deviations = trial.user_attrs[PREDICTED_MEANS], trial.user_attrs[PREDICTED_DEVIATIONS]
            each = zip(trial.values, means, deviations, strict=True)
            errors.append(tuple(_in_halves(abs(value - mean), z * deviation) for value, mean, deviation in each))
    return errors


def _in_halves(error: float, half: float) -> float:
    if half == 0:
        return math.inf if error > 0 else 0.0
    return error / half


def count_trials(study: optuna.Study) -> Counts:
    trials = finished_trials(study)
    ended = [trial for trial in trials if trial.state is not TrialState.PRUNED]
    return count_of(ended, pruned=len(trials) - len(ended))


def count_of(ended: Sequence[FrozenTrial], *, pruned: int) -> Counts:
    """Count completed and failed trials, by number, beside pruned ones; imported trials do not count."""
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
        tokens_unread=sum(sum(trial.user_attrs.get(UNREAD, {}).values()) for trial in completed),
        false_prunes=_false_prunes(ended),
        reasons=dict(Counter(_reason(trial) for trial in own if trial.state is TrialState.FAIL)),
    )


def _reason(trial: FrozenTrial) -> str:
    """Return the first line of a failed trial's reason, with any mixture as `...`, so that equal reasons are equal."""
    lines = str(trial.user_attrs.get(REASON, "")).strip().splitlines()
    return _MIXTURE.sub("...", lines[0]) if lines else "no reason was recorded"


def _false_prunes(ended: Sequence[FrozenTrial]) -> int:
    own = [trial for trial in ended if trial.state is TrialState.COMPLETE and IMPORTED not in trial.user_attrs]
    return sum(audit_outcomes(own))
