"""The verb `report`: the sections in their order, written as a page with its figures as PNG, CSV and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pool.errors import OutputError, StudyError
from pool.files.names import file_name
from pool.files.whole import csv_text, may_write, new_folder, write_text, writing_to
from search.trials import count_trials
from studies.answers.lettering import save
from studies.answers.picture import best_so_far
from studies.answers.score import Json
from studies.opened.opening import open_to_read
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table, in_style
from studies.outcome.report.page import render
from studies.outcome.report.sections.course import ages_section, gate_section, progress_section
from studies.outcome.report.sections.fidelity import fidelity_section, priors_section
from studies.outcome.report.sections.members import contributions_section, transfer_section
from studies.outcome.report.sections.mixtures import mixtures_section
from studies.outcome.report.sections.reproduction import cost_section, reproduction_section
from studies.outcome.report.sections.samples import samples_section
from studies.outcome.report.sections.slices import slices_section
from studies.outcome.report.sections.surrogate import surrogate_section
from studies.outcome.report.sections.trade_off import elsewhere_section, trade_off_section
from studies.outcome.report.sections.verdict import Takeaway, best_section, verdict_of
from studies.study_file.study_file import StudyFile
from studies.terminal import json_text

Sections = Sequence[Callable[[Facts], Section]]
SECTIONS: Sections = (best_section, elsewhere_section, fidelity_section, samples_section, cost_section)
DIAGNOSTICS: Sections = (
    trade_off_section,
    slices_section,
    mixtures_section,
    progress_section,
    surrogate_section,
    gate_section,
    transfer_section,
    contributions_section,
)
"""Sections that the page folds up."""
PAGE, DATA = "report.html", "report.json"
PNG_DPI = 160


@dataclass(frozen=True)
class Report:
    """All sections of a study's report.

    summary: one line on the search.
    doubts: sentences to read before the mixture is believed.
    sections, diagnostics: those to read, and those to look up; the commands come last.
    """

    study: str
    summary: str
    verdict: Takeaway | None
    doubts: Sequence[str]
    read: Sequence[Section]
    diagnostics: Sequence[Section]
    reproduction: Section

    @property
    def sections(self) -> list[Section]:
        return [*self.read, *self.diagnostics, self.reproduction]

    @property
    def charts(self) -> list[Chart]:
        return [chart for section in self.sections for chart in section.charts]

    @property
    def tables(self) -> list[Table]:
        """All tables by name, each once: a chart's table may also be shown."""
        named = {table.name: table for section in self.sections for table in section.all_tables}
        return list(named.values())

    def as_json(self) -> Json:
        sections = {section.key: section.as_json() for section in self.sections}
        verdict = self.verdict.as_json() if self.verdict else None
        return {"study": self.study, "verdict": verdict, "summary": self.summary, "sections": sections}


@dataclass(frozen=True)
class Written:
    """A report and the folder it is in."""

    report: Report
    folder: Path

    @property
    def page(self) -> Path:
        return self.folder / PAGE

    def as_json(self) -> Json:
        return {**self.report.as_json(), "page": str(self.page), "files": sorted(map(str, self.folder.iterdir()))}


def run_report(config: StudyFile, study_file: Path, truths: Path | None = None, output: Path | None = None) -> Written:
    """Write a study's report to `output` or ROOT/reports/STUDY, whole or not at all, in place of an earlier report.

    `truths` is a folder of models really trained elsewhere. Raises `StudyError` for a study not started, and for a
    folder of something else than a report; `ConfigError` for truths of another study; `OutputError` for a folder that
    cannot be written.
    """
    with open_to_read(config) as bench:
        folder = output.absolute() if output is not None else bench.root / "reports" / file_name(config.name)
        _check(folder)
        report = make_report(Facts.of(bench, study_file, truths))
        with writing_to(folder), new_folder(folder) as new, in_style():
            _write(report, new)
    return Written(report, folder)


def _check(folder: Path) -> None:
    if folder.exists() and not (folder / PAGE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(
            f"{folder} exists and holds no report of before; move it away, or name another folder with --output"
        )
    if not may_write(folder):
        raise OutputError(f"{folder} may not be written by this user; name another folder with --output")


def make_report(facts: Facts) -> Report:
    """Collect all sections from remembered evaluations: no section merges or trains."""
    read, diagnostics = ([section(facts) for section in some] for some in (SECTIONS, DIAGNOSTICS))
    read[3:3] = filter(None, (ages_section(facts), priors_section(facts)))
    if facts.bench.several:  # the front is then the answer
        read.insert(1, diagnostics.pop(0))
    commands = [command for section in [*read, *diagnostics] for command in section.commands]
    name, end = facts.study.study_name, reproduction_section(facts, commands)
    return Report(name, _summary(facts), verdict_of(facts), facts.doubts if facts.best else [], read, diagnostics, end)


def _summary(facts: Facts) -> str:
    counts = count_trials(facts.study)
    done, wanted = counts.merges, facts.bench.config.search.merges
    spent = f"{done} of {wanted} evaluations are spent" if done < wanted else f"{done} evaluations are spent"
    if facts.best is None:
        return " ".join([f"{spent}; there is no best mixture yet.", *facts.doubts])
    best = best_so_far(facts.values.tolist(), facts.bench.target.direction)[-1]
    said = f"{spent}, {counts.pruned} proposals were pruned; the {facts.best_is} {facts.unit} is {best:.4f}."
    return " ".join([*facts.doubts, said])


def _write(report: Report, folder: Path) -> None:
    figures = {chart.name: chart.draw() for chart in report.charts}
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png", dpi=PNG_DPI, metadata={"Software": None})
    for table in report.tables:
        write_text(folder / f"{table.name}.csv", as_csv(table))
    write_text(folder / DATA, json_text(report.as_json()))
    write_text(folder / PAGE, _page(report, figures))


def _page(report: Report, figures: Mapping[str, Figure]) -> str:
    parts = {"read": report.read, "diagnostics": report.diagnostics, "last": [report.reproduction]}
    told = {"study": report.study, "summary": report.summary, "verdict": report.verdict, "doubts": report.doubts}
    told["spent"] = report.summary.removeprefix(" ".join(report.doubts))
    return render({**told, **parts}, figures)


def as_csv(table: Table) -> str:
    """Write a table with every digit of its numbers; an unknown cell is empty."""
    return csv_text(table.columns, ([_plain(cell) for cell in row] for row in table.rows))


def _plain(cell: Cell) -> Cell:
    unknown = cell is None or (isinstance(cell, float) and not math.isfinite(cell))
    return "" if unknown else cell
