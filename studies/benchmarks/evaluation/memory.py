"""The verb `bench memory`: what each way of holding a pool's members takes, errs and costs, beside float32 in memory.

Members are packed into a temporary folder beside the pool, which stays as it is.

The answer of `bench memory` for people.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from objectives.held_out import Floats
from objectives.merged_loss import MergedLoss
from objectives.merging.members.holding import Holding
from objectives.merging.merge import StackedPool
from pool.checkpoints.checkpoint import parameters_of
from pool.progress import track
from studies.benchmarks.evaluation.objective import random_mixture
from studies.benchmarks.ratio import Ratio, paired, seconds
from studies.opened.on_pool import Workbench

REFERENCE = Holding("resident")
WAYS = (
    REFERENCE,
    Holding("streamed"),
    Holding("mapped"),
    Holding("resident", "bfloat16"),
    Holding("resident", "int8"),
    Holding("mapped", "int8"),
    Holding("resident", "float32", 0.5),
    Holding("resident", "int8", 0.5),
    Holding("resident", "int8", 0.2),
)
MERGES_TIMED = 20
"""Merges timed together, by one mixture after another: one alone is about a millisecond."""


@dataclass(frozen=True)
class WayFigures:
    """One way. Bytes are for each parameter of each member, in memory and on disk.

    Errors are distances of the merged loss from that of the reference, in the goal's measure. `merge_ratio`: seconds of
    merging over the reference's. `share_of_evaluation`: those of a merge over those of one evaluation in float32.
    """

    holding: Holding
    memory_bytes: float
    disk_bytes: float
    largest_error: float
    median_error: float
    merge_ratio: Ratio
    share_of_evaluation: float


@dataclass(frozen=True)
class MemoryFigures:
    """All ways on one pool of `members` of so many `parameters` each, over so many random `mixtures`."""

    pool: str
    members: int
    parameters: int
    mixtures: int
    spread: float
    """Standard deviation of the reference's losses over the mixtures."""
    ways: Sequence[WayFigures]

    def as_json(self) -> dict[str, object]:
        """Give what `bench memory --json` prints of it."""
        return dict(asdict(self))


@dataclass(frozen=True)
class Workload:
    """What is merged and scored: members, a folder with their seed, weights (N, K), and the loss of what is merged."""

    pool: str
    folders: Mapping[str, Sequence[Path]]
    seed: Path
    weights: Floats
    loss_of: Callable[[StackedPool], Callable[[], float]]
    merges_timed: int = MERGES_TIMED


def run_memory(bench: Workbench, mixtures: int, repeats: int) -> MemoryFigures:
    """Measure on a study's own pool, goal and merge rule, on the search split."""
    rng = np.random.default_rng(bench.config.search.seed)
    draws = [random_mixture(bench, rng).over(bench.stacked.names).array for _ in range(mixtures)]

    def loss_of(stacked: StackedPool) -> Callable[[], float]:
        loss = MergedLoss(bench.pool, stacked, bench.target, "search", settings=bench.proxy)
        return lambda: bench.target.value(loss.table.losses(loss.scorer.score()))

    weights = np.stack([bench.proxy.rule.weights(draw) for draw in draws])
    folders, seed = bench.pool.merged_folders, bench.pool.folder / "seed"
    return measure(Workload(bench.pool.config.name, folders, seed, weights, loss_of), repeats)


def measure(load: Workload, repeats: int) -> MemoryFigures:
    """Hold the members in every way, one after the other, beside float32 in memory."""
    with _beside(load.seed) as folder, track(f"pool {load.pool}", len(WAYS)) as show:
        reference = StackedPool(load.folders, holding=REFERENCE, folder=folder)
        expected, evaluation_seconds = _losses(reference, load)
        parameters = sum(tensor.numel() for tensor in parameters_of(reference.model).values())
        values = len(load.folders) * parameters
        ways = []
        for way in WAYS:
            stacked = reference if way == REFERENCE else StackedPool(load.folders, holding=way, folder=folder)
            found, _ = (expected, 0.0) if way == REFERENCE else _losses(stacked, load)
            errors = np.abs(found - expected)
            merging, referring = (_merging(one, load) for one in (stacked, reference))
            ratio = paired(merging, referring, repeats)
            share = seconds(merging) / load.merges_timed / evaluation_seconds
            disk = sum(path.stat().st_size for path in folder.rglob("packed/*/*.npy"))
            figures = (stacked.members.nbytes / values, disk / values, float(errors.max()), float(np.median(errors)))
            ways.append(WayFigures(way, *figures, ratio, share))
            show(len(ways), f"{way.held} {way.stored}, {way.keep_share:g} kept: {ratio}")
            _clear(folder)
    return MemoryFigures(load.pool, len(load.folders), parameters, len(load.weights), float(expected.std()), ways)


def _losses(stacked: StackedPool, load: Workload) -> tuple[Floats, float]:
    """Return the loss of every mixture (N,), and the median seconds of merging and scoring one."""
    loss = load.loss_of(stacked)
    found, spent = [], []
    for weights in load.weights:

        def evaluate(weights: Floats = weights) -> None:
            stacked.merge(weights)
            found.append(loss())

        spent.append(seconds(evaluate))
    return np.array(found), median(spent)


def _merging(stacked: StackedPool, load: Workload) -> Callable[[], None]:
    def merge() -> None:
        for number in range(load.merges_timed):
            stacked.merge(load.weights[number % len(load.weights)])
        stacked.synchronize()

    return merge


@contextmanager
def _beside(seed: Path) -> Iterator[Path]:
    """Yield a temporary folder with a pool's seed, on its disk."""
    with tempfile.TemporaryDirectory(dir=seed.parent, prefix=".bench-") as name:
        (Path(name) / "seed").symlink_to(seed.resolve())
        yield Path(name)


def _clear(folder: Path) -> None:
    for path in folder.rglob("packed/*/*.npy"):
        path.unlink()  # mapped ones stay readable until they are let go


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
