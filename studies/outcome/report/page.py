"""The report as one page of HTML with its figures inside: no script, no network.

A content security policy forbids the browser to load anything, so nothing in the page can call home.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from studies.answers.lettering import save
from studies.outcome.report.facts.section import Cell, Table, shown

LONG = 4
"""A table of more rows is folded up."""
MOST_ROWS = 400
"""Rows of a table in the page; the CSV file has all of them."""
UNKNOWN = "-"
_COLUMN = 480
"""CSS pixels of a column; a figure that stays wider has both."""
_WIDEST, _NARROWEST = 1.3, 0.8
"""Scales of a figure within which its letters stay readable."""


def render(parts: Mapping[str, object], figures: Mapping[str, Figure]) -> str:
    """Return the page of a study from the parts of its report; `figures` are those of the charts by name."""
    environment = Environment(
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    environment.filters |= {"cell": written, "shown": shown}
    environment.tests["number"] = _is_number
    here = files("studies.outcome.report")
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        parts,
        images={name: _image(figure) for name, figure in figures.items()},
        style=here.joinpath("page.css").read_text(encoding="utf-8"),
        figures=_columns_of_numbers,
        long=LONG,
        most=MOST_ROWS,
    )


def _image(figure: Figure) -> dict[str, str]:
    """Return the URI of a figure as SVG without a background, the CSS of its width, and its class."""
    image = io.BytesIO()
    save(figure, image, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    width = round(figure.get_figwidth() * 96)  # CSS pixels
    narrowest, widest = round(_NARROWEST * width), round(_WIDEST * width)
    return {
        "uri": "data:image/svg+xml;base64," + base64.b64encode(image.getvalue()).decode(),
        "style": f"width: 100%; min-width: {narrowest}px; max-width: {widest}px",
        "shape": "broad" if narrowest > _COLUMN else "",
    }


def written(cell: Cell) -> str:
    """Write a cell for people."""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return _written_float(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    return cell or UNKNOWN


def _written_float(number: float) -> str:
    if not math.isfinite(number):
        return UNKNOWN
    if abs(number) >= 1e9:
        return f"{number:.2e}"  # FLOPs
    return f"{number:.4f}" if number == 0 or abs(number) >= 5e-5 else f"{number:.1e}"


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _columns_of_numbers(table: Table) -> set[str]:
    columns = zip(table.columns, zip(*table.rows, strict=True), strict=False)
    return {name for name, cells in list(columns)[1:] if any(map(_is_number, cells))}
