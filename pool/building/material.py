"""What a pool is trained from: the prepared corpus and the tokenizer. Checked whole before any of it is written.

What `train_tokens` leaves of the text, said where runs read the little that is kept over and over.
"""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from pool.building.request import EVERYTHING, Request
from pool.checkpoints.manifest import CheckpointManifest, Origin
from pool.config.pool_file import PoolFile
from pool.errors import ConfigError, CorpusError, PoolError, PoolMismatchError
from pool.files.records import MANIFEST, read_record
from pool.files.whole import new_folder, replace_folder
from pool.mixture import Mixture
from pool.parts.exchange import stages
from pool.parts.given_seed import read_given_seed
from pool.parts.layout import CORPUS, SEED, TOKENIZER, PoolLayout, member_folder
from pool.parts.others import Foreign
from pool.parts.provenance import describe_changes, describe_moves, member_changes, seed_changes, seed_mixture
from pool.progress import say
from pool.tokens.prepared import CORPUS_RECORD, CorpusManifest, PreparedCorpus, load_prepared
from pool.tokens.reading import read_text
from pool.tokens.reuse import Earlier
from pool.tokens.text_digest import digest_text
from pool.tokens.tokenising import tokenise
from pool.tokens.tokenizer import kept_tokenizer, save_tokenizer, tokenizer_digest, train_tokenizer


def say_little_kept(config: PoolFile, corpus: CorpusManifest, seed: Mixture | None) -> None:
    """Say where members, or a seed to be trained on a mixture, go through a partition's kept text more than once though
    it has more, and where base units are larger than what is kept of them.
    """
    kept, unit = config.corpus.train_tokens, config.corpus.base_units_tokens
    longest = max(part.available_tokens for part in corpus.partitions.values())
    if unit is not None and kept < min(unit, longest):
        say(
            f"[corpus] base_units_tokens is {unit:,}, and train_tokens keeps {kept:,} of a base unit, which has up to "
            f"{longest:,} tokens: the rest is never trained on; raise train_tokens, or cut smaller units"
        )
    own = config.recipe.windows(config.context) * config.context * (1 - config.recipe.replay_share)
    _say_repeated("[recipe]: a member", dict.fromkeys(corpus.partitions, own), kept, corpus)
    if seed is not None:
        tokens = config.seed.recipe.windows(config.context) * config.context
        read = {name: weight * tokens for name, weight in seed.as_dict().items()}
        _say_repeated("[seed.recipe]: the seed", read, kept, corpus)


def _say_repeated(who: str, read: Mapping[str, float], kept: int, corpus: CorpusManifest) -> None:
    parts = {name: part for name, part in corpus.partitions.items() if kept < part.available_tokens}
    epochs = {name: read[name] / part.tokens for name, part in parts.items() if read[name] > part.tokens}
    if not epochs:
        return
    worst = max(epochs, key=lambda name: epochs[name])
    others = f", and likewise {len(epochs) - 1} more" if len(epochs) > 1 else ""
    enough = max(min(round(read[name]), parts[name].available_tokens) for name in epochs)
    part = parts[worst]
    say(
        f"{who} reads {read[worst]:,.0f} tokens of partition {worst!r}, of whose {part.available_tokens:,} tokens "
        f"train_tokens keeps {part.tokens:,}: these {epochs[worst]:.1f} times over{others}; raise [corpus] "
        f"train_tokens, up to {enough:,}, for text that is new"
    )


@dataclass(frozen=True)
class Material:
    """A prepared corpus and the tokenizer that made it; `new` is where the corpus is when it is not the pool's yet.

    `given` is the seed to be taken over, where it was trained already and is not in the pool yet.
    """

    corpus: PreparedCorpus
    tokenizer: PreTrainedTokenizerFast
    new: Path | None
    given: Foreign | None = None


def prepare_material(request: Request, scratch: Path) -> Material:
    """Read or reuse corpus, tokenizer and a given seed, writing nothing but into the folder `scratch`.

    Raises `CorpusError` for text that cannot serve, `ConfigError` for a name to rebuild that is none, `PoolError` for a
    given seed that cannot serve, and `PoolMismatchError` naming the seed and members that a change touches and that
    are not to be rebuilt.
    """
    config, seed_wanted = request.config, request.is_new(SEED)
    kept = None if request.anew else kept_tokenizer(config.folder / TOKENIZER, config.own_tokenizer, config.name)
    given = (
        read_given_seed(config.seed, config.folder) if config.seed.is_given and (seed_wanted or kept is None) else None
    )
    if given is not None:
        _say_moved(config, given.origin)
        if kept is not None:
            _check_tokenizer(config, given, kept)
    kept = _waiting_tokenizer(request, given) or kept
    material = _reused(request, kept) if kept is not None else None
    if material is None:
        material = _made(request, scratch, given.tokenizer if given else kept)
    _check_names(request, material.corpus.manifest)
    seed = seed_mixture(config.seed.mixture, material.corpus.manifest) if seed_wanted and given is None else None
    if not request.anew:
        _refuse_changed(request, material.corpus.manifest)
    say_little_kept(config, material.corpus.manifest, seed)
    return replace(material, given=given if seed_wanted else None)


def write_material(material: Material, config: PoolFile, layout: PoolLayout) -> Material:
    """Put new material where the layout has it, and return it from there."""
    if not (layout.tokenizer / MANIFEST).is_file():
        with new_folder(layout.tokenizer) as new:
            save_tokenizer(material.tokenizer, config.own_tokenizer, new)
    if material.new is None or material.new == layout.corpus:
        return material
    replace_folder(material.new, layout.corpus)
    corpus = load_prepared(layout.corpus, material.corpus.manifest)
    return replace(material, corpus=corpus, new=None)


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


def _waiting_tokenizer(request: Request, given: Foreign | None) -> PreTrainedTokenizerFast | None:
    """Load the tokenizer of an interrupted build; all of that is discarded where another seed was given then."""
    stage = request.stage
    if stage is None:
        return None
    config, seed = request.config, stage / SEED / MANIFEST
    kept = kept_tokenizer(stage / TOKENIZER, config.own_tokenizer, config.name)
    if given is None:
        return kept
    same_tokenizer = kept is None or tokenizer_digest(kept) == given.origin.tokenizer_digest
    if same_tokenizer and (not seed.is_file() or read_record(seed, CheckpointManifest).imported == given.origin):
        return kept
    shutil.rmtree(stage)
    return None


def _reused(request: Request, tokenizer: PreTrainedTokenizerFast) -> Material | None:
    """Take the pool's corpus, or the one that waits for it, where it is of the text that the pool file names."""
    ours = request.config.folder / CORPUS
    waiting = [request.stage / CORPUS] if request.stage is not None else []
    for corpus in waiting if request.anew else [ours, *waiting]:
        if (corpus / CORPUS_RECORD).is_file():
            manifest = read_record(corpus / CORPUS_RECORD, CorpusManifest)
            if manifest.source_digest == request.text.whole:
                return Material(load_prepared(corpus, manifest), tokenizer, new=None if corpus == ours else corpus)
    return None


def _made(request: Request, scratch: Path, tokenizer: PreTrainedTokenizerFast | None) -> Material:
    config, source = request.config, request.text
    say("corpus: reading text")
    earlier = None if tokenizer is None or request.anew else _earlier(request, tokenizer)
    text = read_text(config, scratch, earlier)
    _check_settled(request)
    if tokenizer is None:
        tokenizer = train_tokenizer(text.corpus, config.tokenizer)
    new = scratch / CORPUS
    new.mkdir()
    request.seen.write(new)
    manifest = tokenise(text, tokenizer, config, new, source)
    if text.kept:
        say(f"corpus: {len(text.kept)} of {len(text.tables)} sources as they were")
    say(f"corpus: {len(manifest.partitions)} partitions, {len(manifest.search)} held-out domains")
    return Material(load_prepared(new, manifest), tokenizer, new)


def _earlier(request: Request, tokenizer: PreTrainedTokenizerFast) -> Earlier:
    """Find what may be taken over: of the pool's corpus, or of one that waits, whatever for."""
    folders = [request.config.folder, *stages(request.config.folder)]
    return Earlier.find([folder / CORPUS for folder in folders], request.text, tokenizer_digest(tokenizer))


def _check_settled(request: Request) -> None:
    """Refuse text that is not what it was when the build began: what was read of it may be either."""
    now = digest_text(request.config, request.seen.digest_of)
    for table, digest in request.text.tables.items():
        if now.tables[table] != digest:
            raise CorpusError(
                f"[corpus.{table.replace('/', '.')}]: its text changed while it was read; run the same command again "
                "when nothing writes to it"
            )


def _check_names(request: Request, manifest: CorpusManifest) -> None:
    known = (EVERYTHING, SEED, *manifest.partitions)
    unknown = sorted(request.rebuild - set(known))
    if unknown:
        raise ConfigError(f"--rebuild {unknown[0]}: no such member; there are {', '.join(known)}")


def _refuse_changed(request: Request, corpus: CorpusManifest) -> None:
    config = request.config
    if request.is_new(SEED):
        return
    seed = read_record(config.folder / SEED / MANIFEST, CheckpointManifest)
    members = {
        name: read_record(member_folder(config.folder, name) / MANIFEST, CheckpointManifest)
        for name in corpus.partitions
        if not request.is_new(name)
    }
    digest = corpus.tokenizer_digest
    changed = seed_changes(seed, config.seed, config.model, tokenizer_digest=digest, pool=config.folder)
    changed |= member_changes(config.recipe, corpus, seed, members)
    if changed:
        record = config.folder / CORPUS / CORPUS_RECORD
        before = read_record(record, CorpusManifest) if record.is_file() else corpus
        moves = describe_moves(changed, tuple(before.partitions), tuple(corpus.partitions))
        raise PoolMismatchError(describe_changes(changed, moves))
