"""Every contribution of an ablation as one row of a CSV file, and the Shapley values read back."""

import csv
import io
import math
from pathlib import Path

import numpy as np

from objectives.held_out import Floats
from pool.files.whole import write_text
from studies.assessment.ablation.ablation import Ablation

COLUMNS = ("quantity", "partition", "domain", "is_goal", "contribution", "standard_error", "measure", "split")


def write_csv(ablation: Ablation, path: Path) -> Path:
    """Write partition x column of every quantity, in the goal's measure; empty where not known. Return the path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for quantity, found in ablation.contributions.items():
        for row, partition in enumerate(ablation.partitions):
            for column, domain in enumerate(ablation.columns):
                numbers = [_shown(number) for number in found.of(row, column)]
                writer.writerow([quantity, partition, domain, column == 0, *numbers, ablation.measure, ablation.split])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
    return path


def ablation_stem(study: str, game: str, split: str) -> str:
    """Name the files of an ablation, without suffix."""
    return f"{study}-ablation-{game}-{split}"


def read_shapley(path: Path) -> tuple[list[str], list[str], Floats, str]:
    """Return partitions, columns, Shapley values (K, C) and measure of a file that was written here.

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
