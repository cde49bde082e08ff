"""What the report's figures have in common: colours that the colour-blind tell apart, sizes that a phone can show.

Passwords taken out of text that is about to be shown to whoever gets the page.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#666666"
"""Okabe and Ito's palette, its pink darkened; never the only thing by which two things differ."""
PICTURE_SCALE = "cividis"
WIDTH = 4.6
"""Inches: at the width of a phone, letters are then nearly their own size."""
MARKS = ("o", "s", "^", "D", "v", "P")


@contextmanager
def in_style() -> Iterator[None]:
    """Draw and save in the report's style while the block runs; equal figures are then equal files."""
    with matplotlib.rc_context({"font.size": 9.5, "axes.titlesize": 10, "svg.hashsalt": "mixscout"}):
        yield


def new_figure(height: float, *, width: float = WIDTH) -> Figure:
    """Make a figure, its size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def one_panel(height: float) -> tuple[Figure, Axes]:
    """Make a figure of one panel without a frame on top and right."""
    figure = new_figure(height)
    axes = figure.subplots()
    without_frame(axes)
    return figure, axes


def without_frame(axes: Axes) -> None:
    """Take the lines on top and right away."""
    axes.spines[["top", "right"]].set_visible(False)


def shown(name: str) -> str:
    """Write a name for people."""
    return name.replace("_", " ")


def as_data_uri(figure: Figure) -> str:
    """Return a figure as an SVG image inside a URI, so that a page needs no other file."""
    image = io.BytesIO()
    figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(image.getvalue()).decode()


def width_px(figure: Figure) -> int:
    """Return the width that a figure was made for, in CSS pixels."""
    return round(figure.get_figwidth() * 96)


MASK = "***"
_IN_URL = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s@\"']+(?=@)", re.IGNORECASE)
_IN_QUERY = re.compile(r"(?P<before>[?&](?:password|passwd|sslpassword|token|secret)=)[^\s&\"']+", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?P<before>[\w.-]*(?:password|passwd|secret|token|api_?key)[\"']?\s*[=:]\s*)(?P<quote>[\"']).*?(?P=quote)",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Replace passwords in URLs, and quoted values of keys that sound secret, by asterisks."""
    text = _IN_URL.sub(rf"\g<before>{MASK}", text)
    text = _IN_QUERY.sub(rf"\g<before>{MASK}", text)
    return _ASSIGNED.sub(rf"\g<before>\g<quote>{MASK}\g<quote>", text)
