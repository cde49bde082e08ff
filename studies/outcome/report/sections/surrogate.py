"""How far the surrogate can be believed: blind predictions beside measured values, and the coverage of intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from objectives.held_out import Floats
from search.surrogates.surrogate import Prediction, coverage
from search.trials import PREDICTED_DEVIATIONS, PREDICTED_MEANS
from studies.answers.picture import GREY, INK, PREDICTED
from studies.answers.score import rank_correlation
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table, legend_below, one_panel
from studies.outcome.report.facts.surface import LEAST_EVALUATIONS

NOMINAL = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
OUT_OF_FOLD, BEFOREHAND = "out of fold", "by the gate, beforehand"
_STYLES = {OUT_OF_FOLD: (PREDICTED, "o", "o-"), BEFOREHAND: (INK, "^", "^--")}


@dataclass(frozen=True, eq=False)
class Foretold:
    """N predictions made without the values `measured` (N,)."""

    prediction: Prediction
    measured: Floats

    @property
    def spearman(self) -> float | None:
        """Rank correlation; None for constant values."""
        return rank_correlation(self.prediction.mean.tolist(), self.measured.tolist())

    @property
    def rmse(self) -> float:
        return float(np.sqrt(np.mean((self.prediction.mean - self.measured) ** 2)))

    @property
    def words(self) -> str:
        spearman = "not defined" if self.spearman is None else f"{self.spearman:.2f}"
        return f"Spearman {spearman}, RMSE {self.rmse:.4f}"


def surrogate_section(facts: Facts) -> Section:
    """Show the scatter and the calibration."""
    section, surface = partial(Section, "surrogate", "Surrogate"), facts.surface
    if surface is None:
        return section(
            missing=f"A surrogate needs {LEAST_EVALUATIONS} evaluated mixtures. Run: mixscout search {facts.typed}"
        )
    foretold = {OUT_OF_FOLD: Foretold(surface.out_of_fold, surface.measured)}
    before = _beforehand(facts)
    if before is not None:
        foretold[BEFOREHAND] = before
    rows: list[list[Cell]] = [
        [name, len(one.measured), one.spearman, one.rmse, coverage(one.prediction, one.measured)]
        for name, one in foretold.items()
    ]
    columns = ("predicted", "mixtures", "Spearman", "RMSE", "inside the 90 % interval")
    measured_are = "measured" if facts.on_table else f"measured: {facts.unit}"
    calibrated = facts.on_table is None or facts.on_table.swarm.calibrates
    said = (
        "; intervals were calibrated on these same errors, so their share at 90 % is right by construction. What the "
        "gate predicted before a merge is a test in earnest."
    )
    return section(
        notes=[f"Out of fold: each mixture predicted from the others{said if calibrated else '.'}"],
        tables=[Table("surrogate", "How well values were predicted", columns, rows)],
        charts=[_scatter(foretold, surface.reach, measured_are), _calibration(foretold)],
    )


def _beforehand(facts: Facts) -> Foretold | None:
    """Collect the gate's predictions of mixtures evaluated later: with several objectives, of their mean."""
    said = [(trial.user_attrs, value) for trial, value in zip(facts.trials, facts.values, strict=True)]
    told = [
        (facts.bench.target.shown(float(np.mean(one[PREDICTED_MEANS]))), _together(one[PREDICTED_DEVIATIONS]), value)
        for one, value in said
        if one.get(PREDICTED_MEANS)
    ]
    if len(told) < 2:
        return None
    means, deviations, measured = np.array(told, dtype=np.float64).T
    return Foretold(Prediction(means, deviations), measured)


def _together(deviations: Sequence[float]) -> float:
    """Return the deviation of a mean of independent predictions."""
    return float(np.sqrt(np.sum(np.square(deviations)))) / len(deviations)


def _scatter(foretold: Mapping[str, Foretold], reach: float, measured_are: str) -> Chart:
    rows: list[list[Cell]] = [
        [name, *row]
        for name, one in foretold.items()
        for row in zip(
            one.prediction.mean.tolist(), one.prediction.deviation.tolist(), one.measured.tolist(), strict=True
        )
    ]
    table = Table("predicted-measured", "Predicted and measured", ("predicted", "mean", "deviation", "measured"), rows)
    alt = "; ".join(f"{name}: {one.words}" for name, one in foretold.items())
    caption = "Predicted against measured; on the dashed line both are equal. Bars are 90 % intervals."
    draw = partial(_draw_scatter, foretold, reach, measured_are)
    return Chart("predicted-measured", caption, alt, draw, table)


def _calibration(foretold: Mapping[str, Foretold]) -> Chart:
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


def _draw_scatter(foretold: Mapping[str, Foretold], reach: float, measured_are: str) -> Figure:
    figure, axes = one_panel(4.0)
    for name, one in foretold.items():
        colour, mark, _ = _STYLES[name]
        axes.errorbar(
            one.prediction.mean,
            one.measured,
            xerr=reach * one.prediction.deviation,
            fmt=mark,
            color=colour,
            markersize=4,
            elinewidth=0.7,
            alpha=0.8,
            label=f"{name}: {one.words}",
        )
    both = np.concatenate([np.concatenate([one.measured, one.prediction.mean]) for one in foretold.values()])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, "--", color=GREY, linewidth=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel(measured_are)
    legend_below(figure)
    return figure


def _draw_calibration(rows: Sequence[Sequence[Cell]]) -> Figure:
    figure, axes = one_panel(3.8)
    for name, (colour, _, line) in _STYLES.items():
        points = [row[1:] for row in rows if row[0] == name]
        if points:
            axes.plot(*zip(*points, strict=True), line, color=colour, label=name)
    axes.plot([0.45, 1], [0.45, 1], "--", color=GREY, linewidth=1, label="as promised")
    axes.set_xlabel("nominal coverage")
    axes.set_ylabel("measured coverage")
    axes.set_ylim(0, 1.03)
    axes.legend(frameon=False, loc="lower right")
    return figure
