"""Whether a checkpoint trained elsewhere may be a member: it has its architecture and tokenizer, and began as it."""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pool.checkpoints.checkpoint import load_model, parameters_of, save_checkpoint, verify_checkpoint
from pool.checkpoints.likeness import check_same_architecture, cosine_to_seed
from pool.checkpoints.manifest import CheckpointManifest, imported_manifest
from pool.checkpoints.others_files import find_foreign
from pool.errors import PoolMismatchError
from pool.files.digests import short
from pool.files.records import MANIFEST
from pool.mixture import Mixture
from pool.parts.others import Foreign, load_foreign
from pool.tokens.tokenizer import load_tokenizer, tokenizer_digest


@dataclass(frozen=True)
class Seed:
    """The seed that a candidate is compared with, as it is on disk."""

    folder: Path
    manifest: CheckpointManifest


@dataclass(frozen=True)
class Candidate:
    """A checkpoint that passed; `cosine` is of its matrices and the seed's, `record` one of ours beside it."""

    foreign: Foreign
    seed: Seed
    cosine: float
    record: CheckpointManifest | None

    def save(self, vertex: Mixture, folder: Path) -> CheckpointManifest:
        """Write its parameters, with the seed's configuration and tokenizer, into an existing empty folder."""
        model, theirs = load_model(self.seed.folder), parameters_of(self.foreign.model)
        for name, tensor in parameters_of(model).items():
            tensor.copy_(theirs[name])
        seed = self.seed.manifest
        manifest = imported_manifest(
            self.foreign.origin.model_copy(update={"seed_recorded": self.record is not None}),
            shape=seed.shape,
            start_digest=seed.weights_digest,
            tokenizer_digest=seed.tokenizer_digest,
            mixture=vertex.as_dict(),
            record=self.record,
        )
        return save_checkpoint(model, load_tokenizer(self.seed.folder), folder, manifest)


def check_candidate(folder: Path, seed: Seed, what: str, *, tokenizer: Path | None = None) -> Candidate:
    """Load a checkpoint and compare it with the seed; `what` is what messages call it.

    Raises `PoolError` for a checkpoint that cannot be believed, or is of another architecture or origin, and
    `PoolMismatchError` for another tokenizer or a record that names another seed.
    """
    foreign = load_foreign(find_foreign(folder, what, tokenizer), what)
    start: PreTrainedModel = load_model(seed.folder)
    check_same_architecture(foreign.model, start, what)
    _check_tokenizer(foreign.tokenizer, load_tokenizer(seed.folder), what)
    record = _record(folder, what)
    if record is not None and record.start_digest != seed.manifest.weights_digest:
        raise PoolMismatchError(
            f"{what}: its {MANIFEST} says that it was trained from another seed ({short(record.start_digest)}, not "
            f"{short(seed.manifest.weights_digest)}); members merge only when all of them start from one seed"
        )
    return Candidate(foreign, seed, cosine_to_seed(foreign.model, start, what), record)


def _check_tokenizer(theirs: PreTrainedTokenizerFast, ours: PreTrainedTokenizerFast, what: str) -> None:
    digests = tokenizer_digest(theirs), tokenizer_digest(ours)
    if digests[0] != digests[1]:
        raise PoolMismatchError(
            f"{what}: its tokenizer is not the pool's ({short(digests[0])}, not {short(digests[1])}); losses of models "
            "with different tokenizers do not compare, and their merge means nothing"
        )


def _record(folder: Path, what: str) -> CheckpointManifest | None:
    """Read the record of ours beside a checkpoint; None where there is none.

    Raises `PoolError` when the checkpoint is not what its record says.
    """
    try:
        ours = "weights_digest" in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    return verify_checkpoint(folder, what, "copy it again") if ours else None
