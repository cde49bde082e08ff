"""The parts of a report as frozen values: sections of tables, charts and texts. The page decides on their look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from studies.answers.score import Json

Cell = str | float | int | bool | None
"""None means unknown."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under named `columns`; the first cell names its row. `name` becomes the name of a CSV file."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def as_json(self) -> list[Json]:
        """Give an object a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Chart:
    """A figure, drawn on demand.

    name: also the name of a PNG file.
    alt: the figure in words.
    table: the figure's data.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
    table: Table


@dataclass(frozen=True)
class Passage:
    """Verbatim text: a file, or commands."""

    caption: str
    text: str


@dataclass(frozen=True)
class Section:
    """One part of a report. `missing` names absent data and the command to make them, in one line."""

    key: str
    title: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    passages: Sequence[Passage] = ()
    missing: str | None = None

    @property
    def all_tables(self) -> list[Table]:
        """The tables shown, and those behind the charts."""
        return [*self.tables, *(chart.table for chart in self.charts)]

    def as_json(self) -> Json:
        """Give everything but the pictures."""
        return {
            "title": self.title,
            "notes": list(self.notes),
            "missing": self.missing,
            "tables": {table.name: table.as_json() for table in self.all_tables},
            "passages": {passage.caption: passage.text for passage in self.passages},
        }
