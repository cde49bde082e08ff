"""The style of the report's figures: colours for the colour-blind, sizes for a phone."""

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    axes.spines[["top", "right"]].set_visible(False)


def legend_below(figure: Figure, *, columns: int = 1) -> None:
    """Put the legend under the panel: inside a small figure it would cover points."""
    figure.legend(loc="outside lower left", ncols=columns, frameon=False)


def shown(name: str) -> str:
    """Write a name for people."""
    return name.replace("_", " ")
