"""The trade-off between targets, or between two held-out domains: the Pareto front."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from objectives.held_out import Floats
from objectives.stand_ins.metric_names import looks_like
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.target import Goal, measures_of
from search.trials import signed
from studies.answers.picture import BLUE, GREY, ORANGE
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Chart, Section, Table, legend_below, one_panel, shown


@dataclass(frozen=True, eq=False)
class Plane:
    """N mixtures, named by `labels`, with figures (N, D) under D `names`; of some more is better."""

    labels: Sequence[str]
    names: Sequence[str]
    figures: Floats
    maximised: Collection[str] = ()

    @property
    def minimised(self) -> Floats:
        """The figures (N, D), those of which more is better negated."""
        turned: Floats = self.figures * np.array([-1.0 if name in self.maximised else 1.0 for name in self.names])
        return turned

    @property
    def front(self) -> npt.NDArray[np.bool_]:
        """Whether a mixture is on the Pareto front (N,): no other is as good in everything and better in something."""
        figures = self.minimised
        no_worse = (figures[:, None] <= figures[None]).all(axis=2)
        better = (figures[:, None] < figures[None]).any(axis=2)
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
            f"[targets.NAME] of {facts.study_file.name} and run: mixscout search {facts.typed}",
        )
    what = "trained models of the table" if facts.on_table and not several else "evaluated mixtures"
    return section("Pareto front" if several else "Trade-off", charts=[_chart(plane, what)])


def _targets(facts: Facts) -> Plane:
    targets = facts.bench.target.targets
    values = np.array([signed([one.sign for one in targets.values()], trial.values) for trial in facts.trials])
    maximised = [name for name, target in targets.items() if target.direction == "maximise"]
    return Plane([f"trial {trial.number}" for trial in facts.trials], list(targets), values, maximised)


def _domains(facts: Facts) -> Plane | None:
    if facts.on_table:
        table = facts.on_table.swarm.table
        metrics = list(dict.fromkeys([*facts.bench.target.domains, *table.metrics]))[:2]
        figures = np.array([table.metrics[name] for name in metrics]).T
        return Plane(table.runs, metrics, figures, _maximised(facts.bench.target, metrics, table))
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


def _maximised(goal: Goal, metrics: Sequence[str], table: SwarmTable) -> list[str]:
    """Name the metrics of which more is better; of one outside the goal, its name and values decide."""
    looks = {name: looks_like(table.columns.get(name, name), table.metrics[name]) for name in metrics}
    return [name for name in metrics if name in goal.maximised or (name not in goal.domains and looks[name] == "score")]


def _chart(plane: Plane, what: str) -> Chart:
    first, second = plane.names[:2]
    ways = [("highest", "higher") if name in plane.maximised else ("lowest", "lower") for name in (first, second)]
    (best, better), (other_best, other_better) = ways
    each = f"{better} is better for {shown(first)}, {other_better} for {shown(second)}"
    of_all = " (the table has all targets)" if len(plane.names) > 2 else ""
    caption = (
        f"{len(plane.figures)} {what} by {shown(first)} and {shown(second)}, "
        f"{f'{better} is better for both' if better == other_better else each}. Squares: the "
        f"{int(plane.front.sum())} that no other one beats{of_all}."
    )
    cells = zip(plane.labels, plane.figures.tolist(), plane.front.tolist(), strict=True)
    rows = [[label, *row, on] for label, row, on in cells]
    table = Table("trade-off", caption, ("mixture", *plane.names, "on the front"), rows)
    ends = [plane.figures[row, at] for at, row in enumerate(plane.minimised[:, :2].argmin(axis=0))]
    alt = f"Scatter; the {best} {shown(first)} is {ends[0]:.4f}, the {other_best} {shown(second)} {ends[1]:.4f}"
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
