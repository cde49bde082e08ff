"""Slices of the response surface: predictions with intervals on the lines from the best mixture to every vertex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from objectives.held_out import Floats
from pool.mixture import Mixture
from search.space import CappedSimplex
from studies.answers.picture import GREY, INK, PREDICTED
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table, new_figure, shown, without_frame
from studies.outcome.report.facts.surface import LEAST_EVALUATIONS, Surface

POINTS = 33
NEAR = 0.1
"""Greatest total variation between the line and an evaluated mixture that is drawn."""
ON_THE_LINE = 0.005
MOST_PANELS = 12


@dataclass(frozen=True, eq=False)
class Slice:
    """M mixtures on the line from the best mixture to the vertex of `partition`.

    weights: the partition's weight along the line (M,).
    predicted, half: the interval predicted +- half (M,).
    allowed: whether the study's space holds the mixture (M,).
    near: weight, value and distance from the line of the evaluated mixtures close to it (3, N).
    """

    partition: str
    weights: Floats
    predicted: Floats
    half: Floats
    allowed: npt.NDArray[np.bool_]
    near: Floats


def slices_section(facts: Facts) -> Section:
    """Show slices, or why there are none."""
    section = partial(Section, "slices", "Response surface around the best mixture")
    best, surface = facts.best, facts.surface
    if best is None or surface is None:
        return section(
            missing=f"Slices need {LEAST_EVALUATIONS} evaluated mixtures. Run: mixscout search {facts.typed}"
        )
    slices = [_slice(surface, facts.bench.space, best, name) for name in best.names if best.as_dict()[name] < 1]
    slices.sort(key=lambda one: -best.as_dict()[one.partition])
    drawn = slices[:MOST_PANELS]
    more = f" The {MOST_PANELS} partitions of largest weight are drawn." if len(slices) > MOST_PANELS else ""
    caption = (
        "Each panel gives one partition more, up to all, and takes from the others alike. Line: predicted mean. Band: "
        "the predictor's 90 % interval, or a wider one far from every evaluated mixture, as out-of-fold errors are; "
        "it may still be too narrow there. "
        f"Points: {surface.measured_are} on the line (filled) or within "
        f"{NEAR:.0%} of it (hollow). The vertical line is the best mixture, grey is outside the study's space.{more}"
    )
    alt = "; ".join(f"{shown(one.partition)}: from {one.predicted[0]:.3f} to {one.predicted[-1]:.3f}" for one in drawn)
    table = Table(
        "slices",
        "Predictions along the slices",
        ("partition", "weight", "mean", "low", "high", "allowed"),
        [row for one in slices for row in _rows(one)],
    )
    return section(charts=[Chart("slices", caption, alt, partial(_draw, facts.unit, drawn), table)])


def _slice(surface: Surface, space: CappedSimplex, best: Mixture, partition: str) -> Slice:
    at = best.names.index(partition)
    direction = Mixture.vertex(best.names, partition).array - best.array
    steps = np.linspace(0, 1, POINTS)
    line = best.array + steps[:, None] * direction
    allowed = np.array([space.contains(Mixture.from_array(best.names, row / row.sum())) for row in line])
    mean, half = surface.predict(line).mean, surface.half_widths(line)
    return Slice(partition, line[:, at], mean, half, allowed, _near(surface, best.array, direction, at))


def _near(surface: Surface, start: Floats, direction: Floats, at: int) -> Floats:
    """Find the evaluated mixtures close to a line, and project them onto it."""
    steps = np.clip((surface.weights - start) @ direction / (direction @ direction), 0, 1)
    nearest = start + steps[:, None] * direction
    distance = np.abs(surface.weights - nearest).sum(axis=1) / 2
    close = distance <= NEAR
    return np.array([nearest[close, at], surface.measured[close], distance[close]])


def _rows(one: Slice) -> list[list[Cell]]:
    columns = (one.weights, one.predicted, one.predicted - one.half, one.predicted + one.half)
    numbers = zip(*(column.tolist() for column in columns), one.allowed.tolist(), strict=True)
    return [[one.partition, *row] for row in numbers]


def _draw(unit: str, slices: Sequence[Slice]) -> Figure:
    rows = -(-len(slices) // 2)
    figure = new_figure(0.5 + 1.75 * rows)
    panels = figure.subplots(rows, 2, squeeze=False, sharey=True).ravel()
    for axes, one in zip(panels, slices, strict=False):
        _draw_slice(axes, one)
    for axes in panels[len(slices) :]:
        axes.set_visible(False)
    figure.supylabel(unit, fontsize=9.5)
    figure.supxlabel("weight of the partition", fontsize=9.5)
    return figure


def _draw_slice(axes: Axes, one: Slice) -> None:
    low, high = one.predicted - one.half, one.predicted + one.half
    axes.fill_between(one.weights, low, high, color=PREDICTED, alpha=0.2, linewidth=0)
    axes.plot(one.weights, one.predicted, color=PREDICTED)
    outside = ~one.allowed
    if outside.any():
        axes.axvspan(float(one.weights[outside].min()), 1, color=GREY, alpha=0.15, linewidth=0)
    weights, values, distance = one.near
    on = distance <= ON_THE_LINE
    axes.plot(weights[~on], values[~on], "o", color=GREY, markersize=3.5, fillstyle="none", markeredgewidth=0.8)
    axes.plot(weights[on], values[on], "o", color=INK, markersize=4.5)
    axes.axvline(float(one.weights[0]), color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(0, 1.02)
    axes.set_title(shown(one.partition), loc="left", fontsize=9.5)
    without_frame(axes)
