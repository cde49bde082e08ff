"""The best mixture beside the baselines, with intervals of their held-out losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from objectives.evaluation import Evaluation, Objective
from objectives.held_out import CONFIDENT
from objectives.scoring.paired import paired_difference
from pool.corpus.corpus import SPLITS, Split
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from studies.answers.best import baseline_mixtures
from studies.answers.confirm import trained_loss
from studies.answers.goal_predictor import ScalesAnswer
from studies.answers.picture import BLUE, GREEN, ORANGE, draw_weights
from studies.answers.score import Score, score_of
from studies.answers.swarm_best import SwarmBest
from studies.answers.tables import next_run_in_words
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.opened.opened_study import REFINED
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table, legend_below, one_panel, shown

BEST = "best mixture"
BY_TRAININGS = "The best mixture is that of mixscout refine, by trainings and merges together."
MARKS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Figures:
    """A value with its 95 % interval (on a swarm 90 %), and its distance behind the best mixture in words."""

    value: float
    low: float
    high: float
    behind: str = ""


Standings = Mapping[str, Mapping[str, Figures]]
"""By the measured quantity, and then by contender."""


def best_section(facts: Facts) -> Section:
    """Show weights and standings."""
    section, best = partial(Section, "best", "Best mixture"), facts.best
    if best is None:
        return section(missing=facts.search_first)
    scales = facts.swarm_best.scales if facts.swarm_best else None
    if facts.swarm_best:
        standings = of_table(facts.swarm_best)
        said = "Predicted from the table of models already trained. What was trained is predicted from the others."
        notes = [*facts.doubts, said, *([next_run_in_words(scales)] if scales else [])]
    else:
        assert facts.on_pool is not None
        standings = of_pool(facts.on_pool, best)
        refined = [BY_TRAININGS] if REFINED in facts.study.user_attrs else []
        notes = [*refined, *_notes(standings, facts.typed)]
    table = _table(facts.unit, standings)
    return section(
        notes=notes,
        tables=[table, *(_of_scales(scales) if scales else [])],
        charts=[_weights_chart(facts.study.study_name, best), _standings_chart(facts, standings, table)],
    )


def of_pool(bench: Workbench, best: Mixture) -> Standings:
    """Recall the losses of the best mixture and the baselines, as far as they were evaluated."""
    contenders = {BEST: best, **_baselines(bench)}
    sources: Mapping[str, tuple[Objective, Split]] = {
        "search split, merged": (bench.losses["search"], "search"),
        "test split, merged": (bench.losses["test"], "test"),
        "test split, really trained": (trained_loss(bench), "test"),
    }
    found = {what: _recalled(bench, contenders, *source) for what, source in sources.items()}
    if bench.config.downstream:
        found = {"downstream error": _errors(bench, contenders), **found}
    return {what: figures for what, figures in found.items() if figures}


def of_table(answer: SwarmBest) -> Standings:
    """Give the predictions of the best mixture and the baselines from the swarm."""
    standings = {BEST: answer.best, "uniform": answer.baselines["uniform"]}
    standings[f"best run ({answer.best_run})"] = answer.baselines["best_run"]
    intervals = {name: one.value.predicted for name, one in standings.items()}
    predicted = {name: Figures(one.value, one.low, one.high) for name, one in intervals.items()}
    measured = {
        name: Figures(one.value.measured, math.nan, math.nan)
        for name, one in standings.items()
        if one.value.measured is not None
    }
    return {"predicted, 90 %": predicted, **({"measured": measured} if measured else {})}


def _of_scales(found: ScalesAnswer) -> list[Table]:
    """Make the tables of what every scale tells of the target."""
    runs = f"the {found.runs} runs at {found.target}, each predicted from the others and from one scale"
    judged = [(name, one.runs, one.out_of_fold) for name, one in found.scales.items()]
    figures: list[list[Cell]] = [[name, count, one.spearman, one.rmse, one.inside] for name, count, one in judged]
    agreements: list[list[Cell]] = [
        [" and ".join(one.scales), one.shared, *(getattr(one.spearman, end) for end in ("value", "low", "high"))]
        for one in found.agreements
    ]
    columns = ("scale", "runs", "Spearman", "RMSE", "inside the 90 % interval")
    return [
        Table("scales", f"What the scales tell: {runs}. {found.source} predicts.", columns, figures),
        Table(
            "agreement_of_scales",
            "Rank correlation of scales over the mixtures trained at both, with 95 % intervals from eight on",
            ("scales", "mixtures", "Spearman", "low", "high"),
            agreements,
        ),
    ]


def known_baselines(bench: Workbench) -> dict[str, float]:
    """Return the remembered values of the baselines by name, in the study's own objective."""
    return {name: one.value for name, one in _known(_baselines(bench), bench.objective).items()}


def _baselines(bench: Workbench) -> dict[str, Mixture]:
    names = bench.proxy.pool.names
    try:
        return baseline_mixtures(bench.proxy.pool, bench.losses["search"])
    except NotRememberedError:  # the best member is known once all of them were scored
        return {"uniform": Mixture.uniform(names), "proportional": bench.proxy.pool.proportional()}


def _recalled(
    bench: Workbench, contenders: Mapping[str, Mixture], objective: Objective, split: Split
) -> dict[str, Figures]:
    scores = {name: score_of(bench, one, split) for name, one in _known(contenders, objective).items()}
    best = scores.get(BEST)
    return {name: _figures(score, best if name != BEST else None) for name, score in scores.items()}


def _errors(bench: Workbench, contenders: Mapping[str, Mixture]) -> dict[str, Figures]:
    known = _known(contenders, bench.objective)
    return {name: _around(one.value, one.standard_error) for name, one in known.items()}


def _known(contenders: Mapping[str, Mixture], objective: Objective) -> dict[str, Evaluation]:
    assert isinstance(objective, RememberedObjective)
    found = {name: objective.recall(mixture) for name, mixture in contenders.items()}
    return {name: one for name, one in found.items() if one is not None}


def _figures(score: Score, best: Score | None) -> Figures:
    behind = str(paired_difference(score.goal, score.table, score.nats, best.nats)) if best else ""
    return _around(score.value, score.goal.standard_error(score.domains), behind)


def _around(value: float, error: float, behind: str = "") -> Figures:
    half = CONFIDENT * error if math.isfinite(error) else math.nan
    return Figures(value, value - half, value + half, behind)


def _table(unit: str, standings: Standings) -> Table:
    rows: list[list[Cell]] = [
        [shown(name), what, one.value, one.low, one.high, one.behind]
        for what, contenders in standings.items()
        for name, one in contenders.items()
    ]
    columns = ("mixture", "measured on", unit, "low", "high", "behind the best mixture")
    return Table("standings", "Best mixture and baselines, with intervals", columns, rows)


def _weights_chart(study: str, best: Mixture) -> Chart:
    weights = sorted(best.as_dict().items(), key=lambda item: -item[1])
    table = Table("best-mixture", "Weights of the best mixture", ("partition", "weight"), weights)
    alt = "Bars: " + ", ".join(f"{shown(name)} {weight:.1%}" for name, weight in weights if weight > 0)
    caption = f"Weights of the best mixture of study {study}"
    return Chart("best-mixture", caption, alt, partial(_draw_weights, best), table)


def _standings_chart(facts: Facts, standings: Standings, table: Table) -> Chart:
    alt = "; ".join(f"{row[0]}, {row[1]}: {row[2]:.4f}" for row in table.rows)
    better = "higher" if facts.bench.target.direction == "maximise" else "lower"
    caption = f"The same as points with their intervals; {better} is better."
    return Chart("standings", caption, alt, partial(_draw_standings, facts.unit, standings), table)


def _draw_weights(best: Mixture) -> Figure:
    figure, axes = one_panel(1.1 + 0.3 * len(best.names))
    draw_weights(axes, best)
    return figure


def _draw_standings(unit: str, standings: Standings) -> Figure:
    names = list(dict.fromkeys(name for contenders in standings.values() for name in contenders))
    figure, axes = one_panel(1.3 + 0.45 * len(names))
    for at, (what, contenders) in enumerate(standings.items()):
        places = [names.index(name) + 0.17 * (at - (len(standings) - 1) / 2) for name in contenders]
        figures = list(contenders.values())
        halves = [one.high - one.value if math.isfinite(one.high) else 0.0 for one in figures]
        values = [one.value for one in figures]
        colour = (BLUE, ORANGE, GREEN, "#000000")[at]
        axes.errorbar(values, places, xerr=halves, fmt=MARKS[at], color=colour, capsize=3, markersize=5, label=what)
    axes.set_yticks(range(len(names)), [shown(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    legend_below(figure, columns=2)
    return figure


def _notes(standings: Standings, file: str) -> list[str]:
    said = [
        "Intervals are 95 %, over documents. They are wide because documents differ; what a mixture is behind the best "
        "one is compared on the same documents, and is much surer."
    ]
    whole = all(len(standings.get(f"{split} split, merged", {})) == 4 for split in SPLITS)
    if not whole:
        said.append(f"Not everything was scored on both splits yet. Run: mixscout best {file}")
    if BEST not in standings.get("test split, really trained", {}):
        said.append(f"The best mixture was not confirmed yet. Run: mixscout confirm {file}")
    return said
