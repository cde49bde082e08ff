"""The evaluated mixtures on a triangle and as weights by partition, coloured by their value.

The triangle's corners are the three partitions of largest weight in the best mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from objectives.held_out import Floats
from objectives.target import Direction
from pool.mixture import Mixture
from studies.answers.picture import BETTER, GREY
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import (
    PICTURE_SCALE,
    WIDTH,
    Cell,
    Chart,
    Section,
    Table,
    new_figure,
    shown,
    without_frame,
)

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
_LEAST_SHARE = 0.02
"""Mixtures with a smaller share in the three corners have no place on the triangle."""
_GRID = (0.2, 0.4, 0.6, 0.8)
MOST_AS_PATHS = 3000
"""More points are drawn as one raster image: a page with so many paths is slow."""
_SPREAD = 0.32
"""Half the width over which the points of a partition are spread, in the order of evaluation."""


@dataclass(frozen=True, eq=False)
class Colours:
    """The values (N,) of mixtures as colours, blue the best and yellow the worst."""

    values: Floats
    unit: str
    direction: Direction

    @classmethod
    def of(cls, facts: Facts) -> Colours:
        return cls(facts.values, facts.unit, facts.bench.target.direction)

    def take(self, rows: npt.NDArray[np.bool_]) -> Colours:
        return Colours(self.values[rows], self.unit, self.direction)

    @property
    def scale(self) -> str:
        return PICTURE_SCALE if self.direction == "minimise" else f"{PICTURE_SCALE}_r"

    @property
    def order(self) -> npt.NDArray[np.intp]:
        """The order of drawing (N,): the best comes last, on top."""
        return np.argsort(-self.values if self.direction == "minimise" else self.values)


def mixtures_section(facts: Facts) -> Section:
    """Show both views; a triangle needs three partitions."""
    section, best = partial(Section, "mixtures", "Where the search has been"), facts.best
    if best is None:
        return section(missing=facts.search_first)
    triangle = [ternary_chart(facts, best)] if len(facts.names) >= 3 else []
    return section(charts=[*triangle, weights_chart(facts, best)])


def ternary_chart(facts: Facts, best: Mixture) -> Chart:
    """Draw three of K partitions: a mark's place is its shares among the three, its size their sum."""
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
        f"Evaluated mixtures by their shares of {', '.join(map(shown, corners))}; colour is the {facts.unit}, "
        f"blue the {facts.best_is}; the star is the best mixture.{pooled + away_said if len(best.names) > 3 else ''}"
    )
    alt = f"Triangle of {len(rows)} mixtures; the best has " + ", ".join(
        f"{shown(name)} {best.as_dict()[name]:.1%}" for name in corners
    )
    table = Table("ternary", caption, ("trial", *corners, "all others", facts.unit), rows)
    draw = partial(_draw_ternary, corners, amounts[kept], Colours.of(facts).take(kept), best.array[order])
    return Chart("ternary", caption, alt, draw, table)


def _draw_ternary(corners: Sequence[str], amounts: Floats, colours: Colours, best: Floats) -> Figure:
    figure = new_figure(3.9)
    axes = figure.subplots()
    _draw_triangle(axes, corners)
    held = amounts.sum(axis=1)
    at = _place(amounts)
    order = colours.order
    marks = axes.scatter(
        at[order, 0],
        at[order, 1],
        c=colours.values[order],
        s=(12 + 60 * held)[order],
        cmap=colours.scale,
        edgecolor="white",
        linewidth=0.5,
    )
    star = _place(best[None])[0]
    axes.scatter(star[0], star[1], marker="*", s=230, color=BETTER, edgecolor="white", linewidth=1.2, zorder=4)
    figure.colorbar(marks, ax=axes, shrink=0.7, pad=0.02).set_label(colours.unit)
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
    axes.text(1, -0.1, shown(corners[1]), ha="right", va="top")  # lower, so that long names have room
    axes.text(0.5, _CORNERS[2, 1] + 0.03, shown(corners[2]), ha="center", va="bottom")
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.18, 0.95)


def weights_chart(facts: Facts, best: Mixture) -> Chart:
    """Draw every weight of every evaluated mixture, partitions in the order of their weights in the best mixture."""
    order = sorted(range(len(best.names)), key=lambda k: -best.weights[k])
    names = [best.names[k] for k in order]
    weights = facts.weights[:, order]
    rows = [[trial.number, *weights[row].tolist(), float(facts.values[row])] for row, trial in enumerate(facts.trials)]
    caption = (
        f"Weights of all {len(rows)} evaluated mixtures, within a partition from the first to the last; colour is the "
        f"{facts.unit}, blue the {facts.best_is}; stars are the best mixture."
    )
    alt = f"{len(rows)} points for each of {len(names)} partitions, from {shown(names[0])} to {shown(names[-1])}"
    table = Table("mixtures", "All evaluated mixtures", ("trial", *names, facts.unit), rows)
    draw = partial(_draw_weights, names, weights, Colours.of(facts), best.array[order])
    return Chart("weights", caption, alt, draw, table)


def _draw_weights(names: Sequence[str], weights: Floats, colours: Colours, best: Floats) -> Figure:
    figure = new_figure(3.9, width=max(WIDTH, 1.2 + 0.42 * len(names)))
    axes = figure.subplots()
    places = np.arange(len(names))
    spread = np.linspace(-_SPREAD, _SPREAD, len(weights)) if len(weights) > 1 else np.zeros(1)
    order = colours.order
    marks = axes.scatter(
        (places[None] + spread[order, None]).ravel(),
        weights[order].ravel(),
        c=np.repeat(colours.values[order], len(names)),
        s=9,
        cmap=colours.scale,
        linewidth=0,
        rasterized=weights.size > MOST_AS_PATHS,
    )
    axes.plot(places, best, "*", color=BETTER, markersize=12, markeredgecolor="white", markeredgewidth=0.8)
    axes.set_xticks(places, list(map(shown, names)), rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel("weight")
    axes.set_ylim(-0.03, 1.03)
    figure.colorbar(marks, ax=axes, pad=0.02).set_label(colours.unit)
    without_frame(axes)
    return figure
