"""Results of the benchmarks on formulas for people: tables, and the picture of `bench search`."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from studies.answers.picture import saved
from studies.assessment.comparison.table import COLOURS, STYLES
from studies.benchmarks.strategies import gate, proposals, regret, truths
from studies.benchmarks.surrogates import Fit
from studies.terminal import plain_table

FLOOR_PERCENT = 0.01
"""End of the axis; lower regrets are drawn there."""


def show_regret(console: Console, results: Sequence[regret.RegretResult]) -> None:
    console.print("Forward-equivalents to 1 % of the uniform mixture's regret, and regret at the end in percent")
    table = plain_table("case", "strategy", "merges", "to 1 % (median)", "reached", "regret %", "min", "max", left=2)
    for one in results:
        reached = f"{one.reached}/{len(one.courses)}"
        ends = (f"{percent:.2f}" for percent in one.final_percent)
        table.add_row(one.case.name, one.entry.strategy, str(one.entry.merges), _needed(one), reached, *ends)
    console.print(table)
    _show_shares(console, results)


def show_gate(console: Console, results: Sequence[gate.GateResult]) -> None:
    console.print(
        "With the gate against without: merges to the ungated search's end, gain at equal merges (percent of "
        "the uniform mixture's regret), and how often its 90 % intervals hold"
    )
    headings = ("to the ungated end", "gained", "min", "max", "false prunes", "coverage")
    table = plain_table("case", "strategy", "merges", *headings, left=2)
    for one in results:
        gained = (f"{percent:+.2f}" for percent in one.gained_percent)
        rates = (_share(one.false_prune_rate), _share(one.coverage))
        row = (one.case.name, one.entry.strategy, str(one.entry.merges), f"{one.merges_to_ungated:g}")
        table.add_row(*row, *gained, *rates)
    console.print(table)


def show_proposals(console: Console, costs: Sequence[proposals.ProposalCost]) -> None:
    one = costs[0]
    console.print(f"Processor seconds a proposal, {one.partitions} partitions, {one.trials} trials before it")
    table = plain_table("strategy", "median", "min", "max", "first")
    for cost in costs:
        figures = (cost.seconds.median, cost.seconds.min, cost.seconds.max, cost.first_seconds)
        table.add_row(cost.strategy, *(f"{figure:.3f}" for figure in figures))
    console.print(table)


def show_truths(console: Console, results: Sequence[truths.TruthResult]) -> None:
    console.print("Regret of the answer after so many trainings, nats, as the median over the seeds")
    most = max(one.at[-1] for one in results)
    wanted = {1, 2, 3, *(most * share // 27 // 3 * 3 for share in (6, 9, 18, 27))}
    counts = sorted(wanted & {at for one in results for at in one.at})
    table = plain_table("case", "method", *(str(count) for count in counts), left=2)
    for one in results:
        table.add_row(one.case, one.method, *(f"{one.median(at):.4f}" if at in one.at else "" for at in counts))
    console.print(table)
    for third in truths.thirds_of(results):
        console.print(
            f"refine after a third of the trainings is as good as {third.method} in {third.held} of {third.asked} "
            "comparisons"
        )


def show_landscape(console: Console, fits: Sequence[Fit]) -> None:
    one = fits[0]
    console.print(f"Predictions of {one.unseen} unseen merges, whose values spread by {one.spread:.4f}")
    table = plain_table("surrogate", "from", "merges", "Spearman", "RMSE", "90 % intervals hold", left=2)
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


def _needed(one: regret.RegretResult) -> str:
    needed = one.forwards_to_one_percent
    return f"{needed:g}" if math.isfinite(needed) else f"> {one.courses[0].forwards[-1]}"


def _share(share: float) -> str:
    return "none" if math.isnan(share) else f"{share:.1%}"


def draw_regret(results: Sequence[regret.RegretResult], path: Path) -> Path:
    """Draw regret against forward-equivalents: median and quartiles over cases and seeds, a panel for each size."""
    sizes = sorted({one.case.partitions for one in results})
    figure = Figure(figsize=(1 + 4.2 * len(sizes), 4.4), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(sizes), sharey=True))
    for axes, size in zip(panels, sizes, strict=True):
        _draw_size(axes, [one for one in results if one.case.partitions == size])
        axes.set_title(f"{size} partitions", loc="left")
    panels[0].set_ylabel("regret, % of the uniform mixture's")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return saved(figure, path, dpi=110)


def _draw_size(axes: Axes, results: Sequence[regret.RegretResult]) -> None:
    strategies = list(dict.fromkeys(one.entry.strategy for one in results))
    for at, strategy in enumerate(strategies):
        courses = [course for one in results if one.entry.strategy == strategy for course in one.courses]
        forwards = np.unique(np.concatenate([course.forwards for course in courses]))
        percents = np.array([[course.at(spent) for spent in forwards] for course in courses])
        low, middle, high = np.quantile(np.maximum(percents, FLOOR_PERCENT), [0.25, 0.5, 0.75], axis=0)
        colour, style = COLOURS[at % len(COLOURS)], STYLES[at // len(COLOURS) % len(STYLES)]
        axes.plot(forwards, middle, color=colour, linestyle=style, label=strategy)
        axes.fill_between(forwards, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.axhline(1, color="#666666", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(FLOOR_PERCENT, 150)
    axes.set_xlabel("forward-equivalents")
    axes.spines[["top", "right"]].set_visible(False)


def draw_truths(results: Sequence[truths.TruthResult], path: Path) -> Path:
    """Draw regret against trainings: median and quartiles over the seeds, a panel for each case."""
    cases = list(dict.fromkeys(one.case for one in results))
    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(1.6 + 3.4 * columns, 0.6 + 2.6 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False, sharex=True)).ravel()
    for axes in panels[len(cases) :]:
        axes.set_visible(False)
    for axes, case in zip(panels, cases, strict=False):
        for at, one in enumerate(result for result in results if result.case == case):
            low, middle, high = np.quantile(np.array(one.regrets), [0.25, 0.5, 0.75], axis=0)
            axes.plot(one.at, middle, color=COLOURS[at], marker=".", label=one.method)
            axes.fill_between(one.at, low, high, color=COLOURS[at], alpha=0.12, linewidth=0)
        axes.set_title(case, loc="left")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("trainings")
    figure.supylabel("regret, nats")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return saved(figure, path, dpi=110)
