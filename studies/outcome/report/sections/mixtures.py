"""The evaluated mixtures on a triangle: the three partitions that weigh most in the best mixture, the rest pooled.

The evaluated mixtures as lines over the partitions, coloured by their value.

Where the search has been: the evaluated mixtures on a triangle and as lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from objectives.held_out import Floats
from pool.mixture import Mixture
from studies.outcome.report.facts.drawing import GREY, ORANGE, PICTURE_SCALE, WIDTH, new_figure, shown, without_frame
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_LEAST_SHARE = 0.02
"""Mixtures with less than this in the three corners have no place among them."""
_GRID = (0.2, 0.4, 0.6, 0.8)


def ternary_chart(facts: Facts, best: Mixture) -> Chart:
    """Draw K >= 3 partitions; a mark's place is its shares among the three, its size how much of it they are."""
    order = sorted(range(len(best.names)), key=lambda k: -best.weights[k])[:3]
    corners = [best.names[k] for k in order]
    amounts = facts.weights[:, order]
    held = amounts.sum(axis=1)
    rows: list[list[Cell]] = [
        [trial.number, *amounts[row].tolist(), float(1 - held[row]), float(facts.values[row])]
        for row, trial in enumerate(facts.trials)
    ]
    kept = held >= _LEAST_SHARE
    away = int((~kept).sum())
    pooled = " The other partitions are pooled: the smaller a mark, the more of its mixture is in them"
    away_said = f"; {away} mixtures have nothing in these three and are left out." if away else "."
    caption = (
        f"Evaluated mixtures by their shares of {', '.join(map(shown, corners))}; colour is the {facts.unit}, dark "
        f"blue the lowest; the star is the best mixture.{pooled + away_said if len(best.names) > 3 else ''}"
    )
    alt = f"Triangle of {len(rows)} mixtures; the best has " + ", ".join(
        f"{shown(name)} {best.as_dict()[name]:.1%}" for name in corners
    )
    table = Table("ternary", caption, ("trial", *corners, "all others", facts.unit), rows)
    draw = partial(_draw, corners, amounts[kept], facts.values[kept], best.array[order], facts.unit)
    return Chart("ternary", caption, alt, draw, table)


def _draw(corners: Sequence[str], amounts: Floats, values: Floats, best: Floats, unit: str) -> Figure:
    figure = new_figure(3.9)
    axes = figure.subplots()
    _draw_triangle(axes, corners)
    held = amounts.sum(axis=1)
    at = _place(amounts)
    order = np.argsort(-values)  # the best on top
    marks = axes.scatter(
        at[order, 0],
        at[order, 1],
        c=values[order],
        s=(12 + 60 * held)[order],
        cmap=PICTURE_SCALE,
        edgecolor="white",
        linewidth=0.5,
    )
    star = _place(best[None])[0]
    axes.scatter(star[0], star[1], marker="*", s=230, color=ORANGE, edgecolor="black", linewidth=0.8, zorder=4)
    figure.colorbar(marks, ax=axes, shrink=0.7, pad=0.02).set_label(unit)
    return figure


def _place(amounts: Floats) -> Floats:
    """Put amounts (N, 3) on the plane (N, 2)."""
    places: Floats = amounts / amounts.sum(axis=1, keepdims=True) @ _CORNERS
    return places


def _draw_triangle(axes: Axes, corners: Sequence[str]) -> None:
    outline = _CORNERS[[0, 1, 2, 0]]
    axes.plot(outline[:, 0], outline[:, 1], color="black", linewidth=1)
    for share in _GRID:
        for first, second, third in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            ends = np.array([_CORNERS[first], _CORNERS[first]]) * share
            ends += np.array([_CORNERS[second], _CORNERS[third]]) * (1 - share)
            axes.plot(ends[:, 0], ends[:, 1], color=GREY, linewidth=0.4, alpha=0.6)
    axes.text(0, -0.04, shown(corners[0]), ha="left", va="top")
    axes.text(1, -0.1, shown(corners[1]), ha="right", va="top")  # lower than the other, so that long names have room
    axes.text(0.5, _CORNERS[2, 1] + 0.03, shown(corners[2]), ha="center", va="bottom")
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.18, 0.95)


MOST_AS_LINES = 500
"""From here on the lines are drawn as one picture of dots: a page with so many paths is slow."""


def parallel_chart(facts: Facts, best: Mixture) -> Chart:
    """Draw every evaluated mixture, the partitions by their weight in the best one."""
    order = sorted(range(len(best.names)), key=lambda k: -best.weights[k])
    names = [best.names[k] for k in order]
    rows = [
        [trial.number, *facts.weights[row, order].tolist(), float(facts.values[row])]
        for row, trial in enumerate(facts.trials)
    ]
    caption = (
        f"Weights of all {len(rows)} evaluated mixtures; colour is the {facts.unit}, dark blue the lowest; the thick "
        "line with marks is the best mixture."
    )
    alt = f"{len(rows)} lines over {len(names)} partitions, from {shown(names[0])} to {shown(names[-1])}"
    table = Table("mixtures", "All evaluated mixtures", ("trial", *names, facts.unit), rows)
    return Chart("parallel", caption, alt, partial(_draw_parallel, facts, best, order), table)


def _draw_parallel(facts: Facts, best: Mixture, order: list[int]) -> Figure:
    figure = new_figure(3.9, width=max(WIDTH, 1.2 + 0.42 * len(order)))
    axes = figure.subplots()
    scale = Normalize(float(facts.values.min()), float(facts.values.max()))
    colours = colormaps[PICTURE_SCALE](scale(facts.values))
    places = np.arange(len(order))
    as_dots = len(facts.values) > MOST_AS_LINES
    for row in np.argsort(-facts.values):
        axes.plot(places, facts.weights[row, order], color=colours[row], linewidth=0.9, alpha=0.75, rasterized=as_dots)
    axes.plot(places, best.array[order], "o-", color=ORANGE, linewidth=2.4, markersize=5)
    axes.set_xticks(places, [shown(best.names[k]) for k in order], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel("weight")
    axes.set_ylim(-0.02, 1.02)
    figure.colorbar(ScalarMappable(scale, PICTURE_SCALE), ax=axes, pad=0.02).set_label(facts.unit)
    without_frame(axes)
    return figure


KEY, TITLE = "mixtures", "Where the search has been"


def mixtures_section(facts: Facts) -> Section:
    """Show both views; a triangle needs three partitions."""
    best = facts.best
    if best is None:
        return Section(KEY, TITLE, missing=facts.search_first)
    triangle = [ternary_chart(facts, best)] if len(facts.names) >= 3 else []
    return Section(KEY, TITLE, charts=[*triangle, parallel_chart(facts, best)])
