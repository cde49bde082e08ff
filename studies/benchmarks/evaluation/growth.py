"""How making a model ready grows with members and size, beside mergekit's.

Models have real shapes and random parameters: timings do not depend on values.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from objectives.losses.merged_loss import MERGES_AT_ONCE
from objectives.merging.merge import StackedPool
from pool.checkpoints.checkpoint import new_model
from pool.config.recipe import ModelShape
from pool.progress import track
from studies.benchmarks.evaluation.costs import check_mergekit, ready_seconds
from studies.benchmarks.ratio import Ratio, paired

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
