"""The evaluated mixtures as lines over the partitions, coloured by their value."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pool.mixture import Mixture
from studies.report.drawing import ORANGE, SCALE, WIDTH, new_figure, shown, without_frame
from studies.report.facts import Facts
from studies.report.section import Chart, Table

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
    return Chart("parallel", caption, alt, partial(_draw, facts, best, order), table)


def _draw(facts: Facts, best: Mixture, order: list[int]) -> Figure:
    figure = new_figure(3.9, width=max(WIDTH, 1.2 + 0.42 * len(order)))
    axes = figure.subplots()
    scale = Normalize(float(facts.values.min()), float(facts.values.max()))
    colours = colormaps[SCALE](scale(facts.values))
    places = np.arange(len(order))
    as_dots = len(facts.values) > MOST_AS_LINES
    for row in np.argsort(-facts.values):
        axes.plot(places, facts.weights[row, order], color=colours[row], linewidth=0.9, alpha=0.75, rasterized=as_dots)
    axes.plot(places, best.array[order], "o-", color=ORANGE, linewidth=2.4, markersize=5)
    axes.set_xticks(places, [shown(best.names[k]) for k in order], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel("weight")
    axes.set_ylim(-0.02, 1.02)
    figure.colorbar(ScalarMappable(scale, SCALE), ax=axes, pad=0.02).set_label(facts.unit)
    without_frame(axes)
    return figure
