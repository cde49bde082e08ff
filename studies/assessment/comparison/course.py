"""One search as a course: the sums spent after every merge, and the best value by then.

A recalled evaluation is charged at its original cost, so a strategy does not look cheaper for running second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from objectives.evaluation import FORWARDS_PER_GRADIENT
from search.trials import (
    CACHED,
    SECONDS,
    START,
    TOKENS_READ,
    best_trial,
    completed_trials,
    finished_trials,
    value_of,
    violation_of,
)
from studies.database.evaluations import Cost
from studies.opened.identity import IDENTITY, different_questions
from studies.opened.opened_study import OpenedStudy
from studies.running.plan import planned_search
from studies.study_file.search_sections import TextPrior

Axis = Literal["forwards", "tokens", "seconds"]


@dataclass(frozen=True)
class Course:
    """A search of M merges, with sums after each merge (M,).

    forwards: forward-equivalents
    tokens: held-out tokens read
    seconds: proposing, judging and evaluating, pruned proposals included
    best: what is minimised, of the incumbent (M,); NaN before the first
    start: digests of the start design's mixtures, by name
    priors: what is minimised, of mixtures from text alone in the start design, by name
    """

    study: str
    seed: int
    forwards: tuple[int, ...]
    tokens: tuple[int, ...]
    seconds: tuple[float, ...]
    best: tuple[float, ...]
    start: Mapping[str, str]
    priors: Mapping[str, float] = field(default_factory=dict)

    @property
    def merges(self) -> int:
        return len(self.forwards)

    def spent(self, axis: Axis) -> tuple[float, ...]:
        sums: tuple[float, ...] = getattr(self, axis)
        return sums

    def best_at(self, axis: Axis, amount: float) -> float:
        """Return the incumbent's value at an amount spent; NaN before the first."""
        done = int(np.searchsorted(self.spent(axis), amount, side="right"))
        return self.best[done - 1] if done else float("nan")

    def until(self, forwards: int) -> Course:
        done = int(np.searchsorted(self.forwards, forwards, side="right"))
        kept = {name: getattr(self, name)[:done] for name in ("forwards", "tokens", "seconds", "best")}
        return replace(self, **kept)


def course_of(bench: OpenedStudy) -> Course:
    """Follow a study's trials, charging recalled evaluations at their original cost."""
    study, unit = bench.known_study(), planned_search(bench).forwards_per_merge
    costs = bench.database.evaluations.costs(bench.objective.digest)
    incumbent: FrozenTrial | None = None
    tokens, seconds = 0, 0.0
    rows: list[tuple[int, int, float, float]] = []
    start, priors = {}, {}
    for trial in finished_trials(study):
        seconds += _seconds(trial)
        if trial.state is TrialState.PRUNED:
            continue
        digest = bench.space.mixture_of(trial).digest
        known = costs.get(digest) if trial.user_attrs.get(CACHED) else None
        tokens += known.tokens_read if known else trial.user_attrs.get(TOKENS_READ, 0)
        seconds += _saved(known, unit)
        if START in trial.user_attrs:
            start[str(trial.user_attrs[START])] = digest
        if trial.state is TrialState.COMPLETE:
            if trial.user_attrs.get(START) in get_args(TextPrior):
                priors[str(trial.user_attrs[START])] = value_of(trial)
            incumbent = best_trial([incumbent, trial] if incumbent else [trial])
        rows.append((unit * (len(rows) + 1), tokens, seconds, value_of(incumbent) if incumbent else float("nan")))
    forwards, read, taken, best = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Course(study.study_name, bench.config.search.seed, forwards, read, taken, best, start, priors)


def _seconds(trial: FrozenTrial) -> float:
    """Take the measured time; a trial abandoned by its worker has its begin and end alone."""
    passed = trial.duration.total_seconds() if trial.duration else 0.0
    return float(trial.user_attrs.get(SECONDS, passed))


def _saved(known: Cost | None, unit: int) -> float:
    """Return the seconds saved by recall, scaled if only one of the two evaluations had a gradient."""
    if known is None:
        return 0.0
    return known.seconds * unit / (FORWARDS_PER_GRADIENT if known.with_gradient else 1)


@dataclass(frozen=True)
class BestKnown:
    """The origin of regret, no proven optimum: the lowest found of what is minimised, and its study."""

    value: float
    study: str


def best_known(bench: OpenedStudy) -> BestKnown | None:
    """Find the lowest value within every constraint, over a database's studies of the same question."""
    found = []
    for name in optuna.get_all_study_names(bench.database.optuna):
        study = optuna.load_study(storage=bench.database.optuna, study_name=name)
        recorded = study.user_attrs.get(IDENTITY)
        if recorded is None or different_questions(bench.identity, recorded):
            continue
        trial = best_trial(completed_trials(study))
        if trial is not None and violation_of(trial) == 0:
            found.append(BestKnown(value_of(trial), name))
    return lowest(found)


def lowest(found: Iterable[BestKnown]) -> BestKnown | None:
    """Return the lowest, the first of equals; None of none."""
    return min(found, key=lambda one: one.value, default=None)


def best_of_courses(courses: Iterable[Course]) -> BestKnown:
    """Return the lowest end of courses; it may break constraints."""
    ends = (BestKnown(course.best[-1], course.study) for course in courses if course.merges)
    return lowest(ends) or BestKnown(float("nan"), "none")
