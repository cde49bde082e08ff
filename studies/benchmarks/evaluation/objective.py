"""The verb `bench objective`: what an evaluation costs, as ratios of timings taken side by side.

Nothing here is simulated: the study's own pool is merged, its own windows are scored, its evaluations are kept in a
real (temporary) database.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from objectives.held_out import Floats
from objectives.merged_loss import MergedLoss
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.progress import track
from studies.benchmarks.evaluation.mergekit import check_mergekit, plain_loss, ready_by_mergekit
from studies.benchmarks.ratio import Ratio, paired, seconds
from studies.database.database import open_database
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench

CANDIDATES = 20
"""Candidates of one comparison with mergekit: the first of a random search are read in full, later ones stopped."""
MERGES_TIMED = 20
"""Merges and copies timed together: one alone is about a millisecond."""


@dataclass(frozen=True)
class Costs:
    """Ratios of seconds, but for `merge_bandwidth_ratio`, which is one of bytes per second.

    `overhead_ratio`: an evaluation, kept in the database, over the bare forward passes and log-probabilities on the
    same batches. `plain_ratio`: the same over a plain loop with whole logits. `merge_bandwidth_ratio`: merging over
    copying the members. `versus_mergekit_ready`: mergekit to disk and loading over our merge.
    `versus_mergekit_candidate`: the same with scoring, over our merge and decision, in a random search.
    """

    overhead_ratio: Ratio
    plain_ratio: Ratio
    merge_bandwidth_ratio: Ratio
    versus_mergekit_ready: Ratio
    versus_mergekit_candidate: Ratio

    def as_json(self) -> dict[str, object]:
        """Give what `bench objective --json` prints of it."""
        return dict(asdict(self))


def run_costs(bench: Workbench, repeats: int) -> Costs:
    """Measure. Raises `ConfigError` when mergekit is not installed."""
    check_mergekit()
    if bench.pool.groups:
        raise ConfigError("bench objective measures merges of single members: take [space] units = 'macro' away")
    loss = MergedLoss(bench.pool, bench.stacked, bench.target, "search", settings=bench.proxy)
    rng = np.random.default_rng(bench.config.search.seed)
    with track("cost of an evaluation", 5) as show, tempfile.TemporaryDirectory() as folder:
        with open_database(Path(folder) / "bench.db", timeout_seconds=60) as database:
            kept = RememberedObjective(loss, database.evaluations)
            overhead = paired(lambda: kept(random_mixture(bench, rng)), loss.scorer.forward_only, repeats)
            show(1, f"overhead {overhead}")
            at_once = max(1, 4096 // loss.table.inputs.shape[1])
            plain = paired(
                lambda: kept(random_mixture(bench, rng)),
                lambda: plain_loss(bench.stacked.model, loss.table, at_once),
                repeats,
            )
            show(2, f"against a plain loop {plain}")
        bandwidth = _bandwidth(bench, repeats)
        show(3, f"merge bandwidth {bandwidth}")
        ready = _ready(bench, rng, repeats)
        show(4, f"ready model {ready}")
        candidate = Ratio.of([_candidates(bench, loss, rng, at_once) for _ in range(repeats)])
        show(5, f"candidate {candidate}")
    return Costs(overhead, plain, bandwidth, ready, candidate)


def random_mixture(bench: Workbench, rng: np.random.Generator) -> Mixture:
    """Draw a point of the space as the random strategy does."""
    return bench.space.project(rng.random(len(bench.space.names)))


def _weights(bench: Workbench, mixture: Mixture) -> Floats:
    return bench.proxy.rule.weights(mixture.over(bench.stacked.names).array)


def _bandwidth(bench: Workbench, repeats: int) -> Ratio:
    """Bytes per second of merging all K members, (K + 1) P values, over those of copying them, 2 K P."""
    stack, k = bench.stacked.stack, len(bench.stacked.names)
    copy, uniform = torch.empty_like(stack), np.full(k, 1 / k)

    def merge() -> None:
        for _ in range(MERGES_TIMED):
            bench.stacked.merge(uniform)
        bench.stacked.synchronize()

    def copying() -> None:
        for _ in range(MERGES_TIMED):
            copy.copy_(stack)
        bench.stacked.synchronize()

    inverse = paired(copying, merge, repeats)
    scale = (k + 1) / (2 * k)
    return Ratio(scale * inverse.median, scale * inverse.min, scale * inverse.max, inverse.repeats)


def _ready(bench: Workbench, rng: np.random.Generator, repeats: int) -> Ratio:
    folders, device = bench.pool.member_folders, bench.stacked.device

    def ours(weights: Floats) -> None:
        bench.stacked.merge(weights)
        bench.stacked.synchronize()

    draws = [rng.dirichlet(np.ones(len(folders))) for _ in range(repeats + 1)]
    ratios = [seconds(partial(ready_by_mergekit, folders, one, device)) / seconds(partial(ours, one)) for one in draws]
    return Ratio.of(ratios[1:])


def _candidates(bench: Workbench, loss: MergedLoss, rng: np.random.Generator, at_once: int) -> float:
    mixtures = [random_mixture(bench, rng) for _ in range(CANDIDATES)]
    theirs = seconds(lambda: _search_by_mergekit(bench, loss, mixtures, at_once))
    return theirs / seconds(lambda: _search(loss, mixtures))


def _search_by_mergekit(bench: Workbench, loss: MergedLoss, mixtures: Sequence[Mixture], at_once: int) -> int:
    values = []
    for mixture in mixtures:
        model = ready_by_mergekit(bench.pool.member_folders, _weights(bench, mixture), bench.stacked.device)
        values.append(loss.target.value(loss.table.losses(plain_loss(model, loss.table, at_once))))
    return int(np.argmin(values))


def _search(loss: MergedLoss, mixtures: Sequence[Mixture]) -> Mixture:
    best = loss(mixtures[0])
    for mixture in mixtures[1:]:
        evaluation = loss.challenge(mixture, best)
        best = best if evaluation.stopped_early else min(best, evaluation, key=lambda one: one.value)
    return best.mixture
