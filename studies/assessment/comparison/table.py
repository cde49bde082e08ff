"""A comparison for people: last values, regret on the way, duels, and the limits of few seeds."""

import math

from rich.console import Console

from objectives.held_out import Floats
from studies.assessment.comparison.comparison import Comparison, Duel, least_p, seeds_needed
from studies.terminal import plain_table

LEVEL = 0.05
"""The usual level of significance."""
PARTS = (0.25, 0.5, 0.75, 1.0)
"""Where regret is shown, as parts of the budget."""


def show_comparison(console: Console, comparison: Comparison) -> None:
    known = comparison.best_known
    better = "; higher is better" if comparison.direction == "maximise" else ""
    console.print(
        f"Study {comparison.name}: at most {comparison.budget_forwards} forward-equivalents each (a merge with its "
        f"gradient counts three), {comparison.measure}{better}; "
        "remembered evaluations are charged at what they had cost",
        soft_wrap=True,
    )
    _show_ends(console, comparison)
    console.print(
        f"Regret from the best value known, {comparison.sign * known.value:.5f} (study {known.study}): "
        "median (min to max) after so many forward-equivalents",
        soft_wrap=True,
    )
    _show_way(console, comparison)
    _show_duels(console, comparison)
    if comparison.differing:
        console.print(f"The studies also differ in: {', '.join(comparison.differing)}.", soft_wrap=True)


def _show_ends(console: Console, comparison: Comparison) -> None:
    counts = ("seeds", "merges", "forward-equivalents", "tokens read", "seconds")
    table = plain_table("contender", *counts, "best (median)", "min", "max")
    for one in comparison.contenders:
        merges = max(course.merges for course in one.courses)
        spent = (f"{one.median_spent('tokens'):,.0f}", f"{one.median_spent('seconds'):.1f}")
        spread = comparison.shown(one.spread_at("forwards", comparison.budget_forwards))
        values = (f"{value:.5f}" for value in spread)
        forwards = str(merges * one.forwards_per_merge)
        table.add_row(one.name, str(comparison.seeds), str(merges), forwards, *spent, *values)
    console.print(table)


def _show_way(console: Console, comparison: Comparison) -> None:
    amounts = [round(part * comparison.budget_forwards) for part in PARTS]
    table = plain_table("contender", *(f"after {amount}" for amount in amounts))
    for one in comparison.contenders:
        spreads = (comparison.regret(one.spread_at("forwards", amount)) for amount in amounts)
        table.add_row(one.name, *map(_spread, spreads))
    console.print(table)


def _show_duels(console: Console, comparison: Comparison) -> None:
    if not comparison.duels:
        console.print("One course each: who is ahead may be chance; nothing was tested.")
        return
    console.print("Seeds won - tied - lost by the row against the column; p of Wilcoxon's signed-rank test, two-sided")
    names = [one.name for one in comparison.contenders]
    cells = {(duel.first, duel.second): _cell(duel) for duel in comparison.duels}
    cells |= {(duel.second, duel.first): _cell(duel, turned=True) for duel in comparison.duels}
    table = plain_table("contender", *names)
    for name in names:
        table.add_row(name, *(cells.get((name, other), "") for other in names))
    console.print(table)
    for line in _caveats(comparison):
        console.print(line, soft_wrap=True)


def _caveats(comparison: Comparison) -> list[str]:
    least = least_p(comparison.seeds)
    lines = []
    if least >= LEVEL:
        lines.append(
            f"With {comparison.seeds} seeds p cannot be below {least:.3g} whoever wins: no difference can be shown at "
            f"{LEVEL:g}. That takes --seeds {seeds_needed(LEVEL)} or more."
        )
    if len(comparison.duels) > 1:
        lines.append(f"{len(comparison.duels)} pairs were tested and p is not corrected for that.")
    if any(duel.p_value is None for duel in comparison.duels):
        lines.append("p -: both end alike in every seed of theirs, so more seeds repeat one difference.")
    if any(duel.p_value is not None and not duel.exact for duel in comparison.duels):
        lines.append("p ~: approximated, because equal differences among many seeds cannot be counted.")
    return lines


def _cell(duel: Duel, *, turned: bool = False) -> str:
    won, lost = (duel.losses, duel.wins) if turned else (duel.wins, duel.losses)
    if duel.p_value is None:
        return f"{won}-{duel.ties}-{lost}, p -"
    return f"{won}-{duel.ties}-{lost}, p {'' if duel.exact else '~'}{duel.p_value:.3g}"


def _spread(regret: Floats) -> str:
    middle, low, high = regret
    if not math.isfinite(middle):  # a contender without a merge yet at this amount
        return "-"
    return f"{middle:.2g} ({low:.2g} to {high:.2g})"
