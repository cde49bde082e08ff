"""An ablation as files: a CSV row per contribution, and a heat map of the Shapley values."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from objectives.held_out import Floats
from pool.files.names import file_name
from pool.files.whole import csv_text, write_text, writing_to
from studies.answers.picture import WORSE_TO_BETTER, saved
from studies.assessment.ablation.ablation import Ablation

COLUMNS = ("quantity", "partition", "domain", "is_goal", "contribution", "standard_error", "measure", "split")
MOST_NUMBERS = 400
"""Most cells with their numbers written in."""


def write_csv(ablation: Ablation, path: Path) -> Path:
    """Write partition x column of every quantity; unknown numbers are empty. Return the path."""
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, csv_text(COLUMNS, _rows(ablation)))
    return path


def _rows(ablation: Ablation) -> Iterator[list[object]]:
    for quantity, found in ablation.contributions.items():
        for row, partition in enumerate(ablation.partitions):
            for column, domain in enumerate(ablation.columns):
                numbers = [_shown(number) for number in found.of(row, column)]
                yield [quantity, partition, domain, column == 0, *numbers, ablation.measure, ablation.split]


def ablation_stem(study: str, game: str, split: str) -> str:
    return f"{file_name(study)}-ablation-{game}-{split}"


def read_shapley(path: Path) -> tuple[list[str], list[str], Floats, str]:
    """Return partitions, columns, Shapley values (K, C) and measure of a file from `write_csv`.

    Raises `ValueError` or `KeyError` for any other file.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["quantity"] == "shapley"]
    partitions = list(dict.fromkeys(row["partition"] for row in rows))
    columns = len(rows) // max(1, len(partitions))
    values = np.array([float(row["contribution"]) for row in rows]).reshape(len(partitions), columns)
    return partitions, [row["domain"] for row in rows[:columns]], values, rows[0]["measure"] if rows else ""


def _shown(number: float | None) -> str:
    return "" if number is None or not math.isfinite(number) else repr(number)


def draw_ablation(ablation: Ablation, path: Path) -> Path:
    """Draw a PNG, or another format by the suffix, and return its path."""
    title = f"Shapley values of study {ablation.study}, {ablation.split} split"
    values = ablation.shapley.contributions.values
    figure = shapley_figure(title, ablation.partitions, ablation.columns, values, ablation.measure)
    return saved(figure, path, dpi=100)


def shapley_figure(
    title: str, partitions: Sequence[str], columns: Sequence[str], values: Floats, measure: str
) -> Figure:
    """Draw contributions (K, C), the goal first, partitions ordered by it; orange harms, blue helps."""
    order = np.argsort(-values[:, 0], kind="stable")
    shown = values[order]
    height, width = 1.9 + 0.42 * len(shown), 4.2 + 0.85 * shown.shape[1]
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    most = float(np.abs(shown).max()) or 1.0
    image = axes.imshow(shown, cmap=WORSE_TO_BETTER, vmin=-most, vmax=most, aspect="auto")
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
