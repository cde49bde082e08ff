"""The pictures of a pool check: heat maps readable by the colour-blind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from objectives.held_out import Floats
from pool.files.names import file_name
from pool.files.whole import new_files
from studies.answers.picture import WORSE_TO_BETTER, saved

if TYPE_CHECKING:
    from studies.assessment.pool_check.check import PoolCheck

MOST_NUMBERS = 400
"""Larger matrices have no numbers written in their cells."""
ROOM_FOR_COLOUR_BAR = 1.4
NOT_MEASURED = "#D9D9D9"


@dataclass(frozen=True)
class HeatMap:
    """A labelled matrix; blue is better and orange is worse.

    colours: within `most` of `middle`
    written: values written in cells, by the format `form`
    """

    title: str
    bar: str
    rows: Sequence[str]
    columns: Sequence[str]
    colours: Floats
    written: Floats
    form: str
    middle: float = 0.0
    most: float | None = None
    high_is_good: bool = False


def draw_pool_check(check: PoolCheck, reports: Path) -> list[Path]:
    maps = {"transfer": _transfer(check)}
    if check.pairs:
        maps |= {"cosines": _cosines(check), "sign-conflicts": _sign_conflicts(check), "barriers": _barriers(check)}
    with new_files(reports):
        return [
            saved(heat_map_figure(one), reports / f"{file_name(check.pool)}-check-{name}.png", dpi=90)
            for name, one in maps.items()
        ]


def _transfer(check: PoolCheck) -> HeatMap:
    models = {**check.members, "(uniform merge)": check.uniform, "(seed)": check.seed}
    losses = np.array([[one.by_domain[name] for name in check.domains] for one in models.values()])
    with np.errstate(invalid="ignore"):
        excess = losses - losses[-1]
    title = f"Held-out loss of pool {check.pool}, nats per token, {check.split} split"
    return HeatMap(title, "minus the seed's loss", list(models), check.domains, excess, losses, ".2f")


def _cosines(check: PoolCheck) -> HeatMap:
    values = _without_diagonal(check.vectors.cosines)
    title = f"Cosines of the task vectors of pool {check.pool}"
    return HeatMap(title, "cosine", check.names, check.names, values, values, ".2f", most=1.0, high_is_good=True)


def _sign_conflicts(check: PoolCheck) -> HeatMap:
    values = _without_diagonal(check.vectors.sign_conflicts)
    title = f"Sign conflicts of the task vectors of pool {check.pool}"
    bar = "share of opposite signs (0.5: chance)"
    return HeatMap(title, bar, check.names, check.names, values, values, ".2f", middle=0.5, most=0.5)


def _barriers(check: PoolCheck) -> HeatMap:
    values = check.barrier_matrix()
    title = f"Loss barriers of pool {check.pool}, {check.split} split"
    return HeatMap(
        title, "nats above the straight line", check.names, (*check.names, "(mean of all)"), values, values, "+.2f"
    )


def heat_map_figure(one: HeatMap) -> Figure:
    """Draw a heat map, grey where not finite."""
    height, width = 2.0 + 0.42 * len(one.rows), 3.0 + ROOM_FOR_COLOUR_BAR + 0.62 * len(one.columns)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(NOT_MEASURED)
    finite = np.where(np.isfinite(one.colours), one.colours, np.nan)
    distance = np.abs(finite - one.middle)
    most = one.most or float(np.max(distance, initial=0.0, where=np.isfinite(distance))) or 1.0
    colours = WORSE_TO_BETTER if one.high_is_good else WORSE_TO_BETTER.reversed()
    image = axes.imshow(finite, cmap=colours, vmin=one.middle - most, vmax=one.middle + most, aspect="auto")
    axes.set_yticks(range(len(one.rows)), [name.replace("_", " ") for name in one.rows])
    columns = [name.replace("_", " ") for name in one.columns]
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
    if finite.size <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(one.written):
            if np.isfinite(value):
                dark = distance[row, column] > 0.6 * most
                text, ink = f"{value:{one.form}}", "white" if dark else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    figure.suptitle(one.title, x=0.01, ha="left", fontsize=11)
    figure.colorbar(image, ax=axes, pad=0.01).set_label(one.bar)
    return figure


def _without_diagonal(matrix: Floats) -> Floats:
    return np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
