"""The check of a pool for people: members, pairs, barriers, and the verdict last."""

import math

from rich.console import Console
from rich.table import Table

from studies.assessment.pool_check.found import PoolCheck
from studies.assessment.pool_check.verdict import PoolVerdict

MOST_PAIRS = 30
"""Pairs shown, those of the highest barriers first; all of them are in the JSON and in the pictures."""


def show_pool_check(console: Console, check: PoolCheck, verdict: PoolVerdict) -> None:
    """Show what was measured and what follows from it."""
    count = len(check.domains)
    console.print(f"Pool {check.pool}: loss in nats per token, {check.split} split, mean of {count} domains")
    _show_members(console, check)
    if check.pairs:
        _show_pairs(console, check)
    console.print(verdict.words)
    for reason in verdict.reasons:
        console.print(f"- {reason}")


def _show_members(console: Console, check: PoolCheck) -> None:
    table = _table(
        "model",
        "mean loss",
        "own domain",
        "than the seed",
        "seed text",
        "task vector",
        "of the seed",
        "barrier to mean",
    )
    for row, name in enumerate(check.names):
        losses, domain = check.members[name], check.own_domains.get(name, "")
        own = losses.by_domain.get(domain, math.nan)
        table.add_row(
            name,
            _number(losses.mean, ".4f"),
            _number(own, ".4f"),
            _number(own - check.seed.by_domain.get(domain, math.nan), "+.4f"),
            _number(math.nan if (rise := check.forgotten_nats[name]) is None else rise, "+.4f"),
            f"{check.vectors.norms[row]:#.4g}",
            f"{check.vectors.relative_norms[row]:#.3g}",
            _number(check.barriers_to_mean.get(name, math.nan), "+.4f"),
        )
    table.add_section()
    table.add_row("(seed)", _number(check.seed.mean, ".4f"), "", "", "", f"{check.vectors.seed_norm:.3f}", "1.000", "")
    table.add_row("(uniform merge)", _number(check.uniform.mean, ".4f"), "", "", "", "", "", "")
    console.print(table)


def _show_pairs(console: Console, check: PoolCheck) -> None:
    cosines = check.of_pairs(check.vectors.cosines)
    conflicts = check.of_pairs(check.vectors.sign_conflicts)
    ranked = sorted(check.pairs, key=lambda pair: (-check.barriers.get(pair, -math.inf), cosines[pair]))
    left_out = len(ranked) - MOST_PAIRS
    shown = f", the {MOST_PAIRS} highest barriers of {len(ranked)}" if left_out > 0 else ""
    line = "half-way" if check.points == 1 else f"over {check.points} points of the line"
    console.print(f"Pairs of members{shown} (barrier: {line}, negative is good)")
    table = _table("pair", "cosine", "sign conflicts", "barrier, nats")
    for pair in ranked[:MOST_PAIRS]:
        barrier = _number(check.barriers.get(pair, math.nan), "+.4f")
        table.add_row(
            " / ".join(pair), _number(cosines[pair], "+.3f"), _number(100 * conflicts[pair], ".1f", " %"), barrier
        )
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table()
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left")
    return table


def _number(value: float, form: str, unit: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"
