"""The trade-off between targets, or between two held-out domains: the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from objectives.held_out import Floats
from objectives.target import measures_of
from studies.answers.picture import BLUE, GREY, ORANGE
from studies.outcome.report.facts.drawing import legend_below, one_panel, shown
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Chart, Section, Table


@dataclass(frozen=True, eq=False)
class Plane:
    """N mixtures, named by `labels`, with figures (N, D) under D `names`."""

    labels: Sequence[str]
    names: Sequence[str]
    figures: Floats

    @property
    def front(self) -> npt.NDArray[np.bool_]:
        """Whether a mixture is on the Pareto front (N,): no other is as low in everything and lower in something."""
        no_worse = (self.figures[:, None] <= self.figures[None]).all(axis=2)
        better = (self.figures[:, None] < self.figures[None]).any(axis=2)
        beaten: npt.NDArray[np.bool_] = np.any(no_worse & better, axis=0)
        return ~beaten


def trade_off_section(facts: Facts) -> Section:
    """Show the front of the targets, or the two domains of largest weight."""
    several = facts.bench.several
    section = partial(Section, "trade-off")
    if facts.best is None:
        return section("Trade-off", missing=facts.search_first)
    plane = _targets(facts) if several else _domains(facts)
    if plane is None or len(plane.names) < 2:
        return section(
            "Trade-off",
            missing="Fewer than two held-out domains were scored together. Put another one under [target] or "
            f"[targets.NAME] of {facts.study_file.name} and run: mixscout search {facts.study_file.name}",
        )
    what = "trained models of the table" if facts.on_table and not several else "evaluated mixtures"
    return section("Pareto front" if several else "Trade-off", charts=[_chart(plane, what)])


def _targets(facts: Facts) -> Plane:
    names = list(facts.bench.config.targets)
    values = np.array([trial.values for trial in facts.trials])
    return Plane([f"trial {trial.number}" for trial in facts.trials], names, values)


def _domains(facts: Facts) -> Plane | None:
    if facts.on_table:
        table = facts.on_table.swarm.table
        metrics = list(dict.fromkeys([*facts.bench.target.domains, *table.metrics]))[:2]
        return Plane(table.runs, metrics, np.array([table.metrics[name] for name in metrics]).T)
    assert facts.on_pool is not None
    bench = facts.on_pool
    known = {one.mixture.digest: one for one in bench.database.evaluations.all_of(bench.losses["search"].digest)}
    domains = sorted(bench.target.domains, key=lambda name: -bench.config.target.weights.get(name, 0.0))[:2]
    rows, labels = [], []
    for trial, mixture in zip(facts.trials, facts.mixtures, strict=True):
        if mixture.digest in known:
            rows.append(measures_of(known[mixture.digest].domains, domains, bench.target.measure))
            labels.append(f"trial {trial.number}")
    return Plane(labels, domains, np.array(rows)) if rows else None


def _chart(plane: Plane, what: str) -> Chart:
    first, second = plane.names[:2]
    of_all = " (the table has all targets)" if len(plane.names) > 2 else ""
    caption = (
        f"{len(plane.figures)} {what} by {shown(first)} and {shown(second)}, lower is better for both. Squares: the "
        f"{int(plane.front.sum())} that no other one beats{of_all}."
    )
    cells = zip(plane.labels, plane.figures.tolist(), plane.front.tolist(), strict=True)
    rows = [[label, *row, on] for label, row, on in cells]
    table = Table("trade-off", caption, ("mixture", *plane.names, "on the front"), rows)
    lowest = plane.figures[:, :2].min(axis=0)
    alt = f"Scatter; the lowest {shown(first)} is {lowest[0]:.4f}, the lowest {shown(second)} {lowest[1]:.4f}"
    return Chart("trade-off", caption, alt, partial(_draw, plane), table)


def _draw(plane: Plane) -> Figure:
    figure, axes = one_panel(4.0)
    on = plane.front
    axes.plot(*plane.figures[~on, :2].T, "o", color=GREY, markersize=4, alpha=0.7, label="beaten by another")
    front = plane.figures[on, :2]
    front = front[np.argsort(front[:, 0])]
    style = "s--" if len(plane.names) == 2 else "s"
    axes.plot(*front.T, style, color=ORANGE, markersize=6, linewidth=1, label="on the front", markeredgecolor=BLUE)
    axes.set_xlabel(shown(plane.names[0]))
    axes.set_ylabel(shown(plane.names[1]))
    legend_below(figure, columns=2)
    return figure
