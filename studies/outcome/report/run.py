"""The verb `report`: the page, its figures as PNG, and their data as CSV and JSON, in one folder."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from pool.errors import StudyError
from pool.files.whole import new_folder, write_text
from studies.answers.score import Json
from studies.opened.opening import open_to_read
from studies.outcome.report.facts.drawing import in_style
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Table
from studies.outcome.report.page import render
from studies.outcome.report.report import Report, make_report
from studies.study_file.study_file import StudyFile
from studies.terminal import json_text

PAGE, DATA = "report.html", "report.json"
PNG_DPI = 160


@dataclass(frozen=True)
class Written:
    """A report and the folder it is in."""

    report: Report
    folder: Path

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / PAGE

    def as_json(self) -> Json:
        """Give the object that `report --json` prints."""
        return {**self.report.as_json(), "page": str(self.page), "files": sorted(map(str, self.folder.iterdir()))}


def run_report(config: StudyFile, study_file: Path, truths: Path | None = None) -> Written:
    """Write a study's report to ROOT/reports/STUDY, whole or not at all, in place of the one before.

    `truths` is a table of models really trained elsewhere. Raises `StudyError` when the study was not started, or
    something else than a report stands there, and `ConfigError` for truths that are not the study's.
    """
    with open_to_read(config) as bench:
        report = make_report(Facts.of(bench, study_file, truths))
        folder = bench.root / "reports" / config.name
        _refuse_others(folder)
        with new_folder(folder) as new, in_style():
            _write(report, new)
    return Written(report, folder)


def _refuse_others(folder: Path) -> None:
    if folder.exists() and not (folder / PAGE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} exists and holds no report of before; move it away, or give the study another name")


def _write(report: Report, folder: Path) -> None:
    figures = {chart.name: chart.draw() for chart in report.charts}
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=PNG_DPI, metadata={"Software": None})
    for table in report.tables:
        write_text(folder / f"{table.name}.csv", as_csv(table))
    write_text(folder / DATA, json_text(report.as_json()))
    write_text(folder / PAGE, render(report, figures))


def as_csv(table: Table) -> str:
    """Write a table with every digit it has; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([_plain(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def _plain(cell: Cell) -> Cell:
    unknown = cell is None or (isinstance(cell, float) and not math.isfinite(cell))
    return "" if unknown else cell
