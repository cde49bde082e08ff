"""The benchmarks' answers for people."""

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from studies.benchmarks.evaluation.adaptive import Savings
from studies.benchmarks.evaluation.growth import Point
from studies.benchmarks.evaluation.objective import Costs
from studies.benchmarks.evaluation.precision import PrecisionCheck
from studies.benchmarks.ratio import Ratio
from studies.benchmarks.surrogates.surrogate import Spread
from studies.benchmarks.surrogates.surrogate import SurrogateResult as Predicted
from studies.benchmarks.training import Speed


def show_costs(console: Console, costs: Costs, savings: Savings) -> None:
    """Show the ratios of `bench objective`."""
    table = Table()
    for heading in ("ratio", "median", "min", "max", "repeats"):
        table.add_column(heading, justify="left" if heading == "ratio" else "right")
    for name, ratio in _named(costs, savings).items():
        figures = (f"{figure:.3g}" for figure in (ratio.median, ratio.min, ratio.max))
        table.add_row(name, *figures, str(ratio.repeats))
    console.print(table)
    console.print(
        f"early stopping: same best mixture in {savings.same_best_share:.0%} of {savings.adaptive_same_best.repeats} "
        f"random searches of {savings.merges} merges; of {savings.winners} mixtures that beat the incumbent of their "
        f"time, {savings.winners_stopped} were stopped"
    )


def _named(costs: Costs, savings: Savings) -> Mapping[str, Ratio]:
    return {
        "evaluation over bare forward": costs.overhead_ratio,
        "evaluation over a plain loop with whole logits": costs.plain_ratio,
        "merge bandwidth over memory copy": costs.merge_bandwidth_ratio,
        "mergekit over ours, ready model": costs.versus_mergekit_ready,
        "mergekit over ours, candidate decided": costs.versus_mergekit_candidate,
        "tokens read, stopping early over in full": savings.adaptive_tokens_ratio,
    }


def show_training(console: Console, found: Speed) -> None:
    """Show the throughput of `bench training`."""
    console.print(
        f"{found.parameters:,} parameters, {found.precision}, {found.device}: {found.tokens:,} tokens a run\n"
        f"member training {found.tokens_per_second:,.0f} tokens/s, bare loop {found.bare_tokens_per_second:,.0f}\n"
        f"throughput over the bare loop's {found.ratio}",
        highlight=False,
    )
    if found.utilisation is not None:
        console.print(f"model FLOPs utilisation {found.utilisation:.1%} of {found.peak_teraflops:g} teraflops")


def show_growth(console: Console, points: Sequence[Point]) -> None:
    """Show how making a model ready grows."""
    console.print("Making one mixture's model ready")
    table = Table()
    for heading in (
        "parameters",
        "members",
        "ours, ms",
        "mergekit, ms",
        "mergekit over ours",
        "min",
        "max",
        "8 at once over one by one",
    ):
        table.add_column(heading, justify="right")
    for point in points:
        ratio = point.versus_mergekit_ready
        table.add_row(
            f"{point.parameters:,}",
            str(point.members),
            f"{1000 * point.ours_seconds.median:.1f}",
            f"{1000 * point.mergekit_seconds.median:.0f}",
            *(f"{figure:.0f}" for figure in (ratio.median, ratio.min, ratio.max)),
            f"{point.together_ratio.median:.2f}",
        )
    console.print(table)


def show_precision(console: Console, check: PrecisionCheck) -> None:
    """Show what bfloat16 changes."""
    console.print(f"bfloat16 against float32, {check.mixtures} mixtures")
    table = Table("", "", show_header=False)
    table.add_row("spread of the float32 losses (standard deviation)", f"{check.spread:.5f}")
    table.add_row("change: mean, largest, standard deviation", _changes(check))
    table.add_row("Spearman, Kendall", f"{check.spearman:.4f}, {check.kendall:.4f}")
    table.add_row("best mixture", "the same" if check.same_best else f"another, {check.regret:.5f} worse")
    table.add_row("seconds, bfloat16 over float32", str(check.seconds_ratio))
    console.print(table)


def _changes(check: PrecisionCheck) -> str:
    return f"{check.mean_change:+.5f}, {check.largest_change:.5f}, {check.change_spread:.5f}"


def show_bench_surrogate(console: Console, results: Sequence[Predicted]) -> None:
    """Show Spearman and RMSE of every surrogate, a table for each metric."""
    for metric in dict.fromkeys(one.metric for one in results):
        mine = [one for one in results if one.metric == metric]
        console.print(f"{metric}: predictions of {mine[0].unseen} unseen models, mean (least to greatest) over subsets")
        table = Table()
        for heading in ("surrogate", "runs", "subsets", "Spearman", "RMSE", "90 % hold"):
            table.add_column(heading, justify="left" if heading == "surrogate" else "right")
        for one in mine:
            held = "-" if math.isnan(one.coverage.mean) else f"{one.coverage.mean:.0%}"
            figures = (_spread(one.spearman), _spread(one.rmse), held)
            table.add_row(one.surrogate, str(one.runs), str(one.subsets), *figures)
        console.print(table)


def _spread(spread: Spread) -> str:
    if math.isnan(spread.mean):
        return "not defined"
    return f"{spread.mean:.4f} ({spread.min:.4f} to {spread.max:.4f})"
