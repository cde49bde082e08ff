"""A comparison for people, as tables and a picture: last values, regret on the way, duels, the limits of few seeds."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from rich.console import Console

from objectives.held_out import Floats
from studies.answers.picture import saved
from studies.assessment.comparison.comparison import Comparison, Contender, Duel, least_p, seeds_needed
from studies.assessment.comparison.course import Axis
from studies.terminal import plain_table

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, for colour-blind readers too."""
STYLES = ("-", "--")
LEAST_FLOOR = 1e-6
"""Regret below this is rounding."""
LABELS: dict[Axis | None, str] = {
    None: "merges",
    "forwards": "forward-equivalents",
    "tokens": "held-out tokens read",
    "seconds": "seconds, proposing included",
}


def draw_comparison(comparison: Comparison, path: Path) -> Path:
    """Draw median and range over the seeds from where every seed has a value; return the path."""
    shown = [axis for axis in LABELS if axis is None or _is_spent(comparison, axis)]
    figure = Figure(figsize=(1.6 + 3.5 * len(shown), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    floor = _floor(comparison)
    for axes, axis in zip(panels, shown, strict=True):
        for at, one in enumerate(comparison.contenders):
            _draw(axes, comparison, one, axis, floor, (COLOURS[at % len(COLOURS)], STYLES[at // len(COLOURS) % 2]))
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(LABELS[axis])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"regret from the best known ({comparison.measure})")
    seeds = f"{comparison.seeds} seed{'s' * (comparison.seeds > 1)}"
    figure.suptitle(f"{comparison.name}: median and range of {seeds}; less than {floor:.1g} drawn there")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return saved(figure, path, dpi=110)


def _draw(
    axes: Axes, comparison: Comparison, one: Contender, axis: Axis | None, floor: float, look: tuple[str, str]
) -> None:
    amounts, spreads = _steps(one, axis)
    middle, low, high = np.maximum(comparison.regret(spreads), floor)
    colour, style = look
    axes.step(amounts, middle, where="post", color=colour, linestyle=style, label=one.name)
    axes.plot(amounts[-1:], middle[-1:], ".", color=colour)  # else a fall at the very end looks like the frame
    axes.fill_between(amounts, low, high, step="post", color=colour, alpha=0.15, linewidth=0)


def _steps(one: Contender, axis: Axis | None) -> tuple[Floats, Floats]:
    """Return the amounts spent at changes (N,), and median, least and greatest value there (3, N)."""
    spent = [course.spent(axis or "forwards") for course in one.courses]
    first, last = max(each[0] for each in spent), max(each[-1] for each in spent)
    amounts = np.unique(np.concatenate(spent))
    amounts = amounts[(amounts >= first) & (amounts <= last)]
    spreads = np.array([one.spread_at(axis or "forwards", amount) for amount in amounts]).T
    return (amounts if axis else amounts / one.forwards_per_merge), spreads


def _is_spent(comparison: Comparison, axis: Axis) -> bool:
    """Predictions from a swarm read no held-out text."""
    return any(one.median_spent(axis) > 0 for one in comparison.contenders)


def _floor(comparison: Comparison) -> float:
    ends: Sequence[float] = [value for one in comparison.contenders for value in one.ends]
    above = [regret for regret in comparison.regret(np.array(ends)) if regret > LEAST_FLOOR]
    return max(LEAST_FLOOR, min(above, default=LEAST_FLOOR) / 2)


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
    _show_priors(console, comparison)
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


def _show_priors(console: Console, comparison: Comparison) -> None:
    """Show the mixtures from text alone that all contenders began with, beside the best value known."""
    if not comparison.priors:
        return
    table = plain_table("from text alone", "value", "regret")
    for name, value in comparison.priors.items():
        table.add_row(name, f"{comparison.sign * value:.5f}", f"{value - comparison.best_known.value:.2g}")
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
