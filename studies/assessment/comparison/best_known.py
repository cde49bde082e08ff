"""The best value known of a question: the lowest over all studies of a database that ask the same one."""

from collections.abc import Iterable
from dataclasses import dataclass

import optuna

from search.trials import best_trial, completed_trials, value_of, violation_of
from studies.assessment.comparison.course import Course
from studies.opened.identity import IDENTITY, different_questions
from studies.opened.opened_study import OpenedStudy


@dataclass(frozen=True)
class BestKnown:
    """The value that regret is measured from, and the study it was found in. It is no proven optimum."""

    value: float
    study: str


def best_known(bench: OpenedStudy) -> BestKnown | None:
    """Find the lowest fully evaluated value that keeps every constraint; None where there is none."""
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
    """Return the lowest of several, the first of equals; None of none."""
    return min(found, key=lambda one: one.value, default=None)


def best_of_courses(courses: Iterable[Course]) -> BestKnown:
    """Return the lowest end of courses, which may break constraints: what there is where nothing keeps them."""
    ends = (BestKnown(course.best[-1], course.study) for course in courses if course.merges)
    return lowest(ends) or BestKnown(float("nan"), "none")
