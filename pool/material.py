"""What a pool is trained from: the prepared corpus and the tokenizer. Checked whole before any of it is written."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from pool.config import PoolFile
from pool.disk import new_folder, replace_folder
from pool.errors import ConfigError, PoolError, PoolMismatchError
from pool.foreign import Foreign
from pool.given_seed import read_given_seed
from pool.kept_text import say_little_kept
from pool.manifest import MANIFEST, CheckpointManifest, CorpusManifest, Origin, read_record
from pool.prepared import (
    CORPUS_RECORD,
    PreparedCorpus,
    load_prepared,
    read_corpus,
    source_digest,
    tokenise,
)
from pool.progress import say
from pool.provenance import changes_by_checkpoint, describe_changes, describe_moves, seed_mixture
from pool.store import POOL_RECORD, member_folder
from pool.tokenizer import kept_tokenizer, save_tokenizer, tokenizer_digest, train_tokenizer

EVERYTHING = "all"
SEED = "seed"


@dataclass(frozen=True)
class Material:
    """A prepared corpus and the tokenizer that made it; `new` is where the corpus is when it is not the pool's yet.

    `given` is the seed to be taken over, where it was trained already and is not in the pool yet.
    """

    corpus: PreparedCorpus
    tokenizer: PreTrainedTokenizerFast
    new: Path | None
    given: Foreign | None = None


def prepare_material(config: PoolFile, rebuild: Collection[str], scratch: Path) -> Material:
    """Read or reuse corpus, tokenizer and a given seed, writing nothing but into the folder `scratch`.

    Raises `CorpusError` for text that cannot serve, `ConfigError` for a name in `rebuild` that is none, `PoolError` for
    a given seed that cannot serve, and `PoolMismatchError` naming the seed and members that a change touches and that
    `rebuild` does not name.
    """
    from_scratch, seed_wanted = EVERYTHING in rebuild, _seed_wanted(config, rebuild)
    kept = None if from_scratch else kept_tokenizer(config)
    given = read_given_seed(config) if config.seed.is_given and (seed_wanted or kept is None) else None
    if given is not None:
        _say_moved(config, given.origin)
        if kept is not None:
            _check_tokenizer(config, given, kept)
    material = _reused(config, kept) if kept is not None else None
    if material is None:
        material = _made(config, scratch, given.tokenizer if given else kept)
    _check_names(rebuild, material.corpus.manifest)
    seed = seed_mixture(config, material.corpus.manifest) if seed_wanted and given is None else None
    if not from_scratch:
        _refuse_changed(config, material.corpus.manifest, rebuild)
    say_little_kept(config, material.corpus.manifest, seed)
    return replace(material, given=given if seed_wanted else None)


def write_material(material: Material, config: PoolFile) -> Material:
    """Put new material in its place, and return it from there.

    The pool's record goes first, so that a half-changed pool is never believed.
    """
    folder = config.folder
    if material.new is None:
        return material
    (folder / POOL_RECORD).unlink(missing_ok=True)
    if not (folder / "tokenizer" / MANIFEST).is_file():
        with new_folder(folder / "tokenizer") as new:
            save_tokenizer(material.tokenizer, None if config.seed.is_given else config.tokenizer, new)
    replace_folder(material.new, folder / "corpus")
    corpus = load_prepared(folder / "corpus", material.corpus.manifest)
    return replace(material, corpus=corpus, new=None)


def _seed_wanted(config: PoolFile, rebuild: Collection[str]) -> bool:
    """Whether the seed is to be made, or taken over: it is not there, or is to go."""
    return EVERYTHING in rebuild or SEED in rebuild or not (config.folder / SEED / MANIFEST).is_file()


def _say_moved(config: PoolFile, now: Origin) -> None:
    """Say that a tag of the hub is another commit than it was when the pool's seed was taken over."""
    with contextlib.suppress(PoolError):  # a record that is missing or broken: it is about to be written anew
        before = read_record(config.folder / SEED / MANIFEST, CheckpointManifest).imported or now
        is_same = (before.hub, before.revision) == (now.hub, now.revision)
        if is_same and before.commit != now.commit:
            say(f"the seed: {now.hub} at {now.revision} was commit {before.commit}, and is {now.commit} now")


def _check_tokenizer(config: PoolFile, given: Foreign, kept: PreTrainedTokenizerFast) -> None:
    if tokenizer_digest(given.tokenizer) != tokenizer_digest(kept):
        raise PoolMismatchError(
            f"pool {config.name!r}: the tokenizer of the given seed is not the pool's, and every model of a pool "
            "shares one; build anew with `mixscout pool build POOL.toml --rebuild all`, or give the pool another name"
        )


def _reused(config: PoolFile, tokenizer: PreTrainedTokenizerFast) -> Material | None:
    record = config.folder / "corpus" / CORPUS_RECORD
    if not record.is_file():
        return None
    manifest = read_record(record, CorpusManifest)
    if manifest.source_digest != source_digest(config):
        return None
    corpus = load_prepared(config.folder / "corpus", manifest)
    return Material(corpus, tokenizer, new=None)


def _made(config: PoolFile, scratch: Path, tokenizer: PreTrainedTokenizerFast | None) -> Material:
    say("corpus: reading text")
    text = read_corpus(config, scratch)
    if tokenizer is None:
        tokenizer = train_tokenizer(text, config.tokenizer)
    new = scratch / "corpus"
    new.mkdir()
    manifest = tokenise(text, tokenizer, config, new)
    say(f"corpus: {len(manifest.partitions)} partitions, {len(manifest.search)} held-out domains")
    return Material(load_prepared(new, manifest), tokenizer, new)


def _check_names(rebuild: Collection[str], manifest: CorpusManifest) -> None:
    known = (EVERYTHING, SEED, *manifest.partitions)
    unknown = sorted(set(rebuild) - set(known))
    if unknown:
        raise ConfigError(f"--rebuild {unknown[0]}: no such member; there are {', '.join(known)}")


def _refuse_changed(config: PoolFile, corpus: CorpusManifest, rebuild: Collection[str]) -> None:
    seed_record = config.folder / SEED / MANIFEST
    if SEED in rebuild or not seed_record.is_file():
        return
    seed = read_record(seed_record, CheckpointManifest)
    records = {name: member_folder(config.folder, name) / MANIFEST for name in corpus.partitions}
    members = {
        name: read_record(path, CheckpointManifest)
        for name, path in records.items()
        if name not in rebuild and path.is_file()
    }
    changed = changes_by_checkpoint(config, corpus, seed, members)
    if changed:
        record = config.folder / "corpus" / CORPUS_RECORD
        before = read_record(record, CorpusManifest) if record.is_file() else corpus
        moves = describe_moves(changed, tuple(before.partitions), tuple(corpus.partitions))
        raise PoolMismatchError(describe_changes(changed, moves))
