"""A checkpoint made by others: loaded whole, as a causal language model, as the seed or a member of a pool.

A given seed in a folder is known by the digests of its files. The folder may be gone once the seed is in the pool.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from pool.checkpoints.checkpoint import (
    check_finite,
    load_model,
    parameters_of,
    save_checkpoint,
)
from pool.checkpoints.foreign import ForeignFiles, find_foreign
from pool.checkpoints.likeness import check_same_architecture, cosine_to_seed
from pool.checkpoints.manifest import CheckpointManifest, Origin, imported_manifest, verify_checkpoint
from pool.checkpoints.weights import (
    at_rest,
    check_vocabulary,
    load_gguf,
    load_language_model,
    most_positions,
    rows_of,
)
from pool.config.pool_file import SeedConfig
from pool.config.recipe import GivenShape
from pool.errors import PoolError, PoolMismatchError
from pool.files.digests import short
from pool.files.records import MANIFEST
from pool.mixture import Mixture
from pool.parts.provenance import GIVEN_SEED, given_seed_files
from pool.progress import say
from pool.tokens.tokenizer import end_of_text, load_tokenizer, tokenizer_digest

_PROBE_TOKENS = 8
_PROBE_TOLERANCE = 1e-5
"""Of the largest logit: causal models measured exactly 0, a small untrained BERT 6e-4."""


@dataclass(frozen=True)
class Foreign:
    """A whole model in float32, its tokenizer, and the source of both."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    origin: Origin


def load_foreign(files: ForeignFiles, what: str) -> Foreign:
    """Load checked files; messages call the checkpoint `what`. Raises `PoolError`."""
    loaded = load_gguf(files.gguf, what) if files.gguf else load_language_model(files.folder, what)
    for note in (*files.notes, *loaded.notes):
        say(f"{what}: {note}")
    model = loaded.model
    model.generation_config = GenerationConfig.from_model_config(model.config)  # others' may be refused when saved
    check_finite(model, f"{what}: {files.folder}", "give a checkpoint from before its training went astray")
    if not isinstance(getattr(model.config, "hidden_size", None), int):
        raise PoolError(
            f"{what}: its configuration ({type(model).__name__}) has no hidden_size, which windows are planned by; "
            "give a decoder of text alone"
        )
    _probe(model, what)
    tokenizer = _load_tokenizer(files.tokenizer, model, what)
    origin = Origin(
        weights_digest=files.weights_digest,
        config_digest=files.config_digest,
        tokenizer_digest=tokenizer_digest(tokenizer),
    )
    return Foreign(model, tokenizer, origin)


def _probe(model: PreTrainedModel, what: str) -> None:
    """Check on a few tokens that training is deterministic and no position sees the next token."""
    length = min(_PROBE_TOKENS, most_positions(model.config) or _PROBE_TOKENS)
    tokens = torch.arange(length) % rows_of(model, what)
    other = torch.cat([tokens[:-1], tokens[:1]])
    both = torch.stack([tokens, other])
    with torch.no_grad():
        first, second = model(input_ids=both, use_cache=False).logits
        trained = model.train()(input_ids=both, use_cache=False).logits[0]  # the same batch: rounded alike
    at_rest(model)
    atol = _PROBE_TOLERANCE * float(first.abs().max())
    if not torch.allclose(first[:-1], second[:-1], rtol=0, atol=atol):
        raise PoolError(
            f"{what}: {type(model).__name__} sees the tokens it is to predict; give a causal language model"
        )
    if not torch.allclose(first, trained, rtol=0, atol=atol):
        raise PoolError(f"{what}: {type(model).__name__} computes by chance while it trains; give another model")


def _load_tokenizer(folder: Path, model: PreTrainedModel, what: str) -> PreTrainedTokenizerFast:
    tokenizer = load_tokenizer(folder, "save it anew with save_pretrained()", most=rows_of(model, what))
    check_vocabulary(model, tokenizer.get_vocab().values(), what)
    for name in ("bos_token", "eos_token"):  # older tokenizers leave it to the model's configuration
        number = getattr(model.config, f"{name}_id", None)
        if getattr(tokenizer, name) is None and isinstance(number, int):
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(number))
    try:
        end_of_text(tokenizer)
    except PoolError as error:
        raise PoolError(f"{what}: {folder}: {error}") from None
    return tokenizer


def read_given_seed(wanted: SeedConfig, pool: Path) -> Foreign:
    """Load and check the seed named in the pool file. Raises `PoolError`."""
    files = given_seed_files(wanted, pool)
    foreign = load_foreign(files, GIVEN_SEED)
    longest = most_positions(foreign.model.config)
    if longest is not None and wanted.context is not None and wanted.context > longest:
        raise PoolError(
            f"{GIVEN_SEED} context {wanted.context} is more than the {longest} tokens the model was made for; set it "
            f"to at most {longest}"
        )
    if wanted.hub is None:
        return foreign
    named = {"hub": wanted.hub, "revision": wanted.revision, "commit": files.folder.name}
    return replace(foreign, origin=foreign.origin.model_copy(update=named))


def save_given_seed(foreign: Foreign, context: int, folder: Path) -> CheckpointManifest:
    """Write a given seed into an existing empty folder, its manifest last."""
    manifest = imported_manifest(
        foreign.origin,
        shape=GivenShape(architecture=type(foreign.model).__name__, context=context),
        start_digest=foreign.origin.weights_digest,
        tokenizer_digest=foreign.origin.tokenizer_digest,
    )
    return save_checkpoint(foreign.model, foreign.tokenizer, folder, manifest)


@dataclass(frozen=True)
class Seed:
    """The pool's seed, and the pool's tokenizer."""

    folder: Path
    manifest: CheckpointManifest
    tokenizer: PreTrainedTokenizerFast


@dataclass(frozen=True)
class Candidate:
    """A checkpoint fit to be a member: its cosine to the seed, and the manifest of ours beside it, if any."""

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
        return save_checkpoint(model, self.seed.tokenizer, folder, manifest)


def check_candidate(folder: Path, seed: Seed, what: str, *, tokenizer: Path | None = None) -> Candidate:
    """Load a checkpoint and compare it with the seed; messages call the checkpoint `what`.

    Raises `PoolError` for another architecture or origin, `PoolMismatchError` for another tokenizer or recorded seed.
    """
    foreign = load_foreign(find_foreign(folder, what, tokenizer), what)
    start = load_model(seed.folder)
    check_same_architecture(foreign.model, start, what)
    theirs, ours = tokenizer_digest(foreign.tokenizer), tokenizer_digest(seed.tokenizer)
    if theirs != ours:
        raise PoolMismatchError(
            f"{what}: its tokenizer is not the pool's ({short(theirs)}, not {short(ours)}); losses of models with "
            "different tokenizers do not compare, and their merge means nothing; give a checkpoint with the pool's own"
        )
    record = _record(folder, what)
    if record is not None and record.start_digest != seed.manifest.weights_digest:
        raise PoolMismatchError(
            f"{what}: its {MANIFEST} says that it was trained from another seed ({short(record.start_digest)}, not "
            f"{short(seed.manifest.weights_digest)}); members merge only when all start from one seed: train from "
            f"{seed.folder}"
        )
    return Candidate(foreign, seed, cosine_to_seed(foreign.model, start, what), record)


def _record(folder: Path, what: str) -> CheckpointManifest | None:
    """Read the manifest of ours beside a checkpoint, if any. Raises `PoolError` when the two differ."""
    try:
        ours = "weights_digest" in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    return verify_checkpoint(folder, what, "copy it again") if ours else None
