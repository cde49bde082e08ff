"""What the benchmarks on formulas found, for people: regret against merges, and what the gate does."""

import math
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from studies.benchmarks.strategies import gate, proposals, regret
from studies.benchmarks.surrogates import landscape


def show_regret(console: Console, results: Sequence[regret.RegretResult]) -> None:
    """Show for every case and strategy when 1 % regret was reached, and the regret at the end."""
    console.print("Forward-equivalents to 1 % of the uniform mixture's regret, and regret at the end in percent")
    table = _table("case", "strategy", "merges", "to 1 % (median)", "reached", "regret %", "min", "max")
    for one in results:
        reached = f"{one.reached}/{len(one.courses)}"
        ends = (f"{percent:.2f}" for percent in one.final_percent)
        table.add_row(one.case.name, one.entry.strategy, str(one.entry.merges), _needed(one), reached, *ends)
    console.print(table)
    _show_shares(console, results)


def show_gate(console: Console, results: Sequence[gate.GateResult]) -> None:
    """Show for every case and strategy what the gate gains, and whether its promises are kept."""
    console.print(
        "With the gate against without: merges to the ungated search's end, gain at equal merges (percent of "
        "the uniform mixture's regret), and how often its 90 % intervals hold"
    )
    headings = ("to the ungated end", "gained", "min", "max", "false prunes", "coverage")
    table = _table("case", "strategy", "merges", *headings)
    for one in results:
        gained = (f"{percent:+.2f}" for percent in one.gained_percent)
        rates = (_share(one.false_prune_rate), _share(one.coverage))
        row = (one.case.name, one.entry.strategy, str(one.entry.merges), f"{one.merges_to_ungated:g}")
        table.add_row(*row, *gained, *rates)
    console.print(table)


def show_proposals(console: Console, costs: Sequence[proposals.ProposalCost]) -> None:
    """Show what a proposal costs, by strategy."""
    one = costs[0]
    console.print(f"Processor seconds a proposal, {one.partitions} partitions, {one.trials} trials before it")
    table = _table("strategy", "median", "min", "max", "first")
    for cost in costs:
        figures = (cost.seconds.median, cost.seconds.min, cost.seconds.max, cost.first_seconds)
        table.add_row(cost.strategy, *(f"{figure:.3f}" for figure in figures))
    console.print(table)


def show_landscape(console: Console, fits: Sequence[landscape.Fit]) -> None:
    """Show Spearman and RMSE of every fit."""
    one = fits[0]
    console.print(f"Predictions of {one.unseen} unseen merges, whose values spread by {one.spread:.4f}")
    table = _table("surrogate", "from", "merges", "Spearman", "RMSE", "90 % intervals hold")
    for fit in fits:
        source = "values and gradients" if fit.gradients else "values"
        figures = (f"{fit.spearman:.4f}", f"{fit.rmse:.4f}", f"{fit.coverage:.0%}")
        table.add_row(fit.surrogate, source, str(fit.evaluations), *figures)
    console.print(table)


def _show_shares(console: Console, results: Sequence[regret.RegretResult]) -> None:
    shares = regret.shares_of(results, "auto", "tpe")
    if shares:
        console.print(
            f"auto needs at most {max(shares.values()):.2f} of the forward-equivalents of tpe "
            f"({median(shares.values()):.2f} in the median case); where tpe did not get there, its budget counts"
        )


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("case", "strategy", "surrogate", "from") else "right")
    return table


def _needed(one: regret.RegretResult) -> str:
    needed = one.forwards_to_one_percent
    return f"{needed:g}" if math.isfinite(needed) else f"> {one.courses[0].forwards[-1]}"


def _share(share: float) -> str:
    return "none" if math.isnan(share) else f"{share:.1%}"
