"""The pool's members on every held-out domain, and the contributions of their partitions.

Contributions are Shapley values, written by `ablate` or computed from coalitions merged by chance.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from objectives.held_out import Floats, HeldOutLoss
from objectives.losses.merged_loss import ProxySettings
from objectives.target import Goal
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from studies.assessment.ablation.contributions import Game
from studies.assessment.ablation.evidence import DomainEvidence
from studies.assessment.ablation.files import ablation_stem, read_shapley, shapley_figure
from studies.assessment.ablation.shapley import Enumeration
from studies.assessment.pool_check.picture import HeatMap, heat_map_figure
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table, shown

MOST_PARTITIONS = 12
"""Of more, no search merges all 2^K - 1 coalitions by chance."""
Losses = Mapping[str, Mapping[str, HeldOutLoss]]
"""By member, and then by domain."""


@dataclass(frozen=True, eq=False)
class Contributed:
    """Shapley values (K, C) of partitions in C columns, the goal first; `source` names their origin."""

    partitions: Sequence[str]
    columns: Sequence[str]
    values: Floats
    measure: str
    source: str


def transfer_section(facts: Facts) -> Section:
    """Show the loss of every member on every domain, or name the command to score them."""
    section = partial(Section, "transfer", "Members on every held-out domain")
    bench = facts.on_pool
    if bench is None:
        return section(missing="A table has no members: this is for studies on a pool.")
    check = f"Run: mixscout pool check {bench.config.pool.name if bench.config.pool else ''}"
    everywhere = _recalled(bench.proxy.pool.names, _scored_by_pool_check(bench))
    losses = everywhere or _recalled(bench.proxy.pool.names, bench.losses["search"])
    if losses is None:
        return section(missing=f"Not every member was scored yet. {check}")
    notes = [] if everywhere else [f"Only the domains of the target are known, not all. {check}"]
    commands = [check.removeprefix("Run: ")] if everywhere else []
    return section(notes=notes, charts=[_transfer_chart(losses)], commands=commands)


def _scored_by_pool_check(bench: Workbench) -> RememberedObjective:
    scored = [name for name, windows in bench.proxy.pool.corpus.held_out["search"].items() if windows.tokens]
    merged = bench.proxy.loss(Goal.over(scored, "macro"), "search", ProxySettings())
    return RememberedObjective(merged, bench.database.evaluations)


def _recalled(names: Sequence[str], objective: RememberedObjective) -> Losses | None:
    try:
        return {name: objective(Mixture.vertex(names, name)).domains for name in names}
    except NotRememberedError:
        return None


def _transfer_chart(losses: Losses) -> Chart:
    members, domains = list(losses), list(next(iter(losses.values())))
    nats = np.array([[losses[member][domain].loss_nats for domain in domains] for member in members])
    excess = nats - nats.mean(axis=0)
    caption = (
        "Held-out loss of each member (rows) on each domain (columns), nats per token, search split. Blue is better "
        "than the members' mean on a domain, orange is worse."
    )
    best = {domain: members[int(row)] for domain, row in zip(domains, nats.argmin(axis=0), strict=True)}
    alt = "Best member by domain: " + ", ".join(f"{shown(domain)}: {shown(name)}" for domain, name in best.items())
    table = Table("transfer", "Held-out loss in nats per token", ("member", *domains), _named_rows(members, nats))
    picture = HeatMap("", "minus the members' mean", members, domains, excess, nats, ".2f")
    return Chart("transfer", caption, alt, partial(heat_map_figure, picture), table)


def contributions_section(facts: Facts) -> Section:
    """Show every heat map there is, or name the command to make one."""
    section = partial(Section, "contributions", "What each partition contributes")
    bench = facts.on_pool
    if bench is None:
        return section(missing="Contributions are those of merges: this is for studies on a pool.")
    found = _written(bench.root / "reports", bench.config.name, bench.proxy.pool.names)
    games = [name.partition("-")[::2] for name in found]
    commands = [f"mixscout ablate {facts.typed} --game {game} --split {split}" for game, split in games]
    if not found:
        remembered = _from_coalitions(bench)
        found = {"uniform-search": remembered} if remembered else {}
    if not found:
        return section(missing=f"Not every coalition of partitions has been merged. Run: mixscout ablate {facts.typed}")
    charts = [_contributions_chart(f"contributions-{name}", one) for name, one in found.items()]
    return section(charts=charts, commands=commands)


def _written(reports: Path, study: str, partitions: Sequence[str]) -> dict[str, Contributed]:
    """Read the files of `ablate` for a study of the same partitions."""
    found = {}
    for game in ("uniform", "best"):
        for split in ("search", "test"):
            path = reports / f"{ablation_stem(study, game, split)}.csv"
            one = _read(path, f"{game} coalitions, {split} split") if path.exists() else None
            if one and set(one.partitions) == set(partitions):
                found[f"{game}-{split}"] = one
    return found


def _read(path: Path, what: str) -> Contributed | None:
    try:
        partitions, columns, values, measure = read_shapley(path)
    except (ValueError, KeyError, OSError, csv.Error):
        return None  # somebody else's file
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Contributed(partitions, columns, values, measure, f"{what}; written by ablate on {written}")


def _from_coalitions(bench: Workbench) -> Contributed | None:
    """Value all coalitions of the uniform mixture; None unless every merge is remembered."""
    names = bench.proxy.pool.names
    if len(names) > MOST_PARTITIONS:
        return None
    game, design = Game(Mixture.uniform(names)), Enumeration(len(names))
    known = {one.mixture.digest for one in bench.database.evaluations.all_of(bench.losses["search"].digest)}
    models = [game.model(coalition) for coalition in design.coalitions]
    if any(model is not None and model.digest not in known for model in models):
        return None
    evidence = DomainEvidence(bench, "search", everywhere=False)
    values = design.estimate(game.values(design.coalitions, evidence))
    source = "uniform coalitions, search split, all remembered"
    return Contributed(names, ("goal", *evidence.domains), values, evidence.goal.measure, source)


def _contributions_chart(name: str, found: Contributed) -> Chart:
    caption = (
        f"Shapley values ({found.source}): by how much each partition lowers the goal and each domain's loss, averaged "
        "over the orders in which partitions could come. Blue helps, orange harms."
    )
    order = np.argsort(-found.values[:, 0])
    alt = "Contribution to the goal: " + ", ".join(
        f"{shown(found.partitions[row])} {found.values[row, 0]:+.3f}" for row in order
    )
    rows = _named_rows(found.partitions, found.values)
    table = Table(name, f"Shapley values, {found.measure}", ("partition", *found.columns), rows)
    draw = partial(shapley_figure, "", found.partitions, found.columns, found.values, found.measure)
    return Chart(name, caption, alt, draw, table)


def _named_rows(names: Sequence[str], numbers: Floats) -> list[list[Cell]]:
    return [[name, *row] for name, row in zip(names, numbers.tolist(), strict=True)]
