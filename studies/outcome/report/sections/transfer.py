"""What each member learnt: its loss on every held-out domain, as far as that is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from objectives.held_out import HeldOutLoss
from objectives.losses.merged_loss import MergedLoss
from objectives.target import Goal
from pool.errors import NotRememberedError
from pool.mixture import Mixture
from studies.assessment.pool_check.picture import HeatMap, heat_map_figure
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench
from studies.outcome.report.facts.drawing import shown
from studies.outcome.report.facts.facts import Facts
from studies.outcome.report.facts.section import Cell, Chart, Section, Table

KEY, TITLE = "transfer", "Members on every held-out domain"
Losses = Mapping[str, Mapping[str, HeldOutLoss]]
"""By member, and then by domain."""


def transfer_section(facts: Facts) -> Section:
    """Show members by domains, or which command scores them."""
    bench = facts.on_pool
    if bench is None:
        return Section(KEY, TITLE, missing="A table has no members: this is for studies on a pool.")
    check = f"Run: mixscout pool check {bench.config.pool.name if bench.config.pool else ''}"
    everywhere, here = _everywhere(bench), _on_goal(bench)
    losses = everywhere or here
    if losses is None:
        return Section(KEY, TITLE, missing=f"Not every member was scored yet. {check}")
    notes = [] if everywhere else [f"Only the domains of the target are known, not all. {check}"]
    return Section(KEY, TITLE, notes=notes, charts=[_chart(bench, losses)])


def _everywhere(bench: Workbench) -> Losses | None:
    """Recall what `pool check` scored, of all domains that have something to score."""
    scored = [name for name, windows in bench.pool.corpus.held_out["search"].items() if windows.tokens]
    merged = MergedLoss(bench.pool, bench.stacked, Goal.over(scored, "macro"), "search")
    return _recalled(bench, RememberedObjective(merged, bench.database.evaluations))


def _on_goal(bench: Workbench) -> Losses | None:
    return _recalled(bench, bench.losses["search"])


def _recalled(bench: Workbench, objective: RememberedObjective) -> Losses | None:
    names = bench.pool.names
    try:
        return {name: objective(Mixture.vertex(names, name)).domains for name in names}
    except NotRememberedError:
        return None


def _chart(bench: Workbench, losses: Losses) -> Chart:
    members, domains = list(losses), list(next(iter(losses.values())))
    nats = np.array([[losses[member][domain].loss_nats for domain in domains] for member in members])
    excess = nats - nats.mean(axis=0)
    caption = (
        "Held-out loss of each member (rows) on each domain (columns), nats per token, search split. Blue is better "
        "than the members' mean on a domain, red is worse."
    )
    best = {domain: members[int(row)] for domain, row in zip(domains, nats.argmin(axis=0), strict=True)}
    alt = "Best member by domain: " + ", ".join(f"{shown(domain)}: {shown(name)}" for domain, name in best.items())
    rows: list[list[Cell]] = [[member, *row] for member, row in zip(members, nats.tolist(), strict=True)]
    table = Table("transfer", "Held-out loss in nats per token", ("member", *domains), rows)
    picture = HeatMap("", "less the members' mean", members, domains, excess, nats, ".2f")
    return Chart("transfer", caption, alt, partial(heat_map_figure, picture), table)
