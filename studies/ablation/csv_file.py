"""Every contribution of an ablation as one row of a CSV file."""

import csv
import io
import math
from pathlib import Path

from pool.disk import write_text
from studies.ablation.ablation import Ablation

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


def _shown(number: float | None) -> str:
    return "" if number is None or not math.isfinite(number) else repr(number)
