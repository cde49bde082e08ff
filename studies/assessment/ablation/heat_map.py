"""One picture of an ablation: Shapley values, partitions by held-out domains."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from objectives.held_out import Floats
from studies.assessment.ablation.ablation import Ablation

MOST_NUMBERS = 400
"""Cells up to which each one has its number written in."""


def draw_ablation(ablation: Ablation, path: Path) -> Path:
    """Draw a PNG (or whatever the suffix says) and return its path; red harms, blue helps, white is nothing."""
    title = f"Shapley values of study {ablation.study}, {ablation.split} split"
    values = ablation.shapley.contributions.values
    figure = shapley_figure(title, ablation.partitions, ablation.columns, values, ablation.measure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path


def shapley_figure(
    title: str, partitions: Sequence[str], columns: Sequence[str], values: Floats, measure: str
) -> Figure:
    """Draw contributions (K, C) to C columns, the goal first; the partitions by what they add to it."""
    order = np.argsort(-values[:, 0], kind="stable")
    shown = values[order]
    height, width = 1.9 + 0.42 * len(shown), 4.2 + 0.85 * shown.shape[1]
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    most = float(np.abs(shown).max()) or 1.0
    image = axes.imshow(shown, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    axes.set_yticks(range(len(shown)), [partitions[row].replace("_", " ") for row in order])
    names = [name.replace("_", " ") for name in columns]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.axvline(0.5, color="black", linewidth=1)
    if shown.size <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(shown):
            colour = "white" if abs(value) > 0.6 * most else "black"
            axes.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_title(title, loc="left")
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    bar.set_label(f"lower loss by ({measure.replace('-', ' ')})")
    return figure
