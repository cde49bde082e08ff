"""The parts of a report as frozen values: sections of tables, charts and texts, and the style of its figures.

The page decides on the look of the rest. Colours are for the colour-blind, sizes for a phone.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from objectives.held_out import CONFIDENT
from objectives.scoring.paired import PairedDifference
from studies.answers.picture import BETTER, GREY, WORSE
from studies.answers.score import Json

Side = Literal["better", "worse", "unclear"]
COLOURS: Mapping[Side, str] = {"better": BETTER, "worse": WORSE, "unclear": GREY}

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
class Quotation:
    """Texts by letter that continue one `beginning`, and who wrote each; `group` gathers quotations."""

    group: str
    name: str
    beginning: str
    texts: Mapping[str, str]
    writers: Mapping[str, str]


@dataclass(frozen=True)
class Section:
    """One part of a report. `missing` names absent data and the command to make them, in one line.

    commands: those that made what is shown, after the search.
    """

    key: str
    title: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    passages: Sequence[Passage] = ()
    quotations: Sequence[Quotation] = ()
    missing: str | None = None
    commands: Sequence[str] = ()

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
            **({"quotations": [asdict(one) for one in self.quotations]} if self.quotations else {}),
        }


@dataclass(frozen=True)
class Advantage:
    """By how much the best mixture is better than a baseline, in [low, high]; no finite bounds: no error is known."""

    baseline: str
    measured_on: str
    better: float
    low: float
    high: float

    @classmethod
    def of(cls, baseline: str, measured_on: str, paired: PairedDifference) -> Advantage:
        half = CONFIDENT * paired.standard_error
        return cls(baseline, measured_on, paired.difference, paired.difference - half, paired.difference + half)

    @classmethod
    def of_record(cls, baseline: str, measured_on: str, record: Mapping[str, float]) -> Advantage:
        """Read what `paired_json` made of a difference."""
        return cls.of(baseline, measured_on, PairedDifference(record["difference"], record["standard_error"], 0))

    @property
    def side(self) -> Side:
        """Which of both is better beyond chance."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"

    @property
    def decimals(self) -> int:
        """Decimals with two digits of the interval, from three to six."""
        half = (self.high - self.low) / 2
        return min(6, max(3, 1 - math.floor(math.log10(half)))) if 0 < half < math.inf else 3

    @property
    def in_words(self) -> str:
        """The difference without its sign, with its interval; with its sign where it cannot be told from none."""
        digits, half = self.decimals, (self.high - self.low) / 2
        value, low, high = (f"{abs(one):.{digits}f}" for one in (self.better, self.low, self.high))
        if not math.isfinite(half):
            return value
        if self.side == "unclear" or abs(self.high + self.low - 2 * self.better) <= half / 20:
            return f"{self.sign if self.side == 'unclear' else ''}{value} ± {half:.{digits}f}"
        return f"{value} ({min(low, high, key=float)} to {max(low, high, key=float)})"

    @property
    def sign(self) -> str:
        return "+" if self.better >= 0 else "-"


def draw_lead(axes: Axes, lead: Advantage, place: float, mark: str, *, said: bool = False) -> None:
    """Draw a lead as a mark with its interval; `said`, with its number."""
    spread = [[lead.better - lead.low], [lead.high - lead.better]] if math.isfinite(lead.high) else None
    colour = COLOURS[lead.side]
    axes.errorbar(lead.better, place, xerr=spread, fmt=mark, color=colour, capsize=3, markersize=5)
    if said:
        text, at = f"{lead.better:+.{lead.decimals}f}", (lead.better, place)
        axes.annotate(text, at, (0, 5), textcoords="offset points", ha="center", color=colour, fontsize=8)
