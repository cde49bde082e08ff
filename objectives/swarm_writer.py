"""Writing a swarm as `ratios.csv` and `metrics.csv`, in the form that is read back.

Columns always carry RegMix's decoration (`train_NAME`, `metric/NAME_val_loss`): readers strip it where every column
has it, so any name comes back as it was, one that is itself decorated or that means a run's id included.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from objectives.swarm_table import SwarmTable
from pool.files.whole import new_folder, write_text


def write_swarm(table: SwarmTable, folder: Path) -> None:
    """Write both files into a new folder, whole or not at all; numbers are written in full."""
    weights = [f"train_{name}" for name in table.names]
    metrics = [f"metric/{name}_val_loss" for name in table.metrics]
    columns = zip(*(values.tolist() for values in table.metrics.values()), strict=True)
    with new_folder(folder) as new:
        write_text(new / "ratios.csv", _csv(weights, table.runs, table.weights.tolist()))
        write_text(new / "metrics.csv", _csv(metrics, table.runs, columns))


def _csv(columns: Sequence[str], runs: Sequence[str], rows: Iterable[Sequence[float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", *columns])
    writer.writerows([run, *map(repr, row)] for run, row in zip(runs, rows, strict=True))
    return text.getvalue()
