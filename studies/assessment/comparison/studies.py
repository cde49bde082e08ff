"""Studies already run, side by side: refused by name where their values do not compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pool.errors import ConfigError, StudyError, StudyMismatchError
from studies.assessment.comparison.best_known import BestKnown, best_known, best_of_courses, lowest
from studies.assessment.comparison.comparison import Comparison, Contender, cut_to_equal
from studies.assessment.comparison.course import course_of, forwards_per_merge
from studies.assessment.comparison.strategies import measure_of
from studies.opened.identity import Identity, different_questions
from studies.opened.opening import open_study
from studies.running.plan import planned_search
from studies.study_file.study_file import StudyFile, read_study_file


@dataclass(frozen=True)
class _Run:
    """One study as it was found, with the best known in its database."""

    file: Path
    config: StudyFile
    identity: Identity
    contender: Contender
    best_known: BestKnown | None
    reports: Path


def compare_studies(files: Sequence[Path]) -> tuple[Comparison, Path]:
    """Compare studies at the largest budget that all of them have spent, and name the first one's folder of reports.

    Nothing is evaluated.

    Raises `StudyMismatchError` for studies of different questions, `StudyError` for one that was not started, and
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
    return Comparison(name, measure_of(runs[0].config), budget, known, equal, _differing(runs)), runs[0].reports


def _read(file: Path) -> _Run:
    config = read_study_file(file)
    if config.targets:
        raise ConfigError(
            f"{file}: study {config.name!r} has several [targets]: compare follows one value; use [target]"
        )
    with open_study(config) as bench:
        course = course_of(bench, bench.known_study())
        if not course.merges:
            raise StudyError(f"{file}: study {config.name!r} has no merge yet; run `mixscout search` on its file first")
        reports = bench.root / "reports"
        contender = Contender(config.name, forwards_per_merge(planned_search(bench)), (course,))
        return _Run(file, config, bench.identity, contender, best_known(bench), reports)


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
