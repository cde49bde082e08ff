"""What each partition contributes, by Shapley values: as `ablate` wrote them, or from coalitions merged by chance."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from objectives.held_out import Floats
from pool.mixture import Mixture
from studies.assessment.ablation.csv_file import ablation_stem, read_shapley
from studies.assessment.ablation.evidence import DomainEvidence
from studies.assessment.ablation.heat_map import shapley_figure
from studies.assessment.ablation.shapley import Enumeration, Game
from studies.opened.on_pool import Workbench
from studies.outcome.report.facts.drawing import shown
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table

KEY, TITLE = "contributions", "What each partition contributes"
MOST_PARTITIONS = 12
"""With more, no study has merged all 2^K - 1 coalitions by chance."""


@dataclass(frozen=True, eq=False)
class Contributed:
    """Shapley values (K, C) of partitions in C columns, the goal first; `source` says where they are from."""

    partitions: Sequence[str]
    columns: Sequence[str]
    values: Floats
    measure: str
    source: str


def contributions_section(facts: Facts) -> Section:
    """Show every heat map there is, or which command makes one."""
    bench = facts.on_pool
    if bench is None:
        return Section(KEY, TITLE, missing="Contributions are those of merges: this is for studies on a pool.")
    found = _written(bench)
    if not found:
        remembered = _from_coalitions(bench)
        found = {"uniform-search": remembered} if remembered else {}
    if not found:
        missing = f"Not every coalition of partitions has been merged. Run: mixscout ablate {facts.study_file.name}"
        return Section(KEY, TITLE, missing=missing)
    return Section(KEY, TITLE, charts=[_chart(name, one) for name, one in found.items()])


def _written(bench: Workbench) -> dict[str, Contributed]:
    """Read what `ablate` wrote for this study, where it is of the same partitions."""
    found = {}
    for game in ("uniform", "best"):
        for split in ("search", "test"):
            path = bench.root / "reports" / f"{ablation_stem(bench.config.name, game, split)}.csv"
            one = _read(path, f"{game} coalitions, {split} split") if path.exists() else None
            if one and set(one.partitions) == set(bench.pool.names):
                found[f"{game}-{split}"] = one
    return found


def _read(path: Path, what: str) -> Contributed | None:
    try:
        partitions, columns, values, measure = read_shapley(path)
    except (ValueError, KeyError, OSError, csv.Error):
        return None  # not what `ablate` writes
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Contributed(partitions, columns, values, measure, f"{what}; written by ablate on {written}")


def _from_coalitions(bench: Workbench) -> Contributed | None:
    """Value all coalitions of the uniform mixture from remembered merges; None where one is missing."""
    names = bench.pool.names
    if len(names) > MOST_PARTITIONS:
        return None
    game, design = Game(Mixture.uniform(names)), Enumeration(len(names))
    known = {one.mixture.digest for one in bench.database.evaluations.all_of(bench.losses["search"].digest)}
    models = [game.model(coalition) for coalition in design.coalitions]
    if any(model is not None and model.digest not in known for model in models):
        return None
    evidence = DomainEvidence(bench, "search", everywhere=False)
    values = design.estimate(game.values(design.coalitions, evidence))
    columns = ("goal", *evidence.domains)
    return Contributed(
        names, columns, values, evidence.goal.measure, "uniform coalitions, search split, all remembered"
    )


def _chart(name: str, found: Contributed) -> Chart:
    caption = (
        f"Shapley values ({found.source}): by how much each partition lowers the goal and each domain's loss, averaged "
        "over the orders in which partitions could come. Blue helps, red harms."
    )
    order = np.argsort(-found.values[:, 0])
    alt = "Contribution to the goal: " + ", ".join(
        f"{shown(found.partitions[row])} {found.values[row, 0]:+.3f}" for row in order
    )
    rows: list[list[Cell]] = [
        [partition, *row] for partition, row in zip(found.partitions, found.values.tolist(), strict=True)
    ]
    table = Table(f"contributions-{name}", f"Shapley values, {found.measure}", ("partition", *found.columns), rows)
    draw = partial(shapley_figure, "", found.partitions, found.columns, found.values, found.measure)
    return Chart(f"contributions-{name}", caption, alt, draw, table)
