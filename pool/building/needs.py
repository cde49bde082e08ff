"""What one run needs, read from the pool's folder, or measured there first."""

from collections.abc import Mapping
from pathlib import Path

import torch

from pool.checkpoints.manifest import CheckpointManifest
from pool.config.pool_file import PoolFile
from pool.errors import ConfigError, PoolError
from pool.files.digests import digest_file
from pool.files.records import MANIFEST, read_record
from pool.mixture import Mixture
from pool.parts.layout import PoolLayout
from pool.parts.provenance import Provenance
from pool.tokens.held_out import Tokens
from pool.tokens.prepared import CORPUS_RECORD, CorpusManifest
from pool.training.needs import HeldOutText, RunInputs, held_out_text
from pool.training.optimizer_state import OPTIMIZER
from pool.training.seed_penalty import FisherText, fisher_of

SEED_TEXT_WINDOWS = 64
"""Held-out windows on which forgetting is measured, about: a few hundredths of a training run."""


def seed_needs(pool: PoolLayout, config: PoolFile, wanted: Provenance, corpus: CorpusManifest) -> RunInputs:
    """Gather what the seed's own run needs. Raises `PoolError`."""
    return RunInputs(
        stopping=_stopping(pool.corpus, wanted, corpus),
        keeps_optimizer=config.recipe.continue_optimizer,
    )


def member_needs(pool: PoolLayout, wanted: Provenance, streams: Mapping[str, Tokens]) -> RunInputs:
    """Gather what a run from the pool's seed needs; `streams` are those that it reads.

    Raises `PoolError` where the seed's optimizer state is wanted and was not kept, or was altered.
    """
    seed = read_record(pool.seed / MANIFEST, CheckpointManifest)
    corpus = read_record(pool.corpus / CORPUS_RECORD, CorpusManifest)
    return RunInputs(
        replayed=wanted.seed_mixture if wanted.recipe.replay_share else None,
        stopping=_stopping(pool.corpus, wanted, corpus),
        optimizer=_optimizer(pool.seed, seed) if wanted.recipe.continue_optimizer else None,
        importance=_importance(pool.seed, wanted, seed, streams),
        seed_text=_seed_text(pool.corpus, corpus, seed),
    )


def _stopping(folder: Path, wanted: Provenance, corpus: CorpusManifest) -> HeldOutText | None:
    return held_out_text(folder, corpus, wanted.mixture) if wanted.recipe.early_stopping else None


def _optimizer(folder: Path, seed: CheckpointManifest) -> Path:
    path = folder / OPTIMIZER
    if seed.optimizer_digest is None or not path.is_file():
        raise PoolError(
            f"[recipe] continue_optimizer: the seed in {folder} was trained without keeping its optimizer's state; run "
            "`mixscout pool build POOL.toml --rebuild seed`"
        )
    if digest_file(path) != seed.optimizer_digest:
        raise PoolError(f"{path} was truncated or altered since the seed was trained; rebuild with --rebuild seed")
    return path


def _importance(
    folder: Path, wanted: Provenance, seed: CheckpointManifest, streams: Mapping[str, Tokens]
) -> dict[str, torch.Tensor] | None:
    penalty = wanted.recipe.seed_penalty
    if penalty is None or penalty.kind == "l2":
        return None
    text = {name: wanted.data_digests[name] for name in Mixture.of(seed.mixture).support}
    return fisher_of(folder, seed, FisherText(text, streams, penalty.fisher_windows))


def _seed_text(folder: Path, corpus: CorpusManifest, seed: CheckpointManifest) -> HeldOutText | None:
    """Read held-out text of the seed's mixture; None where it is unknown, or none is held out."""
    if seed.imported is not None:
        return None
    try:
        text = held_out_text(folder, corpus, Mixture.of(seed.mixture))
    except ConfigError:
        return None
    return text.at_most(SEED_TEXT_WINDOWS)
