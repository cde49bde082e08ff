"""The verb `compare`: strategies on one study, each with each seed a study of its own, or studies already run.

A killed comparison goes on, and more seeds, strategies or merges extend it, as with any study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from objectives.target import Direction
from pool.errors import ConfigError, StudyError, StudyMismatchError
from pool.progress import say
from search.strategies.registry import find_strategy
from studies.assessment.comparison.comparison import Comparison, Contender, cut_to_equal
from studies.assessment.comparison.course import (
    BestKnown,
    Course,
    best_known,
    best_of_courses,
    course_of,
    lowest,
)
from studies.opened.identity import Identity, different_questions
from studies.opened.opened_study import OpenedStudy
from studies.opened.opening import open_to_read
from studies.running.plan import planned_search, say_gate
from studies.running.run import run_search
from studies.study_file.search_sections import StopConfig
from studies.study_file.study_file import StudyFile, read_study_file

if TYPE_CHECKING:
    from pool.building.training.costs import Costs


def compare_strategies(bench: OpenedStudy, strategies: Sequence[str], seeds: int, budget_forwards: int) -> Comparison:
    """Advance every strategy with every seed to the budget in forward-equivalents, and compare.

    Stop rules would make budgets unequal: they are left out, and trackers too. Raises `ConfigError` before anything
    runs, `StudyError` and `StudyMismatchError`.
    """
    rivals = _rivals(bench, strategies, seeds, budget_forwards)
    say_gate(bench.config)
    for seed in range(seeds):  # seed by seed, so that a killed comparison has whole pairs
        for place, (name, some) in enumerate(rivals.items(), start=1 + seed * len(rivals)):
            say(f"comparing {place} of {seeds * len(rivals)}: {name}, seed {seed}")
            run_search(some[seed], budget_forwards // planned_search(some[seed]).forwards_per_merge)
    contenders = [
        Contender(name, planned_search(some[0]).forwards_per_merge, tuple(map(course_of, some)))
        for name, some in rivals.items()
    ]
    equal = cut_to_equal(contenders, budget_forwards)
    courses = [course for one in equal for course in one.courses]
    _check_start(courses)
    for course in courses:
        check_values(course)
    known = best_known(bench) or best_of_courses(courses)
    direction = bench.target.direction
    return Comparison(bench.config.name, _measure_of(bench.config), budget_forwards, known, equal, direction=direction)


def comparison_costs(bench: OpenedStudy, strategies: Sequence[str], seeds: int, budget_forwards: int) -> Costs:
    """Measure the costs of `compare_strategies` on a study opened privately.

    Each strategy is measured on its last seed, and all seeds of one that is not done count in full.
    """
    from studies.running.costs import search_costs, together  # loads torch

    found: dict[str, Costs] = {}
    for name, some in _rivals(bench, strategies, seeds, budget_forwards).items():
        merges = budget_forwards // planned_search(some[0]).forwards_per_merge
        found[name] = search_costs(some[-1], merges, repeats=seeds - 1, start_known=bool(found))
    return together(f"the comparison of {len(found)} strategies on study {bench.config.name!r}", found)


def _rivals(
    bench: OpenedStudy, strategies: Sequence[str], seeds: int, budget_forwards: int
) -> dict[str, list[OpenedStudy]]:
    if bench.several:
        raise ConfigError(f"study {bench.config.name!r} has several [targets]: compare follows one value; use [target]")
    rivals = {name: [_variant(bench, name, seed) for seed in range(seeds)] for name in strategies}
    for name, some in rivals.items():
        _check_budget(name, some[0], budget_forwards)
    return rivals


def _variant(bench: OpenedStudy, strategy: str, seed: int) -> OpenedStudy:
    config = _variant_config(bench.config, strategy, seed)
    if strategy != bench.config.search.strategy:
        config.search.strategy_found.make(bench.space, seed)  # a user's own sampler may be broken
    return replace(bench, config=config)


def _measure_of(config: StudyFile) -> str:
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
    unit, first = search.forwards_per_merge, len(search.start)
    if budget_forwards // unit <= first:
        raise ConfigError(
            f"--forward-equivalents {budget_forwards} buys {strategy!r} {budget_forwards // unit} merges at {unit} "
            f"forward-equivalent{'s' * (unit > 1)} each, and the start design alone takes {first}: give at least "
            f"{unit * (first + 1)}, or shorten [search] start"
        )


def check_values(course: Course) -> None:
    """Raise `StudyError` for a course without a value: every evaluation failed."""
    if not math.isfinite(course.best[-1]):
        raise StudyError(
            f"study {course.study!r} has no value to compare: all its {course.merges} evaluations failed; "
            "`mixscout search` on its file says why"
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


@dataclass(frozen=True)
class _Run:
    file: Path
    config: StudyFile
    identity: Identity
    contender: Contender
    best_known: BestKnown | None
    reports: Path
    direction: Direction


def compare_studies(files: Sequence[Path]) -> tuple[Comparison, Path]:
    """Compare studies at the largest budget all have spent, evaluating nothing; return also the first's reports folder.

    Raises `StudyMismatchError` for studies of different questions, `StudyError` for a study without merges, and
    `ConfigError`.
    """
    runs = [_read(file) for file in files]
    _check_names(runs)
    for run in runs[1:]:
        _check_question(runs[0], run)
    budget = min(run.contender.courses[0].forwards[-1] for run in runs)
    equal = cut_to_equal([run.contender for run in runs], budget)
    known = lowest(run.best_known for run in runs if run.best_known)
    known = known or best_of_courses(course for one in equal for course in one.courses)
    name = " and ".join(run.config.name for run in runs)
    first, differing = runs[0], _differing(runs)
    comparison = Comparison(name, _measure_of(first.config), budget, known, equal, differing, first.direction)
    return comparison, first.reports


def _read(file: Path) -> _Run:
    config = read_study_file(file)
    if config.targets:
        raise ConfigError(
            f"{file}: study {config.name!r} has several [targets]: compare follows one value; use [target]"
        )
    with open_to_read(config) as bench:
        course = course_of(bench)
        if not course.merges:
            raise StudyError(
                f"{file}: study {config.name!r} has no merge yet; run `mixscout search {config.typed}` first"
            )
        check_values(course)
        reports = bench.root / "reports"
        contender = Contender(config.name, planned_search(bench).forwards_per_merge, (course,))
        direction = bench.target.direction
        return _Run(file, config, bench.identity, contender, best_known(bench), reports, direction)


def _check_names(runs: Sequence[_Run]) -> None:
    by_name: dict[str, Path] = {}
    for run in runs:
        if run.config.name in by_name:
            raise ConfigError(
                f"{by_name[run.config.name]} and {run.file} both name their study {run.config.name!r}; give one "
                "of them another name"
            )
        by_name[run.config.name] = run.file


def _check_question(one: _Run, other: _Run) -> None:
    parts = different_questions(one.identity, other.identity)
    if parts:
        raise StudyMismatchError(
            f"studies {one.config.name!r} and {other.config.name!r} do not compare: they have another "
            f"{' and another '.join(parts)}; compare studies of one question, or run one of them anew on the other's"
        )


def _differing(runs: Sequence[_Run]) -> tuple[str, ...]:
    first = runs[0].identity
    return tuple(part for part in first if any(run.identity.get(part) != first[part] for run in runs[1:]))
