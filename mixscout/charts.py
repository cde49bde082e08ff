"""The figures of a study: those of its report, drawn alone."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pool.errors import StudyError
from studies.opened.opening import open_to_read
from studies.study_file.study_file import StudyFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from studies.outcome.report.facts.facts import Facts
    from studies.outcome.report.facts.section import Section

_FOLDER = "studies.outcome.report.sections"
_SECTIONS = {
    "best-mixture": "verdict.best_section",
    "leads": "verdict.best_section",
    "progress": "course.progress_section",
    "weights": "mixtures.mixtures_section",
    "slices": "slices.slices_section",
    "predicted-measured": "surrogate.surrogate_section",
}
"""Function of a report's section by the name of a figure in it."""


def draw_chart(config: StudyFile, path: Path, name: str) -> Figure:
    """Draw a figure of the report of the study in a file. Raises `StudyError` with what is missing."""
    from studies.outcome.report.facts.facts import Facts
    from studies.outcome.report.facts.section import in_style

    with open_to_read(config) as bench, in_style():
        section = _section_of(name)(Facts.of(bench, path))
        for chart in section.charts:
            if chart.name == name:
                return chart.draw()
    raise StudyError(f"study {config.name!r} has no figure {name!r} yet: {section.missing or 'too few evaluations'}")


def _section_of(chart: str) -> Callable[[Facts], Section]:
    module, _, name = _SECTIONS[chart].partition(".")
    return cast(Callable[["Facts"], "Section"], getattr(import_module(f"{_FOLDER}.{module}"), name))
