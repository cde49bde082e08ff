"""The verb `bench memory`: each way of holding members beside float32 in memory.

Members are packed into a temporary folder beside the pool.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from objectives.held_out import Floats
from objectives.losses.merged_loss import MergedLoss
from objectives.merging.members.arrays import filled
from objectives.merging.members.form import Form, HeldMembers, encoded, inner
from objectives.merging.members.holding import Holding
from objectives.merging.merge import StackedPool
from objectives.scoring.scorer import Scorer
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import load_model, new_model, parameters_of
from pool.config.recipe import ModelShape
from pool.errors import ConfigError
from pool.files.whole import may_write
from pool.progress import track
from pool.tokens.held_out import HeldOutWindows
from studies.answers.score import Json
from studies.benchmarks.evaluation.costs import MERGES_TIMED, random_mixture
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


@dataclass(frozen=True)
class WayFigures:
    """One way of holding the members.

    memory_bytes, disk_bytes: for each parameter of each member
    largest_error, median_error: of the merged loss, in the goal's measure
    merge_ratio: over float32 in memory
    share_of_evaluation: a merge over an evaluation in float32
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
    """All ways on one pool; `parameters` of one member."""

    pool: str
    members: int
    parameters: int
    mixtures: int
    spread: float
    """Standard deviation of the reference's losses over the mixtures."""
    ways: Sequence[WayFigures]

    def as_json(self) -> Json:
        """Give the figures as an object; the folder of packed members is gone by then."""
        found = asdict(self)
        for way in found["ways"]:
            del way["holding"]["packed"]
        return found


@dataclass(frozen=True)
class Workload:
    """Members' folders, weights (N, K) to merge by, and how to score a merge."""

    pool: str
    folders: Mapping[str, Sequence[Path]]
    seed: Path
    weights: Floats
    loss_of: Callable[[StackedPool], Callable[[], float]]
    merges_timed: int = MERGES_TIMED


def run_memory(bench: Workbench, mixtures: int, repeats: int) -> MemoryFigures:
    """Measure on a study's own pool, goal and merge rule, on the search split."""
    if bench.proxy.settings.rule.by_rows:
        raise ConfigError("bench memory measures sums by one weight a member: set another [objective] rule")
    rng = np.random.default_rng(bench.config.search.seed)
    draws = [random_mixture(bench.space, rng).over(bench.proxy.pool.names).array for _ in range(mixtures)]

    def loss_of(stacked: StackedPool) -> Callable[[], float]:
        proxy = bench.proxy
        loss = MergedLoss(proxy.pool, stacked, bench.target, "search", settings=proxy.settings)
        return lambda: bench.target.value(loss.table.losses(loss.scorer.score()))

    weights = np.stack([bench.proxy.settings.rule.weights(draw) for draw in draws])
    folders, seed = bench.proxy.pool.merged_folders, bench.proxy.pool.folder / "seed"
    return measure(Workload(bench.proxy.pool.config.name, folders, seed, weights, loss_of), repeats)


def measure(load: Workload, repeats: int) -> MemoryFigures:
    with _beside(load.seed) as folder, track(f"pool {load.pool}", len(WAYS)) as show:
        reference = StackedPool(load.folders, holding=REFERENCE, folder=folder)
        expected, evaluation_seconds = _losses(reference, load)
        parameters = sum(tensor.numel() for tensor in parameters_of(reference.model).values())
        values = len(load.folders) * parameters
        ways = []
        for way in WAYS:
            stacked = reference if way == REFERENCE else StackedPool(load.folders, holding=way, folder=folder)
            found = expected if way == REFERENCE else _losses(stacked, load)[0]
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
    """Return losses (N,), and the median seconds of one."""
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
    """Yield a temporary folder with the seed, on the pool's disk if that may be written."""
    place = seed.parent if may_write(seed) else None
    with tempfile.TemporaryDirectory(dir=place, prefix=".bench-") as name:
        (Path(name) / "seed").symlink_to(seed.resolve())
        yield Path(name)


def _clear(folder: Path) -> None:
    for path in folder.rglob("packed/*/*.npy"):
        path.unlink()  # mapped arrays stay readable until they are released


SHAPE = ModelShape(hidden_size=768, layers=12, attention_heads=12, intermediate_size=2304, context=128)
VOCABULARY = 8192
MEMBERS = 8
STEP = 0.15
"""Norm of a task vector, as a share of the seed's: that of the demo's members."""
MIXTURES = 3
WINDOWS = 4
COMPARED_AT_ONCE = 2**22
"""Values of a member that are compared in float64 at a time."""


def run_large(repeats: int) -> MemoryFigures:
    """Measure a pool of 98 million parameters a model, in a temporary folder of 3.5 GB.

    Its members are random, so its errors say little.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        new_model(SHAPE, VOCABULARY, initial_seed=0).save_pretrained(folder / "seed")
        folders = {f"m{number}": (_stepped(folder, number),) for number in range(MEMBERS)}
        weights = np.random.default_rng(0).dirichlet(np.ones(MEMBERS), size=MIXTURES)
        load = Workload("of random models", folders, folder / "seed", weights, _loss_of, merges_timed=1)
        return measure(load, repeats)


def _stepped(folder: Path, number: int) -> Path:
    model, generator = load_model(folder / "seed"), torch.Generator().manual_seed(number + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            size = STEP * parameter.norm() / parameter.numel() ** 0.5
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    model.save_pretrained(folder / f"m{number}")
    return folder / f"m{number}"


def _loss_of(stacked: StackedPool) -> Callable[[], float]:
    table = random_text(WINDOWS, SHAPE.context, VOCABULARY)
    scorer = Scorer(stacked.model, table)
    return lambda: float(scorer.score().sum() / table.inputs.size)


def random_text(windows: int, context: int, vocabulary: int) -> WindowTable:
    tokens = np.random.default_rng(0).integers(0, vocabulary, size=(windows, context), dtype=np.int32)
    documents = np.arange(windows, dtype=np.int32)
    found = HeldOutWindows(tokens, tokens, documents, np.full(windows, tokens.size), windows)
    return WindowTable.of({"random": found}, ["random"])


def random_members(form: Form, count: int, seed: torch.Tensor, step: float = STEP) -> HeldMembers:
    """Hold members at random steps from a seed (P,), on its device."""
    drawn = (seed + step * torch.randn(seed.numel(), device=seed.device) for _ in range(count))
    shapes = form.shapes()
    return form.held(filled(shapes, encoded(form, drawn), dict.fromkeys(shapes, seed.device), streamed=False))


def errors_of(members: HeldMembers, like: torch.Tensor) -> tuple[float, float]:
    """Compare with float64: relative errors of a merge (norm), and of inner products with it (the largest).

    Merges have the shape (P,) and the device of `like`.
    """
    weights, out = np.random.default_rng(0).dirichlet(np.ones(members.count)), torch.zeros_like(like)
    members.sum(weights, out)
    off = total = 0.0
    slopes = np.zeros(members.count)
    for part, values in members.blocks(COMPARED_AT_ONCE):
        exact = values.double()
        merged = torch.tensor(weights, device=like.device) @ exact
        off += float((out[part] - merged).square().sum())
        total += float(merged.square().sum())
        slopes += (exact @ out[part].double()).cpu().numpy()
    return (off / total) ** 0.5, float(np.abs(inner(members, out) - slopes).max() / np.abs(slopes).max())
