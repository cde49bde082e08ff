"""The picture of `bench search`: regret against forward-equivalents, a panel for each size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.benchmarks.strategies.regret import RegretResult

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette: told apart by the colour-blind."""
STYLES = ("-", "--")
FLOOR_PERCENT = 0.01
"""Where the axis ends: less is drawn here."""


def draw_regret(results: Sequence[RegretResult], path: Path) -> Path:
    """Draw median and quartiles over all cases and seeds of a size, and return the path."""
    sizes = sorted({one.case.partitions for one in results})
    figure = Figure(figsize=(1 + 4.2 * len(sizes), 4.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(sizes), sharey=True))
    for axes, size in zip(panels, sizes, strict=True):
        _draw_size(axes, [one for one in results if one.case.partitions == size])
        axes.set_title(f"{size} partitions", loc="left")
    panels[0].set_ylabel("regret, % of the uniform mixture's")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _draw_size(axes: Axes, results: Sequence[RegretResult]) -> None:
    strategies = list(dict.fromkeys(one.entry.strategy for one in results))
    for at, strategy in enumerate(strategies):
        courses = [course for one in results if one.entry.strategy == strategy for course in one.courses]
        forwards = np.unique(np.concatenate([course.forwards for course in courses]))
        percents = np.array([[course.at(spent) for spent in forwards] for course in courses])
        low, middle, high = np.quantile(np.maximum(percents, FLOOR_PERCENT), [0.25, 0.5, 0.75], axis=0)
        colour, style = COLOURS[at % len(COLOURS)], STYLES[at // len(COLOURS) % len(STYLES)]
        axes.plot(forwards, middle, color=colour, linestyle=style, label=strategy)
        axes.fill_between(forwards, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(1, color="#666666", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(FLOOR_PERCENT, 150)
    axes.set_xlabel("forward-equivalents")
    axes.spines[["top", "right"]].set_visible(False)
