"""Strategies against each other on one study: each with each seed is a study of its own, beside the study itself.

So a comparison that was killed goes on, and more seeds, strategies or merges extend it, by the rules of any study.
"""

from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError

from pool.errors import ConfigError, StudyMismatchError
from search.strategies.registry import find_strategy
from studies.assessment.comparison.best_known import best_known, best_of_courses
from studies.assessment.comparison.comparison import Comparison, Contender, cut_to_equal
from studies.assessment.comparison.course import Course, course_of, forwards_per_merge
from studies.opened.opened_study import OpenedStudy
from studies.running.plan import planned_search
from studies.running.run import run_search
from studies.study_file.sections import StopConfig
from studies.study_file.study_file import StudyFile


def compare_strategies(bench: OpenedStudy, strategies: Sequence[str], seeds: int, budget_forwards: int) -> Comparison:
    """Advance every strategy with every seed to the budget in forward-equivalents, and compare.

    Stop rules and trackers of the study file are left out, so that budgets are equal; all else is kept. Raises
    `ConfigError` before anything runs, `StudyError` and `StudyMismatchError`.
    """
    if bench.several:
        raise ConfigError(f"study {bench.config.name!r} has several [targets]: compare follows one value; use [target]")
    rivals = {name: [variant(bench, name, seed) for seed in range(seeds)] for name in strategies}
    for name, some in rivals.items():
        _check_budget(name, some[0], budget_forwards)
    for seed in range(seeds):  # all strategies of a seed, then the next: what is killed has whole pairs
        for some in rivals.values():
            run_search(some[seed], budget_forwards // forwards_per_merge(planned_search(some[seed])))
    contenders = [
        Contender(
            name, forwards_per_merge(planned_search(some[0])), tuple(course_of(one, one.known_study()) for one in some)
        )
        for name, some in rivals.items()
    ]
    equal = cut_to_equal(contenders, budget_forwards)
    courses = [course for one in equal for course in one.courses]
    _check_start(courses)
    known = best_known(bench) or best_of_courses(courses)
    return Comparison(bench.config.name, measure_of(bench.config), budget_forwards, known, equal)


def variant(bench: OpenedStudy, strategy: str, seed: int) -> OpenedStudy:
    """Give the study STUDY.compare.STRATEGY.SEED: the same question, asked by others. Raises `ConfigError`."""
    config = _variant_config(bench.config, strategy, seed)
    if strategy != bench.config.search.strategy:
        config.search.strategy_found.make(bench.space, seed)  # a sampler of the user's own may be none
    return replace(bench, config=config)


def measure_of(config: StudyFile) -> str:
    """Name the unit of a study's values."""
    if config.table is not None:
        return "the metrics' own unit"
    return "error" if config.downstream else config.objective.measure.replace("-", " ")


def _variant_config(config: StudyFile, strategy: str, seed: int) -> StudyFile:
    try:
        find_strategy(strategy)
    except ValueError as error:
        raise ConfigError(f"--strategies: {error}") from None
    given = config.search.model_dump(exclude_unset=True, exclude={"stop", "tracker"})
    tables = config.model_dump(exclude_unset=True) | {"search": {**given, "strategy": strategy, "seed": seed}}
    try:
        checked = StudyFile.model_validate(tables)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--strategies: {strategy!r} does not fit study {config.name!r}: {reason}") from None
    search = checked.search.model_copy(update={"stop": StopConfig()})
    return checked.model_copy(update={"name": f"{config.name}.compare.{strategy}.{seed}", "search": search})


def _check_budget(strategy: str, bench: OpenedStudy, budget_forwards: int) -> None:
    search = planned_search(bench)
    unit, first = forwards_per_merge(search), len(search.start)
    if budget_forwards // unit <= first:
        raise ConfigError(
            f"--merges {budget_forwards} buys {strategy!r} {budget_forwards // unit} merges at {unit} "
            f"forward-equivalent{'s' * (unit > 1)} each, and the start design alone takes {first}: give at least "
            f"{unit * (first + 1)}, or shorten [search] start"
        )


def _check_start(courses: Sequence[Course]) -> None:
    first = courses[0]
    for course in courses[1:]:
        for name in {**first.start, **course.start}:
            if first.start.get(name) != course.start.get(name):
                raise StudyMismatchError(
                    f"studies {first.study!r} and {course.study!r} started from different mixtures ({name!r}), so they "
                    "do not compare: the study it was taken from has gone on since; give the study file another name "
                    "to compare afresh"
                )
