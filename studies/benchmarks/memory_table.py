"""The answer of `bench memory` for people."""

from rich.console import Console
from rich.table import Table

from objectives.merging.members.holding import Holding
from studies.benchmarks.memory import MemoryFigures

HEADINGS = ("bytes", "on disk", "error, median", "largest", "merge over float32's", "min", "max", "of an evaluation")


def show_memory(console: Console, found: MemoryFigures) -> None:
    """Show a row for each way; bytes are for each parameter and member."""
    console.print(
        f"pool {found.pool}: {found.members} members of {found.parameters:,} parameters, {found.mixtures} random "
        f"mixtures, whose losses have a standard deviation of {found.spread:.5f}"
    )
    table = Table("members")
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for way in found.ways:
        table.add_row(
            _named(way.holding),
            f"{way.memory_bytes:.3f}",
            f"{way.disk_bytes:.3f}",
            f"{way.median_error:.1e}",
            f"{way.largest_error:.1e}",
            *(f"{figure:.2f}" for figure in (way.merge_ratio.median, way.merge_ratio.min, way.merge_ratio.max)),
            f"{way.share_of_evaluation:.2%}",
        )
    console.print(table)


def _named(holding: Holding) -> str:
    kept = f", {holding.keep_share:.0%} kept" if holding.keep_share < 1 else ""
    return f"{holding.held} {holding.stored}{kept}"
