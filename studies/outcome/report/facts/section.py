"""The parts of a report as frozen values: sections of tables, charts and texts, and the style of its figures.

The page decides on the look of the rest. Colours are for the colour-blind, sizes for a phone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.answers.score import Json

PURPLE = "#AA4499"
"""Joins the colours of `studies.answers.picture`. A colour is never the only difference between two marks."""
PICTURE_SCALE = "cividis"
WIDTH = 4.6
"""Inches. On a phone, letters then keep nearly their own size."""


@contextmanager
def in_style() -> Iterator[None]:
    """Draw and save in the report's style while the block runs; equal figures are then equal files."""
    with matplotlib.rc_context({"font.size": 9.5, "axes.titlesize": 10, "svg.hashsalt": "mixscout"}):
        yield


class Picture(Figure):
    """A figure that a notebook shows without pyplot, as it would be saved."""

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        self.savefig(page, format="png")
        return page.getvalue()


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """Make a figure, its size in inches."""
    return Picture(figsize=(width, height), layout="constrained")


def one_panel(height: float) -> tuple[Figure, Axes]:
    """Make a figure of one panel without a frame on top and right."""
    figure = new_figure(height)
    axes = figure.subplots()
    without_frame(axes)
    return figure, axes


def without_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, *, columns: int = 1) -> None:
    """Put the legend under the panel: inside a small figure it would cover points."""
    figure.legend(loc="outside lower left", ncols=columns, frameon=False)


def shown(name: str) -> str:
    """Write a name for people."""
    return name.replace("_", " ")


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
