"""How far the surrogate can be believed: predictions that had not seen the value, and the shares in their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from objectives.held_out import Floats
from search.surrogates.surrogate import Prediction, coverage
from search.trials import PREDICTED_DEVIATIONS, PREDICTED_MEANS
from studies.outcome.report.facts.drawing import BLUE, GREY, ORANGE, one_panel
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table
from studies.outcome.report.facts.surface import LEAST_EVALUATIONS

KEY, TITLE = "surrogate", "Surrogate"
NOMINAL = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
OUT_OF_FOLD, BEFOREHAND = "out of fold", "by the gate, beforehand"


@dataclass(frozen=True, eq=False)
class Foretold:
    """N predictions that had not seen what was measured (N,)."""

    prediction: Prediction
    measured: Floats

    @property
    def spearman(self) -> float:
        """Rank correlation; NaN where it is not defined."""
        if min(np.ptp(self.prediction.mean), np.ptp(self.measured)) == 0:
            return float("nan")
        return float(spearmanr(self.prediction.mean, self.measured).statistic)

    @property
    def rmse(self) -> float:
        """Root mean squared error."""
        return float(np.sqrt(np.mean((self.prediction.mean - self.measured) ** 2)))


def surrogate_section(facts: Facts) -> Section:
    """Show the scatter and the calibration."""
    surface = facts.surface
    if surface is None:
        needs = (
            f"A surrogate needs {LEAST_EVALUATIONS} evaluated mixtures. Run: mixscout search {facts.study_file.name}"
        )
        return Section(KEY, TITLE, missing=needs)
    foretold = {OUT_OF_FOLD: Foretold(surface.out_of_fold, surface.measured)}
    before = _beforehand(facts)
    if before is not None:
        foretold[BEFOREHAND] = before
    rows: list[list[Cell]] = [
        [name, len(one.measured), one.spearman, one.rmse, coverage(one.prediction, one.measured)]
        for name, one in foretold.items()
    ]
    columns = ("predicted", "mixtures", "Spearman", "RMSE", "inside the 90 % interval")
    return Section(
        KEY,
        TITLE,
        notes=[
            "Out of fold: each mixture predicted from the others; intervals were calibrated on these same errors, so "
            "their share at 90 % is right by construction. What the gate predicted before a merge is a test in earnest."
        ],
        tables=[Table("surrogate", "How well values were predicted", columns, rows)],
        charts=[_scatter(facts, foretold), _calibration(foretold)],
    )


def _beforehand(facts: Facts) -> Foretold | None:
    """Collect what the gate had predicted of mixtures that were then evaluated; the mean of several objectives."""
    told = [
        (np.mean(trial.user_attrs[PREDICTED_MEANS]), _together(trial.user_attrs[PREDICTED_DEVIATIONS]), value)
        for trial, value in zip(facts.trials, facts.values, strict=True)
        if trial.user_attrs.get(PREDICTED_MEANS)
    ]
    if len(told) < 2:
        return None
    means, deviations, values = np.array(told, dtype=np.float64).T
    return Foretold(Prediction(means, deviations), values)


def _together(deviations: Sequence[float]) -> float:
    """Return the deviation of a mean of independent predictions."""
    return float(np.sqrt(np.sum(np.square(deviations)))) / len(deviations)


def _scatter(facts: Facts, foretold: dict[str, Foretold]) -> Chart:
    rows: list[list[Cell]] = [
        [name, *row]
        for name, one in foretold.items()
        for row in zip(
            one.prediction.mean.tolist(), one.prediction.deviation.tolist(), one.measured.tolist(), strict=True
        )
    ]
    table = Table("predicted-measured", "Predicted and measured", ("predicted", "mean", "deviation", "measured"), rows)
    alt = "; ".join(f"{name}: Spearman {one.spearman:.2f}, RMSE {one.rmse:.4f}" for name, one in foretold.items())
    caption = "Predicted against measured; on the dashed line both are equal. Bars are 90 % intervals."
    return Chart("predicted-measured", caption, alt, partial(_draw_scatter, facts, foretold), table)


def _calibration(foretold: dict[str, Foretold]) -> Chart:
    rows: list[list[Cell]] = [
        [name, nominal, coverage(one.prediction, one.measured, nominal=nominal)]
        for name, one in foretold.items()
        if len(one.measured) >= LEAST_EVALUATIONS
        for nominal in NOMINAL
    ]
    table = Table("calibration", "Calibration", ("predicted", "nominal coverage", "measured coverage"), rows)
    alt = "; ".join(f"{row[0]}: {row[1]:.0%} nominal, {row[2]:.0%} measured" for row in rows)
    caption = (
        "Share of values inside intervals of a nominal coverage. Above the dashed line: too wide; below: too sure."
    )
    return Chart("calibration", caption, alt, partial(_draw_calibration, rows), table)


def _draw_scatter(facts: Facts, foretold: dict[str, Foretold]) -> Figure:
    assert facts.surface is not None
    figure, axes = one_panel(4.0)
    for (name, one), colour, mark in zip(foretold.items(), (BLUE, ORANGE), ("o", "^"), strict=False):
        bars = facts.surface.reach * one.prediction.deviation
        axes.errorbar(
            one.prediction.mean,
            one.measured,
            xerr=bars,
            fmt=mark,
            color=colour,
            markersize=4,
            elinewidth=0.7,
            alpha=0.8,
            label=f"{name}: Spearman {one.spearman:.2f}, RMSE {one.rmse:.4f}",
        )
    both = np.concatenate([np.concatenate([one.measured, one.prediction.mean]) for one in foretold.values()])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, "--", color=GREY, linewidth=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("measured" if facts.on_table else f"measured: {facts.unit}")
    figure.legend(loc="outside lower left", frameon=False)
    return figure


def _draw_calibration(rows: Sequence[Sequence[Cell]]) -> Figure:
    figure, axes = one_panel(3.8)
    for name, colour, mark in ((OUT_OF_FOLD, BLUE, "o-"), (BEFOREHAND, ORANGE, "^--")):
        points = [row[1:] for row in rows if row[0] == name]
        if points:
            axes.plot(*zip(*points, strict=True), mark, color=colour, label=name)
    axes.plot([0.45, 1], [0.45, 1], "--", color=GREY, linewidth=1, label="as promised")
    axes.set_xlabel("nominal coverage")
    axes.set_ylabel("measured coverage")
    axes.set_ylim(0, 1.03)
    axes.legend(frameon=False, loc="lower right")
    return figure
