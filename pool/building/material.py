"""The material of a pool: its prepared corpus and tokenizer, checked as a whole before any of it is written."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedTokenizerFast

from pool.building.foresight import EVERYTHING, Request, check_before_reading
from pool.checkpoints.manifest import CheckpointManifest, Origin
from pool.config.pool_file import PoolFile, TokenizerConfig
from pool.corpus.corpus import all_copies
from pool.corpus.files import digest_text
from pool.errors import ConfigError, CorpusError, PoolError, PoolMismatchError
from pool.files.records import MANIFEST, read_record
from pool.files.whole import new_folder, replace_folder
from pool.parts.layout import CORPUS, SEED, TOKENIZER, PoolLayout, member_folder, stages
from pool.parts.others import Foreign, read_given_seed
from pool.parts.provenance import (
    ALL_MEMBERS,
    describe_changes,
    describe_moves,
    member_changes,
    remedy_of,
    seed_changes,
    seed_mixture,
)
from pool.progress import say
from pool.tokens.blank_tokens import check_unknown, listed, special_within, unknown_shares
from pool.tokens.prepared import CORPUS_RECORD, CorpusManifest, PreparedCorpus, load_prepared
from pool.tokens.preparing import read_text, tokenise
from pool.tokens.reuse import Earlier
from pool.tokens.tokenizer import (
    end_of_text,
    kept_tokenizer,
    load_tokenizer,
    plain,
    save_tokenizer,
    tokenizer_digest,
    train_tokenizer,
)


@dataclass(frozen=True)
class Material:
    """The corpus and tokenizer of a build.

    new: folder of the corpus while it is not the pool's own.
    given: a seed trained elsewhere, not yet in the pool.
    """

    corpus: PreparedCorpus
    tokenizer: PreTrainedTokenizerFast
    new: Path | None
    given: Foreign | None = None


def prepare_material(
    request: Request, scratch: Path, check: Callable[[PretrainedConfig], None] = lambda configuration: None
) -> Material:
    """Read or reuse corpus, tokenizer and a given seed; write into the folder `scratch` only.

    `check` looks at the configuration of a seed that was loaded, before any text is read.
    Raises `CorpusError`, `ConfigError`, `PoolError`, and `PoolMismatchError` for changes to a kept seed or member.
    """
    config, seed_wanted = request.config, request.is_new(SEED)
    kept = None if request.anew else _kept_tokenizer(config)
    given = None
    if config.seed.is_given and (seed_wanted or kept is None):
        given = read_given_seed(config.seed, config.folder)
        check(given.model.config)
        _say_moved(config.folder, given.origin)
        if kept is not None:
            _check_tokenizer(config.name, given, kept)
    kept = _waiting_tokenizer(request, given) or kept
    material = _reused(request, kept) if kept is not None else None
    if material is None:
        material = _made(request, scratch, given.tokenizer if given else kept)
    corpus = material.corpus.manifest
    _say_unknown(corpus, config.corpus.max_unknown_share, material.tokenizer)
    known = (EVERYTHING, SEED, *corpus.partitions)
    if unknown := sorted(request.rebuild - {ALL_MEMBERS, *known}):
        raise ConfigError(f"--rebuild {unknown[0]}: no such member; there are {', '.join(known)}")
    seed = seed_mixture(config.seed.mixture, corpus) if seed_wanted and given is None else None
    if not request.anew:
        _refuse_changed(request, corpus)
    context = config.context
    own = config.recipe.windows(context) * context * (1 - config.recipe.replay_share)
    reads = {"[recipe]: a member": dict.fromkeys(corpus.partitions, own)}
    if seed is not None:
        tokens = config.seed.recipe.windows(context) * context
        reads["[seed.recipe]: the seed"] = {name: weight * tokens for name, weight in seed.as_dict().items()}
    _say_little_kept(reads, config.corpus.train_tokens, config.corpus.base_units_tokens, corpus)
    return replace(material, given=given if seed_wanted else None)


def write_material(material: Material, own_tokenizer: TokenizerConfig | None, layout: PoolLayout) -> None:
    """Move a new corpus to its place, and write the tokenizer if its place is empty."""
    if not (layout.tokenizer / MANIFEST).is_file():
        with new_folder(layout.tokenizer) as new:
            save_tokenizer(material.tokenizer, own_tokenizer, new)
    if material.new is not None and material.new != layout.corpus:
        replace_folder(material.new, layout.corpus)


def _say_moved(pool: Path, now: Origin) -> None:
    with contextlib.suppress(PoolError):  # a missing or broken record is about to be replaced
        before = read_record(pool / SEED / MANIFEST, CheckpointManifest).imported or now
        is_same = (before.hub, before.revision) == (now.hub, now.revision)
        if is_same and before.commit != now.commit:
            say(f"the seed: {now.hub} at {now.revision} was commit {before.commit}, and is {now.commit} now")


def _check_tokenizer(pool: str, given: Foreign, kept: PreTrainedTokenizerFast) -> None:
    if tokenizer_digest(given.tokenizer) != tokenizer_digest(kept):
        raise PoolMismatchError(
            f"pool {pool!r}: the tokenizer of the given seed is not the pool's, and every model of a pool shares one; "
            "build anew with `mixscout pool build POOL.toml --rebuild all`, or give the pool another name"
        )


def _kept_tokenizer(config: PoolFile) -> PreTrainedTokenizerFast | None:
    """Load the pool's tokenizer; restore a missing or damaged one from the seed's copy. None before there is a seed."""
    place, seed = config.folder / TOKENIZER, config.folder / SEED
    try:
        kept = kept_tokenizer(place, config.own_tokenizer, config.name)
        if kept is not None or not (seed / MANIFEST).is_file():
            return kept
    except PoolMismatchError:
        raise
    except PoolError:
        if not (seed / MANIFEST).is_file():
            shutil.rmtree(place)
            return None
    beyond = "and the seed has no whole copy; run `mixscout pool build POOL.toml --rebuild all`, which makes all anew"
    try:
        recorded, kept = read_record(seed / MANIFEST, CheckpointManifest), load_tokenizer(seed)
    except PoolError:
        raise PoolError(f"{place} is missing or damaged, {beyond}") from None
    if tokenizer_digest(kept) != recorded.tokenizer_digest:
        raise PoolError(f"{place} is missing or damaged, {beyond}")
    with new_folder(place) as new:
        save_tokenizer(kept, config.own_tokenizer, new)
    say("tokenizer: missing or damaged, and restored from the seed's copy")
    return kept


def _waiting_tokenizer(request: Request, given: Foreign | None) -> PreTrainedTokenizerFast | None:
    """Load the tokenizer of an interrupted build; discard a build with another given seed."""
    config, stage = request.config, request.stage
    if stage is None:
        return None
    seed = stage / SEED / MANIFEST
    try:
        kept = kept_tokenizer(stage / TOKENIZER, config.own_tokenizer, config.name)
        imported = read_record(seed, CheckpointManifest).imported if given and seed.is_file() else None
    except PoolError:  # damaged while it waited
        shutil.rmtree(stage)
        return None
    if given is None:
        return kept
    same_tokenizer = kept is None or tokenizer_digest(kept) == given.origin.tokenizer_digest
    if same_tokenizer and (not seed.is_file() or imported == given.origin):
        return kept
    shutil.rmtree(stage)
    return None


def _reused(request: Request, tokenizer: PreTrainedTokenizerFast) -> Material | None:
    """Take the pool's corpus, or the waiting one, if it is made of the pool file's text."""
    ours = request.config.folder / CORPUS
    waiting = [request.stage / CORPUS] if request.stage is not None else []
    for corpus in waiting if request.anew else [ours, *waiting]:
        if not (corpus / CORPUS_RECORD).is_file():
            continue
        try:
            manifest = read_record(corpus / CORPUS_RECORD, CorpusManifest)
            if manifest.source_digest == request.text.whole:
                prepared = load_prepared(corpus, manifest)
                _say_special(prepared, tokenizer)
                return Material(prepared, tokenizer, new=None if corpus == ours else corpus)
        except PoolError as error:
            say(f"corpus: {str(error).rpartition('; ')[0]}; it is made again")
    return None


def _made(request: Request, scratch: Path, tokenizer: PreTrainedTokenizerFast | None) -> Material:
    config, source = request.config, request.text
    say("corpus: reading text")
    earlier = None
    if tokenizer is not None and not request.anew:  # also a corpus that waits for another build
        corpora = [folder / CORPUS for folder in (config.folder, *stages(config.folder))]
        earlier = Earlier.find(corpora, source, tokenizer_digest(tokenizer))
    check_before_reading(request)
    text = read_text(config.corpus, scratch, earlier)
    _check_settled(request)
    for line in all_copies(text.store):
        say(f"corpus: {line}")
    if tokenizer is None:
        tokenizer = train_tokenizer(text.corpus.partitions, config.tokenizer)
    new = scratch / CORPUS
    new.mkdir()
    request.seen.write(new)
    manifest = tokenise(text, tokenizer, config.corpus, new, source)
    if text.kept:
        say(f"corpus: {len(text.kept)} of {len(text.sections)} sources as they were")
    say(f"corpus: {len(manifest.partitions)} partitions, {len(manifest.search)} held-out domains")
    prepared = load_prepared(new, manifest)
    if text.kept:
        _say_special(prepared, tokenizer)
    return Material(prepared, tokenizer, new)


def _say_unknown(corpus: CorpusManifest, most: float, tokenizer: PreTrainedTokenizerFast) -> None:
    if shares := unknown_shares(corpus):
        name = plain(tokenizer).unknown_name
        check_unknown(corpus, most, name)
        say(f"corpus: text unknown to the tokenizer ({name}), share of tokens: {listed(shares)}")


def _say_special(prepared: PreparedCorpus, tokenizer: PreTrainedTokenizerFast) -> None:
    """Say that an earlier version read the names of special tokens as these tokens; its corpus stays valid."""
    for what, count in special_within(prepared, plain(tokenizer), end_of_text(tokenizer)).items():
        say(
            f"{what}: {count:,} special tokens stand within its text, which spells them and was prepared by an earlier "
            "version; it stays as it is, and `mixscout pool build POOL.toml --rebuild all` makes them text"
        )


def _check_settled(request: Request) -> None:
    now = digest_text(request.config.corpus, request.config.context, request.seen.digest_of)
    for section, digest in request.text.sections.items():
        if now.sections[section] != digest:
            raise CorpusError(
                f"[corpus.{section.replace('/', '.')}]: its text changed while it was read; run the same command again "
                "when nothing writes to it"
            )


def _refuse_changed(request: Request, corpus: CorpusManifest) -> None:
    config, folder = request.config, request.config.folder
    if request.is_new(SEED):
        return
    seed = read_record(folder / SEED / MANIFEST, CheckpointManifest, remedy_of(SEED))
    members = {
        name: read_record(member_folder(folder, name) / MANIFEST, CheckpointManifest, remedy_of(name))
        for name in corpus.partitions
        if not request.is_new(name)
    }
    digest = corpus.tokenizer_digest
    changed = seed_changes(seed, config.seed, config.model, tokenizer_digest=digest, pool=folder)
    changed |= member_changes(config.recipe, corpus, seed, members)
    if changed:
        before = corpus
        with contextlib.suppress(PoolError):  # missing or damaged: nothing is known of moves
            before = read_record(folder / CORPUS / CORPUS_RECORD, CorpusManifest)
        moves = describe_moves(changed, tuple(before.partitions), tuple(corpus.partitions))
        raise PoolMismatchError(describe_changes(changed, config.recipe, members, moves))


def _say_little_kept(
    reads: Mapping[str, Mapping[str, float]], kept: int, unit: int | None, corpus: CorpusManifest
) -> None:
    """Warn of base units larger than the `kept` tokens, and of runs that repeat kept text while more is available.

    reads: tokens read of each partition, by the run's name in the message.
    """
    longest = max(part.available_tokens for part in corpus.partitions.values())
    if unit is not None and kept < min(unit, longest):
        say(
            f"[corpus] base_units_tokens is {unit:,}, and train_tokens keeps {kept:,} of a base unit, which has up to "
            f"{longest:,} tokens: the rest is never trained on; raise train_tokens, or cut smaller units"
        )
    parts = {name: part for name, part in corpus.partitions.items() if kept < part.available_tokens}
    for who, read in reads.items():
        epochs = {name: read[name] / part.tokens for name, part in parts.items() if read[name] > part.tokens}
        if not epochs:
            continue
        worst = max(epochs, key=lambda name: epochs[name])
        others = f", and likewise {len(epochs) - 1} more" if len(epochs) > 1 else ""
        enough = max(min(round(read[name]), parts[name].available_tokens) for name in epochs)
        part = parts[worst]
        say(
            f"{who} reads {read[worst]:,.0f} tokens of partition {worst!r}, of whose {part.available_tokens:,} tokens "
            f"train_tokens keeps {part.tokens:,}: these {epochs[worst]:.1f} times over{others}; raise [corpus] "
            f"train_tokens, up to {enough:,}, for text that is new"
        )
