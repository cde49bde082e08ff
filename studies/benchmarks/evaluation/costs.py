"""The verb `bench objective`: the cost of an evaluation, as ratios of timings in turns.

The rival is mergekit to disk, load, and a plain forward pass.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from objectives.held_out import Floats
from objectives.losses.merged_loss import MergedLoss
from objectives.merging.merge import StackedPool
from objectives.scoring.window_table import WindowTable
from pool.checkpoints.checkpoint import load_model
from pool.errors import ConfigError
from pool.mixture import Mixture
from pool.progress import track
from pool.tokens.held_out import IGNORED
from search.space import CappedSimplex
from studies.benchmarks.ratio import Ratio, paired, seconds
from studies.database.database import open_database
from studies.database.remembered import RememberedObjective
from studies.opened.on_pool import Workbench

CANDIDATES = 20
"""Candidates of one comparison with mergekit: later ones are stopped early, as in a random search."""
MERGES_TIMED = 20
"""Merges and copies timed together: a single one takes about a millisecond."""


@dataclass(frozen=True)
class EvaluationCosts:
    """Ratios of seconds, and one of bytes per second.

    overhead_ratio: an evaluation, kept in a database, over the bare forward passes
    plain_ratio: an evaluation, kept in a database, over a plain loop with whole logits
    merge_bandwidth_ratio: merging over copying the members
    versus_mergekit_ready: mergekit to disk and loading over our merge
    versus_mergekit_candidate: mergekit, loading and scoring over our merge and decision, in a random search
    """

    overhead_ratio: Ratio
    plain_ratio: Ratio
    merge_bandwidth_ratio: Ratio
    versus_mergekit_ready: Ratio
    versus_mergekit_candidate: Ratio


def run_costs(bench: Workbench, repeats: int) -> EvaluationCosts:
    """Measure. Raises `ConfigError` without mergekit, or for groups of members."""
    check_mergekit()
    if bench.proxy.pool.groups:
        raise ConfigError("bench objective measures merges of single members: take [space] units = 'macro' away")
    if bench.proxy.settings.rule.by_rows:
        raise ConfigError("bench objective compares with mergekit, which has one weight a member: set another rule")
    stacked, folders = bench.proxy.stacked, bench.proxy.pool.member_folders
    loss = bench.proxy.loss(bench.target, "search")
    rng = np.random.default_rng(bench.config.search.seed)
    windows_at_once = max(1, 4096 // loss.table.inputs.shape[1])
    plain = partial(plain_loss, table=loss.table, windows_at_once=windows_at_once)

    def candidates() -> float:
        mixtures = [random_mixture(bench.space, rng) for _ in range(CANDIDATES)]
        weights = [bench.proxy.settings.rule.weights(mixture.over(stacked.names).array) for mixture in mixtures]

        def by_mergekit() -> int:
            models = (ready_by_mergekit(folders, one, stacked.device) for one in weights)
            return int(np.argmin([loss.target.value(loss.table.losses(plain(model))) for model in models]))

        theirs = seconds(by_mergekit)
        return theirs / seconds(lambda: _search(loss, mixtures))

    with track("cost of an evaluation", 5) as show, tempfile.TemporaryDirectory() as folder:
        with open_database(Path(folder) / "bench.db", timeout_seconds=60) as database:
            kept = RememberedObjective(loss, database.evaluations)
            overhead = paired(lambda: kept(random_mixture(bench.space, rng)), loss.scorer.forward_only, repeats)
            show(1, f"overhead {overhead}")
            over_plain = paired(lambda: kept(random_mixture(bench.space, rng)), lambda: plain(stacked.model), repeats)
            show(2, f"against a plain loop {over_plain}")
        bandwidth = _bandwidth(stacked, repeats)
        show(3, f"merge bandwidth {bandwidth}")
        ours, theirs = ready_seconds(stacked, folders, rng, repeats)
        ready = Ratio.of([slow / fast for slow, fast in zip(theirs, ours, strict=True)])
        show(4, f"ready model {ready}")
        candidate = Ratio.of([candidates() for _ in range(repeats)])
        show(5, f"candidate {candidate}")
    return EvaluationCosts(overhead, over_plain, bandwidth, ready, candidate)


def random_mixture(space: CappedSimplex, rng: np.random.Generator) -> Mixture:
    return space.project(rng.random(len(space.names)))


def _bandwidth(stacked: StackedPool, repeats: int) -> Ratio:
    """Compare merging K members of P values, (K + 1) P moved, with copying, 2 K P moved."""
    stack, k = stacked.stack, len(stacked.names)
    copy, uniform = torch.empty_like(stack), np.full(k, 1 / k)

    def many(action: Callable[[], object]) -> None:
        for _ in range(MERGES_TIMED):
            action()
        stacked.synchronize()

    copying, merging = partial(copy.copy_, stack), partial(stacked.merge, uniform)
    inverse = paired(lambda: many(copying), lambda: many(merging), repeats)
    scale = (k + 1) / (2 * k)
    return Ratio(scale * inverse.median, scale * inverse.min, scale * inverse.max, inverse.repeats)


def ready_seconds(
    stacked: StackedPool, folders: Mapping[str, Path], rng: np.random.Generator, repeats: int
) -> tuple[Sequence[float], Sequence[float]]:
    """Time making mixtures ready, by us and mergekit in turns."""

    def merge(weights: Floats) -> None:
        stacked.merge(weights)
        stacked.synchronize()

    ours, theirs = [], []
    for _ in range(repeats + 1):
        weights = rng.dirichlet(np.ones(len(folders)))
        theirs.append(seconds(partial(ready_by_mergekit, folders, weights, stacked.device)))
        ours.append(seconds(partial(merge, weights)))
    return ours[1:], theirs[1:]


def _search(loss: MergedLoss, mixtures: Sequence[Mixture]) -> Mixture:
    best = loss(mixtures[0])
    for mixture in mixtures[1:]:
        evaluation = loss.challenge(mixture, best)
        best = best if evaluation.stopped_early else min(best, evaluation, key=lambda one: one.value)
    return best.mixture


def check_mergekit() -> None:
    """Raise `ConfigError` without mergekit."""
    try:
        import mergekit.merge  # noqa: F401
    except ImportError:
        raise ConfigError("this comparison needs mergekit: pip install 'mixscout[bench]'") from None


def ready_by_mergekit(folders: Mapping[str, Path], weights: Floats, device: torch.device) -> PreTrainedModel:
    """Merge by weights (K,) with mergekit's `linear` to disk, and load."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    models = [
        {"model": str(folder), "parameters": {"weight": float(weight)}}
        for folder, weight in zip(folders.values(), weights, strict=True)
        if weight != 0
    ]
    config = MergeConfiguration.model_validate({"merge_method": "linear", "models": models, "dtype": "float32"})
    options = MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False, cuda=device.type == "cuda")
    logging.getLogger("mergekit").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        run_merge(config, folder, options=options)
        model = load_model(Path(folder))
    torch.nn.Module.to(model, device)
    return model


def plain_loss(model: PreTrainedModel, table: WindowTable, windows_at_once: int) -> Floats:
    """Return the nats (W,) of a table's windows, from whole logits."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(table.inputs), windows_at_once):
            batch = slice(start, start + windows_at_once)
            inputs, targets = (torch.tensor(part[batch], dtype=torch.int64) for part in (table.inputs, table.targets))
            logits = model(input_ids=inputs.to(model.device), use_cache=False).logits.float()
            flat = targets.to(model.device).flatten()
            nats = cross_entropy(logits.flatten(0, 1), flat, ignore_index=IGNORED, reduction="none")
            parts.append(nats.view(targets.shape).double().sum(dim=1).cpu())
    together: Floats = torch.cat(parts).numpy().astype(np.float64)
    return together
