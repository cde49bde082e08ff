"""From a provenance to a checkpoint on disk: here, or wherever a job is done, as everything it needs is read from disk.

A checkpoint's folder is locked while one process trains for it, since one may outlive the command that started it. What
was done before a kill is found again: a whole checkpoint, or the last one on the way in the scratch folder.
"""

import math
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pool.building.needs import member_needs
from pool.checkpoints.checkpoint import load_model, save_checkpoint
from pool.checkpoints.manifest import TRAINING_LIBRARIES, CheckpointManifest, HeldOutCourse, SeedTextLoss
from pool.engines.engine import Job
from pool.errors import PoolError
from pool.files.digests import digest_file
from pool.files.records import MANIFEST, library_versions, read_record
from pool.files.whole import new_folder
from pool.parts.layout import PoolLayout
from pool.parts.provenance import Provenance
from pool.tokens.held_out import Tokens
from pool.tokens.prepared import load_streams
from pool.tokens.tokenizer import load_tokenizer
from pool.training.adapters import ADAPTER, ADAPTER_WEIGHTS
from pool.training.attempt import BESIDE
from pool.training.batch_parts import take_smaller_part
from pool.training.needs import RunInputs
from pool.training.optimizer_state import OPTIMIZER
from pool.training.run_checkpoints import age_digests, checkpoints_of, discard_scratch
from pool.training.train import TrainingOutcome, train


@dataclass(frozen=True)
class TrainingJob:
    """One checkpoint to be trained from the seed of a pool, into `folder`; `label` is what it is called."""

    pool: PoolLayout
    folder: Path
    wanted: Provenance
    label: str

    @property
    def is_done(self) -> bool:
        """Whether the checkpoint is there."""
        return (self.folder / MANIFEST).is_file()

    @property
    def job(self) -> Job[CheckpointManifest]:
        """The job for an engine; it has got further when there is another checkpoint on the way."""
        said = _scratch(self.folder, self.wanted, "said.")
        return Job(self.label, self, self._on_the_way, said, self._take_less_memory)

    def __call__(self) -> CheckpointManifest:
        """Train, unless that was done in the meantime. Raises `PoolError`, also where the pool is not to be seen."""
        seed = self.pool.seed / MANIFEST
        if not seed.is_file():
            raise PoolError(
                f"{seed} is not there on {socket.gethostname()}: every machine that trains needs the pool's folder, at "
                "the same path, on a file system that they share"
            )
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            if self.is_done:
                return read_record(self.folder / MANIFEST, CheckpointManifest)
            start, tokenizer = load_model(self.pool.seed), load_tokenizer(self.pool.tokenizer)
            streams = load_streams(self.pool.corpus, self.wanted.data_digests)
            needs = member_needs(self.pool, self.wanted, streams)
            return train_into(self.folder, start, self.wanted, streams, tokenizer, needs=needs, label=self.label)

    def _on_the_way(self) -> frozenset[str]:
        return frozenset(path.name for path in checkpoints_of(_scratch(self.folder, self.wanted)))

    def _take_less_memory(self) -> str:
        recipe = self.wanted.recipe
        part = take_smaller_part(recipe, _scratch(self.folder, self.wanted))
        return "" if part is None else f"{part} of {recipe.batch_of_a_process} windows at a time"


def train_into(
    folder: Path,
    start: PreTrainedModel,
    wanted: Provenance,
    streams: Mapping[str, Tokens],
    tokenizer: PreTrainedTokenizerFast,
    *,
    needs: RunInputs,
    label: str,
) -> CheckpointManifest:
    """Train `start` to what is `wanted` and put it into `folder`, whole or not at all."""
    scratch = _scratch(folder, wanted)
    before = needs.seed_text.loss_nats(start) if needs.seed_text else math.nan
    outcome = train(
        start,
        streams,
        wanted.mixture,
        wanted.recipe,
        scratch=scratch,
        label=label,
        context=wanted.shape.context,
        needs=needs,
    )
    manifest = _manifest(wanted, outcome)
    if needs.seed_text:
        seed_text = SeedTextLoss(before_nats=before, after_nats=needs.seed_text.loss_nats(start))
        manifest = manifest.model_copy(update={"seed_text": seed_text})
    with new_folder(folder) as new:
        if (scratch / BESIDE).is_dir():
            shutil.copytree(scratch / BESIDE, new, dirs_exist_ok=True)
        if needs.keeps_optimizer:
            manifest = manifest.model_copy(update={"optimizer_digest": digest_file(new / OPTIMIZER)})
        if wanted.recipe.lora:
            manifest = manifest.model_copy(update={"adapter_digest": digest_file(new / ADAPTER / ADAPTER_WEIGHTS)})
        manifest = manifest.model_copy(update={"ages": age_digests(new)})
        complete = save_checkpoint(start, tokenizer, new, manifest)
    discard_scratch(scratch)
    return complete


def _manifest(wanted: Provenance, outcome: TrainingOutcome) -> CheckpointManifest:
    course = None
    if outcome.best_step is not None:
        course = HeldOutCourse(best_step=outcome.best_step, loss_nats=dict(outcome.held_out_nats))
    return CheckpointManifest(
        mixture=wanted.mixture.as_dict(),
        recipe=wanted.recipe,
        shape=wanted.shape,
        start_digest=wanted.start_digest,
        data_digests=dict(wanted.data_digests),
        tokenizer_digest=wanted.tokenizer_digest,
        weights_digest="",
        config_digest="",
        tokens=outcome.tokens,
        final_loss_nats=outcome.final_loss_nats,
        seconds=outcome.seconds,
        versions=library_versions(TRAINING_LIBRARIES),
        held_out_digests=dict(wanted.held_out_digests),
        held_out=course,
    )


def _scratch(folder: Path, wanted: Provenance, what: str = "") -> Path:
    return folder.parent / f".{folder.name}.{wanted.digest[:12]}.{what}scratch"
