"""The answers of the benchmarks for people, and how making a model ready grows with members and size.

Growth is measured beside mergekit's. Models have real shapes and random parameters: timings do not depend on values.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from objectives.losses.merged_loss import MERGES_AT_ONCE
from objectives.merging.members.holding import Holding
from objectives.merging.merge import StackedPool
from pool.checkpoints.checkpoint import new_model
from pool.config.recipe import ModelShape
from pool.progress import track
from studies.benchmarks.evaluation.costs import EvaluationCosts, check_mergekit, ready_seconds
from studies.benchmarks.evaluation.memory import MemoryFigures
from studies.benchmarks.evaluation.precision import PrecisionCheck
from studies.benchmarks.ratio import GpuFigures, Ratio, paired
from studies.benchmarks.surrogates import Spread, SurrogateResult
from studies.benchmarks.training import Speed
from studies.terminal import plain_table

VOCABULARY = 4096
MEMBER_COUNTS = (4, 16, 64)
SHAPES: Mapping[str, ModelShape] = {
    "1M": ModelShape(hidden_size=128, layers=4, attention_heads=4, intermediate_size=384, context=128),
    "8M": ModelShape(hidden_size=256, layers=8, attention_heads=4, intermediate_size=768, context=128),
    "40M": ModelShape(hidden_size=512, layers=12, attention_heads=8, intermediate_size=1536, context=128),
}
MEMBERS_BY_SIZE = 8


@dataclass(frozen=True)
class Point:
    """Seconds to make one mixture's model ready.

    together_ratio: merging several mixtures by one product over merging one by one
    """

    parameters: int
    members: int
    ours_seconds: Ratio
    mergekit_seconds: Ratio
    versus_mergekit_ready: Ratio
    together_ratio: Ratio


def run_growth(repeats: int) -> list[Point]:
    """Measure pools of several counts and sizes. Raises `ConfigError` without mergekit."""
    check_mergekit()
    cases = [("1M", members) for members in MEMBER_COUNTS]
    cases += [(size, MEMBERS_BY_SIZE) for size in SHAPES]
    points = []
    with track("growth", len(cases)) as show:
        for size, members in cases:
            points.append(_measure(SHAPES[size], members, repeats))
            show(len(points), f"{size} x {members}: {points[-1].versus_mergekit_ready}")
    return points


def _measure(shape: ModelShape, members: int, repeats: int) -> Point:
    with tempfile.TemporaryDirectory() as folder:
        folders = {f"m{k}": Path(folder) / f"m{k}" for k in range(members)}
        for seed, path in enumerate(folders.values()):
            new_model(shape, VOCABULARY, initial_seed=seed).save_pretrained(path)
        stacked = StackedPool(folders)
        ours, theirs = ready_seconds(stacked, folders, np.random.default_rng(0), repeats)
        together = _together(stacked, repeats)
    ratios = [slow / fast for slow, fast in zip(theirs, ours, strict=True)]
    return Point(stacked.flat.numel(), members, Ratio.of(ours), Ratio.of(theirs), Ratio.of(ratios), together)


def _together(stacked: StackedPool, repeats: int) -> Ratio:
    weights = np.random.default_rng(1).dirichlet(np.ones(len(stacked.names)), size=MERGES_AT_ONCE)

    def at_once() -> None:
        for merged in stacked.merge_many(weights):
            stacked.take(merged)
        stacked.synchronize()

    def one_by_one() -> None:
        for row in weights:
            stacked.merge(row)
        stacked.synchronize()

    return paired(at_once, one_by_one, repeats)


def show_costs(console: Console, costs: EvaluationCosts) -> None:
    table = plain_table("ratio", "median", "min", "max", "repeats")
    named = {
        "evaluation over bare forward": costs.overhead_ratio,
        "evaluation over a plain loop with whole logits": costs.plain_ratio,
        "merge bandwidth over memory copy": costs.merge_bandwidth_ratio,
        "mergekit over ours, ready model": costs.versus_mergekit_ready,
        "mergekit over ours, candidate decided": costs.versus_mergekit_candidate,
    }
    for name, ratio in named.items():
        table.add_row(name, *_figures(ratio, ".3g"), str(ratio.repeats))
    console.print(table)


def show_training(console: Console, found: Speed) -> None:
    console.print(
        f"{found.parameters:,} parameters, {found.precision}, {found.device}: {found.tokens:,} tokens a run\n"
        f"member training {found.tokens_per_second:,.0f} tokens/s, bare loop {found.bare_tokens_per_second:,.0f}\n"
        f"throughput over the bare loop's {found.ratio}",
        highlight=False,
    )
    if found.utilisation is not None:
        console.print(f"model FLOPs utilisation {found.utilisation:.1%} of {found.peak_teraflops:g} teraflops")


def show_gpu(console: Console, found: GpuFigures) -> None:
    table = plain_table("part", "figure", "value", "unit", "target", "judged", left=2)
    for one in found.figures:
        target = "" if one.least is None else f">= {one.least:g}"
        target = target if one.most is None else f"<= {one.most:g}"
        verdict = {None: "", True: "holds", False: "falls short"}[one.holds]
        if target and not found.is_judged:
            verdict = "not on a CPU"
        table.add_row(one.part, one.name, "" if one.value is None else f"{one.value:.4g}", one.unit, target, verdict)
    console.print(table)
    for one in found.figures:
        if one.note:
            console.print(f"{one.part}, {one.name}: {one.note}")


def show_growth(console: Console, points: Sequence[Point]) -> None:
    console.print("Making one mixture's model ready")
    headings = ("mergekit over ours", "min", "max", "8 at once over one by one")
    table = plain_table("parameters", "members", "ours, ms", "mergekit, ms", *headings, left=0)
    for point in points:
        table.add_row(
            f"{point.parameters:,}",
            str(point.members),
            f"{1000 * point.ours_seconds.median:.1f}",
            f"{1000 * point.mergekit_seconds.median:.0f}",
            *_figures(point.versus_mergekit_ready, ".0f"),
            f"{point.together_ratio.median:.2f}",
        )
    console.print(table)


def show_precision(console: Console, check: PrecisionCheck) -> None:
    console.print(f"bfloat16 against float32, {check.mixtures} mixtures")
    changes = f"{check.mean_change:+.5f}, {check.largest_change:.5f}, {check.change_spread:.5f}"
    table = Table("", "", show_header=False)
    table.add_row("spread of the float32 losses (standard deviation)", f"{check.spread:.5f}")
    table.add_row("change: mean, largest, standard deviation", changes)
    table.add_row("Spearman, Kendall", f"{check.spearman:.4f}, {check.kendall:.4f}")
    table.add_row("best mixture", "the same" if check.same_best else f"another, {check.regret:.5f} worse")
    table.add_row("seconds, bfloat16 over float32", str(check.seconds_ratio))
    console.print(table)


def show_memory(console: Console, pools: Sequence[MemoryFigures]) -> None:
    """Show each way on each pool; bytes are for each parameter of each member."""
    for found in pools:
        _show_ways(console, found)


def _show_ways(console: Console, found: MemoryFigures) -> None:
    console.print(
        f"pool {found.pool}: {found.members} members of {found.parameters:,} parameters, {found.mixtures} random "
        f"mixtures, whose losses have a standard deviation of {found.spread:.5f}"
    )
    headings = ("bytes", "on disk", "error, median", "largest", "merge over float32's", "min", "max")
    table = plain_table("members", *headings, "of an evaluation")
    for way in found.ways:
        table.add_row(
            _named(way.holding),
            f"{way.memory_bytes:.3f}",
            f"{way.disk_bytes:.3f}",
            f"{way.median_error:.1e}",
            f"{way.largest_error:.1e}",
            *_figures(way.merge_ratio, ".2f"),
            f"{way.share_of_evaluation:.2%}",
        )
    console.print(table)


def _named(holding: Holding) -> str:
    kept = f", {holding.keep_share:.0%} kept" if holding.keep_share < 1 else ""
    return f"{holding.held} {holding.stored}{kept}"


def _figures(ratio: Ratio, form: str) -> list[str]:
    return [f"{figure:{form}}" for figure in (ratio.median, ratio.min, ratio.max)]


def show_bench_surrogate(console: Console, results: Sequence[SurrogateResult]) -> None:
    for metric in dict.fromkeys(one.metric for one in results):
        mine = [one for one in results if one.metric == metric]
        console.print(f"{metric}: predictions of {mine[0].unseen} unseen models, mean (least to greatest) over subsets")
        table = plain_table("surrogate", "runs", "subsets", "Spearman", "RMSE", "90 % hold")
        for one in mine:
            held = "-" if math.isnan(one.coverage.mean) else f"{one.coverage.mean:.0%}"
            figures = (_spread(one.spearman), _spread(one.rmse), held)
            table.add_row(one.surrogate, str(one.runs), str(one.subsets), *figures)
        console.print(table)


def _spread(spread: Spread) -> str:
    if math.isnan(spread.mean):
        return "not defined"
    return f"{spread.mean:.4f} ({spread.min:.4f} to {spread.max:.4f})"
