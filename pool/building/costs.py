"""The costs of a build, before it is done: runs to train, text to read, time, memory and disk. Nothing is written.

The text is measured on the first megabytes of every section, made tokens by the real path in a temporary folder.
"""

import json
import tempfile
import time
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pool.building.foresight import Request, check_before_reading, foresee
from pool.building.job import SEED_TEXT_WINDOWS
from pool.building.training.costs import Costs, Seconds, Setting, TrainingPace, measure_training, pace_key
from pool.building.training.run_files import checkpoints_of, scratches_of, step_of
from pool.checkpoints.checkpoint import load_model, new_model
from pool.config.pool_file import CorpusConfig, PoolFile, naming
from pool.config.recipe import Recipe
from pool.config.sources import PartitionSource, TextSource
from pool.corpus.documents import read_labelled_documents
from pool.corpus.files import digest_text
from pool.corpus.reading.source_files import files_of, passed_over
from pool.corpus.reading.unpacked import is_packed
from pool.engines.engine import ONE_BY_ONE, Engine
from pool.engines.resources import watched_memory
from pool.errors import CorpusError
from pool.files.records import MANIFEST, read_record
from pool.files.whole import bytes_of_folder
from pool.parts.layout import CORPUS, SEED, TOKENIZER, PoolLayout, member_part
from pool.parts.others import read_given_seed
from pool.parts.provenance import label
from pool.parts.store import verified
from pool.progress import say
from pool.tokens.prepared import CORPUS_RECORD, TRAIN, CorpusManifest
from pool.tokens.preparing import read_text, tokenise
from pool.tokens.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

SAMPLE_BYTES = 8_000_000
"""Text that a calibration reads of all sections together."""
_LEAST_SAMPLE_BYTES = 100_000
_INDEX_SHARE = 0.2
"""The index of the store of documents, as a share of their text."""


@dataclass(frozen=True)
class _Text:
    """The corpus of a build, estimated: tokens by partition, seconds by step, and bytes on disk.

    passing_bytes: size of the store of documents while text is read
    exact: whether all of the text was read
    """

    partitions: Mapping[str, int]
    seconds: Mapping[str, Seconds]
    disk_bytes: int
    passing_bytes: int
    tokenizer_bytes: int
    vocabulary: int
    exact: bool = True


def build_costs(config: PoolFile, rebuild: Sequence[str] = (), engine: Engine = ONE_BY_ONE) -> Costs:
    """Measure the costs of `build_pool` by an engine; write nothing into the pool.

    Raises a `MixscoutError` for whatever the build refuses before its text is read, and `PoolError` for too little
    memory or disk for a calibration.
    """
    with naming(config), watched_memory() as peak:
        request = Request(config, frozenset(rebuild))
        foresee(request, trains_here=not engine.elsewhere)
        text = _known_text(request) or _measured_text(request)
        layout = request.layout(text.partitions, corpus_is_new=bool(text.seconds))
        missing = [name for name in (SEED, *text.partitions) if not _is_there(name, layout)]
        setting = Setting.of(engine, sum(name != SEED for name in missing))
        paces = _paces(request, missing, text.vocabulary, setting)
        looks = 2 * SEED_TEXT_WINDOWS if not config.seed.is_given else 0
        times = {name: _time(config, name, layout, pace, looks=looks) for name, pace in paces.items()}
    members = [times[name] for name in times if name != SEED]
    parts = dict(text.seconds)
    if SEED in times:
        parts["the seed"] = times[SEED] + Seconds.exactly(paces[SEED].first)
    if members:
        parts["members"] = setting.all(members)
    kept = sum(_bytes_of(config, name, pace, text.tokenizer_bytes) for name, pace in paces.items())
    passing = max([text.passing_bytes, *(pace.passing_bytes * setting.places for pace in paces.values())])
    recipes = [_recipe(config, name) for name in paces]
    notes = [] if text.exact else ["the text is estimated from a sample of it"]
    if any(recipe.early_stopping for recipe in recipes):
        notes.append("runs with early stopping may end sooner")
    return Costs(
        f"the build of pool {config.name!r}",
        runs=len(paces),
        train_tokens=sum(recipe.windows(config.context) * config.context for recipe in recipes),
        parts=parts,
        memory_bytes=peak.bytes,
        more_memory_bytes=peak.bytes * setting.places if setting.places > 1 else 0,
        disk_bytes=text.disk_bytes + kept,
        passing_bytes=passing,
        remembered={"models": len(text.partitions) + 1 - len(missing), "corpus": int(not text.seconds)},
        place=config.folder,
        notes=tuple(notes),
    )


def _recipe(config: PoolFile, name: str) -> Recipe:
    return config.seed.recipe if name == SEED else config.recipe


def _time(config: PoolFile, name: str, layout: PoolLayout, pace: TrainingPace, *, looks: int) -> Seconds:
    """Return the time of a run from its last checkpoint on; members also score `looks` windows of the seed's text."""
    place = layout.of(SEED if name == SEED else member_part(name))
    begun = [one for scratch in scratches_of(place) for one in checkpoints_of(scratch)]
    done = max(map(step_of, begun), default=0)
    return pace.run(_recipe(config, name), config.context, done=done, forwards=0 if name == SEED else looks)


def _bytes_of(config: PoolFile, name: str, pace: TrainingPace, tokenizer_bytes: int) -> int:
    """Return the bytes of a finished checkpoint: model, tokenizer, and what its recipe keeps beside them."""
    recipe, size = _recipe(config, name), pace.model_bytes + tokenizer_bytes
    if name == SEED:
        return size + (2 * pace.model_bytes if config.recipe.continue_optimizer else 0)
    every = recipe.keep_every_steps
    ages = (recipe.steps(config.context) - 1) // every if every else 0
    return size + ages * pace.model_bytes


def _is_there(name: str, layout: PoolLayout) -> bool:
    """Tell whether a build takes the seed or a member as it is. Raises `PoolError` for a damaged one of the pool."""
    part = SEED if name == SEED else member_part(name)
    if not (layout.of(part) / MANIFEST).is_file():
        return False
    if part not in layout.new:
        verified(name, layout.of(part))
    return True


def _paces(request: Request, missing: Collection[str], vocabulary: int, setting: Setting) -> dict[str, TrainingPace]:
    """Measure the runs that are missing, those alike once."""
    config, found = request.config, dict[tuple[object, ...], TrainingPace]()
    trained = [name for name in missing if name != SEED or not config.seed.is_given]
    model: PreTrainedModel | None = None
    paces = {}
    for name in trained:
        recipe, own = _recipe(config, name), setting if name != SEED else Setting()
        if (key := pace_key(recipe, own)) not in found:
            if model is None:
                model = _model(request, vocabulary)
            say(f"measuring a few steps of training: {label(name)}")
            what = f"training {label(name)} of pool {config.name!r}"
            found[key] = measure_training(model, recipe, config.context, own, what=what)
        paces[name] = found[key]
    return paces


def _model(request: Request, vocabulary: int) -> PreTrainedModel:
    config = request.config
    if not request.is_new(SEED):
        return load_model(config.folder / SEED)
    if config.seed.is_given:
        return read_given_seed(config.seed, config.folder).model
    return new_model(config.model, vocabulary, initial_seed=config.seed.initial_seed)


def _known_text(request: Request) -> _Text | None:
    """Take the corpus that the pool, or an interrupted build, has of this text; None without one."""
    folder, stage = request.config.folder, request.stage
    for corpus in [] if request.anew else [folder / CORPUS, *([stage / CORPUS] if stage else [])]:
        if (corpus / CORPUS_RECORD).is_file():
            manifest = read_record(corpus / CORPUS_RECORD, CorpusManifest)
            if manifest.source_digest == request.text.whole:
                tokens = {name: one.tokens for name, one in manifest.partitions.items()}
                return _Text(tokens, {}, 0, 0, bytes_of_folder(folder / TOKENIZER), request.config.tokenizer.vocabulary)
    check_before_reading(request)
    return None


def _measured_text(request: Request) -> _Text:
    """Prepare a sample of the text, or all of it where the sample has too little of a partition."""
    say("measuring the text on a sample of it")
    corpus = request.config.corpus
    each = max(_LEAST_SAMPLE_BYTES, SAMPLE_BYTES // max(1, len(corpus.partitions) + len(corpus.held_out)))
    try:
        return _prepared(request, each)
    except CorpusError:
        return _prepared(request, None)


def _prepared(request: Request, most_bytes: int | None) -> _Text:
    config, times = request.config, [time.perf_counter()]
    with tempfile.TemporaryDirectory(prefix="mixscout-costs-") as name:
        folder = Path(name)
        for place in ("store", CORPUS, TOKENIZER):
            (folder / place).mkdir()
        corpus, more = _sampled(config.corpus, folder, most_bytes)
        times = [time.perf_counter()]
        text = read_text(corpus, folder / "store")
        sizes = {one: text.corpus.partitions[one].bytes for one in text.corpus.partitions}
        times.append(time.perf_counter())
        tokenizer = _given_tokenizer(request) or train_tokenizer(text.corpus.partitions, config.tokenizer)
        times.append(time.perf_counter())
        manifest = tokenise(text, tokenizer, corpus, folder / CORPUS, digest_text(corpus, config.context))
        times.append(time.perf_counter())
        save_tokenizer(tokenizer, config.own_tokenizer, folder / TOKENIZER)
        return _scaled(config, manifest, more, sizes, [b - a for a, b in pairwise(times)], folder, len(tokenizer))


def _scaled(
    config: PoolFile,
    manifest: CorpusManifest,
    more: Mapping[str, float],
    sizes: Mapping[str, int],
    seconds: Sequence[float],
    folder: Path,
    vocabulary: int,
) -> _Text:
    """Scale what a sample took to all of the text; `more` is the text of a section over its sample."""
    whole = {name: size * _of_section(name, more) for name, size in sizes.items()}
    times = sum(whole.values()) / sum(sizes.values())
    most, unit, tokens = config.corpus.train_tokens, config.corpus.base_units_tokens, dict[str, int]()
    for name, part in manifest.partitions.items():
        available = part.available_tokens * _of_section(name, more)
        units = max(1, round(available / unit)) if unit else 1
        names = [f"{name}-{number}" for number in range(1, units + 1)] if units > 1 else [name]
        tokens |= dict.fromkeys(names, min(most, round(available / units)))
    read, trained, made = seconds
    sample = config.tokenizer.sample_bytes
    again = sum(tokens.values()) / sum(part.tokens for part in manifest.partitions.values())
    steps = {
        "reading text": Seconds.exactly(read * times),
        "the tokenizer": Seconds.exactly(trained * min(sample, sum(whole.values())) / min(sample, sum(sizes.values()))),
        "tokens": Seconds.exactly(made * again),
    }
    streams = bytes_of_folder(folder / CORPUS / TRAIN)
    others = bytes_of_folder(folder / CORPUS) - streams
    disk = round(streams * again + others * min(times, 2.0)) + bytes_of_folder(folder / TOKENIZER)
    passing = round(sum(whole.values()) * (1 + _INDEX_SHARE))
    exact = all(factor == 1 for factor in more.values())
    return _Text(tokens, steps, disk, passing, bytes_of_folder(folder / TOKENIZER), vocabulary, exact)


def _of_section(partition: str, more: Mapping[str, float]) -> float:
    """Return the factor of a partition's section, whose name begins the partition's."""
    sections = [name for name in more if partition == name or partition.startswith(f"{name}-")]
    return more[max(sections, key=len)] if sections else 1.0


def _sampled(config: CorpusConfig, folder: Path, most_bytes: int | None) -> tuple[CorpusConfig, dict[str, float]]:
    """Copy the beginning of every section's text; return the copies, and how many times more text each section has."""
    if config.source == "demo":
        return config, {}
    copies, more = {}, {}
    for number, (name, source) in enumerate({**config.partitions, **config.held_out}.items()):
        field = source.partition_by if isinstance(source, PartitionSource) else None
        path, size, whole = folder / f"{number}.jsonl", 0, True
        with path.open("w", encoding="utf-8") as stream:
            for text, value in read_labelled_documents(name, source, field):
                stream.write(json.dumps({"text": text, "value": value or None}) + "\n")
                size += len(text)
                whole = most_bytes is None or size < most_bytes
                if not whole:
                    break
        copy = {"files": (path,), "hub": None, "format": "jsonl", "column": "text", "encoding": None}
        copies[name] = source.model_copy(update=copy | ({"partition_by": "value"} if field else {}))
        more[name] = 1.0 if whole else _times_more(name, source, path)
    update = {kind: {name: copies[name] for name in getattr(config, kind)} for kind in ("partitions", "held_out")}
    return config.model_copy(update={**update, "base_units_tokens": None, "groups": {}}), more


def _times_more(name: str, source: TextSource, sample: Path) -> float:
    """Return the size of a section's files over its sample's, packed alike; 1 for a data set of the hub."""
    plain = sample.read_bytes()
    packed, size = len(zlib.compress(plain)), 0.0
    listed = files_of(name, source)
    if listed.empty:
        say(passed_over(name, listed.empty))
    for path in listed.paths:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        for file in files:
            with file.open("rb") as stream:
                is_small = source.format == "parquet" or is_packed(stream.read(10))
            size += file.stat().st_size * (len(plain) / packed if is_small else 1)
    return max(1.0, size / len(plain))


def _given_tokenizer(request: Request) -> PreTrainedTokenizerFast | None:
    config = request.config
    if not request.anew and (config.folder / TOKENIZER / MANIFEST).is_file():
        return load_tokenizer(config.folder / TOKENIZER)
    return read_given_seed(config.seed, config.folder).tokenizer if config.seed.is_given else None
