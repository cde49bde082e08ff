"""What the best mixture costs: domain by domain, and in trade-offs between targets or held-out domains."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from objectives.held_out import Floats
from objectives.stand_ins.metric_names import looks_like
from objectives.stand_ins.swarm_table import SwarmTable
from objectives.target import Goal, measures_of
from pool.mixture import Mixture
from search.trials import signed
from studies.answers.confirm import trained_loss
from studies.answers.picture import BETTER, GREY, INK
from studies.answers.score import paired_by_domain
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import ROBUSTNESS
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import (
    Advantage,
    Cell,
    Chart,
    Section,
    Table,
    draw_lead,
    legend_below,
    new_figure,
    shown,
    without_frame,
)
from studies.outcome.report.sections.standings import MERGED, PREDICTED, SEED, TRAINED
from studies.outcome.report.sections.verdict import MARKS

COMPARED = ("uniform", SEED)
"""Baselines of the picture by domain."""
MOST_PANELS = 12


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


@dataclass(frozen=True)
class AtDomain:
    """The leads of the best mixture in one held-out domain, which the study's `goal` may use."""

    domain: str
    goal: bool
    leads: Sequence[Advantage]


def elsewhere_section(facts: Facts) -> Section:
    """Show by how much the best mixture is better or worse in every domain, the worst named."""
    section, best = partial(Section, "elsewhere", "What it costs elsewhere"), facts.best
    if best is None:
        return section(missing=facts.search_first)
    if facts.on_pool is None:
        found, others = list(_predicted(facts)), None
        notes = ["Predicted, metric by metric; a metric outside the goal is in the table's trained runs alone."]
    else:
        record = facts.study.user_attrs.get(ROBUSTNESS)
        others = record if record and record["mixture"] == best.as_dict() else None
        found = [*_in_goal(facts.on_pool, best), *(_outside(others["by_domain"]) if others else ())]
        unknown = "Domains outside the goal were not compared yet."
        notes = [] if others else [f"{unknown} Run: mixscout robustness {facts.typed}"]
    if not found:
        return section(missing=f"The domains were not compared yet. Run: mixscout best {facts.typed}")
    conditions = [_conditions(others["by_condition"])] if others else []
    commands = [f"mixscout robustness {facts.typed}"] if others else []
    charts = [_domains_chart(facts, found)]
    return section(notes=[*_worst(found, facts.lead_unit), *notes], charts=charts, tables=conditions, commands=commands)


def _in_goal(bench: Workbench, best: Mixture) -> Iterator[AtDomain]:
    """Compare in the goal's domains, by the models really trained where there are any."""
    uniform, trained = Mixture.uniform(best.names), trained_loss(bench)
    is_trained = all(trained.recall(one) is not None for one in (best, uniform))
    what, objective = (TRAINED, trained) if is_trained else (MERGED["test"], bench.losses["test"])
    mine, other = objective.recall(best), objective.recall(uniform)
    if mine is None or mine.windows is None:
        return
    nats: dict[str, Mapping[str, Floats]] = {"uniform": other.windows} if other and other.windows else {}
    table, goal = bench.table("test"), bench.goals["test"]
    seed = bench.proxy.known_seed_nats(table, "test", bench.database.evaluations)
    if seed is not None:
        nats[SEED] = table.by_domain(seed)
    windows = bench.proxy.pool.corpus.held_out["test"]
    paired = {name: paired_by_domain(windows, goal.measure, one, mine.windows) for name, one in nats.items()}
    for domain in goal.domains if paired else ():
        yield AtDomain(domain, True, [Advantage.of(name, what, one[domain]) for name, one in paired.items()])


def _outside(by_domain: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Iterator[AtDomain]:
    for domain, behind in by_domain.items():
        kept = {SEED if name == "seed" else name: one for name, one in behind.items()}
        leads = [Advantage.of_record(name, MERGED["test"], kept[name]) for name in COMPARED if name in kept]
        yield AtDomain(domain, False, leads)


def _predicted(facts: Facts) -> Iterator[AtDomain]:
    """Compare the predictions of a table's metrics."""
    answer = facts.swarm_best
    assert answer is not None, "there is a best mixture"
    for name, mine in answer.best.metrics.items():
        other = answer.baselines["uniform"].metrics[name].predicted
        sign = -1.0 if name in answer.goal.maximised else 1.0
        better = sign * (other.value - mine.predicted.value)
        half = float(np.hypot(mine.predicted.high - mine.predicted.low, other.high - other.low)) / 2
        yield AtDomain(name, True, [Advantage("uniform", PREDICTED, better, better - half, better + half)])


def _worst(found: Sequence[AtDomain], unit: str) -> list[str]:
    """Name the domain where the best mixture is worst beside uniform, and count the others."""
    leads = {one.domain: lead for one in found for lead in one.leads if lead.baseline == "uniform"}
    if not leads:
        return []
    worst = min(leads, key=lambda name: leads[name].better)
    sides = [lead.side for lead in leads.values()]
    amount = f"{leads[worst].in_words} {unit}".rstrip()
    word = {"better": f"even there {amount} better", "worse": f"{amount} worse", "unclear": f"{amount}: cannot be told"}
    return [
        f"Beside uniform, the best mixture is better in {sides.count('better')} of {len(sides)} domains, worse in "
        f"{sides.count('worse')}. Its worst domain is {shown(worst)}: {word[leads[worst].side]}."
    ]


def _conditions(by_condition: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    """Show how the leads hold on other text."""
    leads = [
        Advantage.of_record(shown(name), kind, one)
        for kind, behind in by_condition.items()
        for name, one in behind.items()
    ]
    rows: list[list[Cell]] = [
        [shown(one.measured_on), one.better, one.baseline, one.side, one.low, one.high] for one in leads
    ]
    columns = ("text", "better by", "baseline", "verdict", "low", "high")
    return Table("robustness", "Do the leads hold on noisy text and other case? Bits per byte", columns, rows)


def _domains_chart(facts: Facts, found: Sequence[AtDomain]) -> Chart:
    rows: list[list[Cell]] = [
        [shown(one.domain), lead.better, lead.baseline, lead.side, lead.low, lead.high, one.goal, lead.measured_on]
        for one in found
        for lead in one.leads
    ]
    columns = ("domain", "better by", "baseline", "verdict", "low", "high", "in the goal", "measured on")
    unit = f", {facts.lead_unit}" if facts.lead_unit else ""
    alt = "; ".join(f"{row[0]}: {row[1]:+.3f} beside {row[2]}" for row in rows)
    caption = (
        "By how much the best mixture is better, held-out domain by domain; a star: a domain of the goal. Blue: "
        "better beyond chance; orange: worse; grey: cannot be told."
    )
    table = Table("elsewhere", f"Paired differences by domain{unit}", columns, rows)
    return Chart("elsewhere", caption, alt, partial(_draw_domains, facts.lead_unit, found), table)


def _draw_domains(unit: str, found: Sequence[AtDomain]) -> Figure:
    baselines = [name for name in COMPARED if any(lead.baseline == name for one in found for lead in one.leads)]
    figure = new_figure(1.5 + 0.27 * len(found))
    panels = figure.subplots(1, len(baselines), squeeze=False, sharey=True)[0]
    for axes, baseline in zip(panels, baselines, strict=True):
        for place, one in enumerate(found):
            for lead in one.leads:
                if lead.baseline == baseline:
                    draw_lead(axes, lead, place, MARKS[lead.measured_on])
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_title(f"than {'the ' if baseline == SEED else ''}{baseline}", loc="left", fontsize=9.5)
        axes.set_xlabel(unit or "better by")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        without_frame(axes)
    panels[0].set_yticks(range(len(found)), [f"{shown(one.domain)}{' *' if one.goal else ''}" for one in found])
    panels[0].invert_yaxis()
    for what in dict.fromkeys(lead.measured_on for one in found for lead in one.leads):
        panels[0].plot([], [], MARKS[what], color=INK, markersize=5, label=what)
    legend_below(figure, columns=1)
    return figure


def trade_off_section(facts: Facts) -> Section:
    """Show the front of the targets, or of the domains scored together, the one of largest weight first."""
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
        metrics = list(dict.fromkeys([*facts.bench.target.domains, *table.metrics]))
        figures = np.array([table.metrics[name] for name in metrics]).T
        return Plane(table.runs, metrics, figures, _maximised(facts.bench.target, metrics, table))
    assert facts.on_pool is not None
    bench = facts.on_pool
    known = {one.mixture.digest: one for one in bench.database.evaluations.all_of(bench.losses["search"].digest)}
    domains = sorted(bench.target.domains, key=lambda name: -bench.config.target.weights.get(name, 0.0))
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
    first, others = plane.names[0], plane.names[1 : MOST_PANELS + 1]
    higher = [shown(name) for name in plane.names if name in plane.maximised]
    better = f"higher is better for {', '.join(higher)}, else lower" if higher else "lower is better everywhere"
    hidden = len(plane.names) - 1 - len(others)
    more = f" {hidden} more are in the table." if hidden else ""
    front = int(plane.front.sum())
    caption = (
        f"{len(plane.figures)} {what} by {shown(first)} (across) and each of the others (up); {better}. Blue squares: "
        f"the {front} that no other one beats in all {len(plane.names)} together; nothing is between points.{more}"
    )
    cells = zip(plane.labels, plane.figures.tolist(), plane.front.tolist(), strict=True)
    rows = [[label, on, *row] for label, row, on in cells]
    table = Table("trade-off", caption, ("mixture", "on the front", *plane.names), rows)
    ends = [plane.figures[row, at] for at, row in enumerate(plane.minimised.argmin(axis=0))]
    alt = "Scatter; best values: " + ", ".join(
        f"{shown(name)} {end:.4f}" for name, end in zip(plane.names, ends, strict=True)
    )
    return Chart("trade-off", caption, alt, partial(_draw, plane, others), table)


def _draw(plane: Plane, others: Sequence[str]) -> Figure:
    rows = -(-len(others) // 2)
    figure = new_figure(4.0 if len(others) == 1 else 0.8 + 2.1 * rows)
    panels = figure.subplots(rows, min(2, len(others)), squeeze=False, sharex=True).ravel()
    for axes, name in zip(panels, others, strict=False):
        _draw_pair(axes, plane, plane.names.index(name))
    for axes in panels[len(others) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(others) - 2) : len(others)]:
        axes.set_xlabel(shown(plane.names[0]))
        axes.tick_params(labelbottom=True)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", ncols=2, frameon=False)
    return figure


def _draw_pair(axes: Axes, plane: Plane, at: int) -> None:
    on = plane.front
    axes.plot(*plane.figures[~on][:, [0, at]].T, "o", color=GREY, markersize=4, alpha=0.7, label="beaten by another")
    axes.plot(*plane.figures[on][:, [0, at]].T, "s", color=BETTER, markersize=5, label="on the front")
    axes.set_title(shown(plane.names[at]), loc="left", fontsize=9.5)
    without_frame(axes)
