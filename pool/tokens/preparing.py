"""Prepare a corpus: read its text, then write training streams, held-out windows and their record."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from pool.config.pool_file import CorpusConfig, HeldOutSize
from pool.corpus.corpus import (
    SPLITS,
    Corpus,
    Split,
    check_domains,
    domain_place,
    held_out_place,
    make_corpus,
    more_text,
    training_place,
    with_held_out,
)
from pool.corpus.document_store import DocumentStore
from pool.corpus.documents import read_documents
from pool.corpus.files import TextDigest, demo_held_out, demo_partitions
from pool.corpus.overlap import without_overlap
from pool.corpus.partitioning import FilledSection, SectionRecord, fill_partitions
from pool.errors import PoolError
from pool.files.records import write_record
from pool.progress import track_reading, track_text, watched
from pool.tokens.base_units import Units, cut_into_units, groups_of
from pool.tokens.blank_tokens import refuse_unknown
from pool.tokens.held_out import held_out_windows
from pool.tokens.prepared import (
    CORPUS_RECORD,
    HELD_OUT,
    TRAIN,
    CorpusManifest,
    PartitionSummary,
    TextSummary,
    stream_file,
    windows_file,
)
from pool.tokens.reuse import SECTIONS_FILE, Earlier, SectionRecords, hashes_file, write_hashes
from pool.tokens.stream import BYTES_A_TOKEN, StreamLimits, digest_stream, training_stream
from pool.tokens.tokenizer import plain, tokenizer_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class ReadText:
    """The text of a pool, sorted into partitions and held-out domains.

    corpus: the text read now
    store: its documents
    partitions, domains: all names in order, those taken over from `earlier` included
    sections: the yield of each section; empty for the demo and with `drop_overlap`, as more decides the tokens there
    """

    corpus: Corpus
    store: DocumentStore
    partitions: tuple[str, ...]
    domains: tuple[str, ...]
    sections: Mapping[str, FilledSection] = field(default_factory=dict)
    earlier: Earlier = field(default_factory=Earlier)

    @property
    def kept(self) -> dict[str, SectionRecord]:
        return {section: one.kept for section, one in self.sections.items() if one.kept is not None}


def read_text(config: CorpusConfig, folder: Path | None = None, earlier: Earlier | None = None) -> ReadText:
    """Read all text missing in an earlier corpus into a store under `folder` (default: the temporary folder).

    Raises `CorpusError`, and for a full disk `PoolError`, or `OSError` under a given folder.
    """
    try:
        with track_reading("corpus: reading text") as show:
            text = _sorted_text(config, DocumentStore(folder, show), earlier or Earlier())
        if not config.drop_overlap:
            return text
        return replace(text, corpus=without_overlap(text.corpus, config.scored), sections={})
    except OSError as error:
        if folder is not None:
            raise
        raise PoolError(
            f"the corpus's text cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}; make room "
            "there, or name another folder by the environment variable TMPDIR"
        ) from error


def _sorted_text(config: CorpusConfig, store: DocumentStore, earlier: Earlier) -> ReadText:
    kept_out = config.kept_out
    if config.source == "demo":
        corpus = make_corpus(demo_partitions(), demo_held_out(), kept_out=kept_out, store=store)
        return ReadText(corpus, store, tuple(corpus.partitions), tuple(corpus.held_out))
    keep = partial(earlier.keep, store)
    filled = fill_partitions(store, config.partitions, lambda name: keep(f"partitions/{name}", training_place(name)))
    names = tuple(name for one in filled.values() for name in one.partitions)
    check_domains(names, config.held_out, kept_out)
    kept = {name: keep(f"held_out/{name}", domain_place(name)) for name in config.held_out}
    new = [name for one in filled.values() if one.kept is None for name in one.partitions]
    held_out = {name: read_documents(name, source) for name, source in config.held_out.items() if kept[name] is None}
    corpus = with_held_out(store, new, held_out, kept_out)
    if kept_out != HeldOutSize():
        filled = {name: replace(one, domains=one.partitions) for name, one in filled.items()}
    sections = {f"partitions/{name}": one for name, one in filled.items()}
    sections |= {f"held_out/{name}": FilledSection(domains=(name,), kept=record) for name, record in kept.items()}
    domains = tuple(domain for one in sections.values() for domain in one.domains)
    return ReadText(corpus, store, names, domains, sections, earlier)


def tokenise(
    text: ReadText, tokenizer: PreTrainedTokenizerFast, config: CorpusConfig, folder: Path, source: TextDigest
) -> CorpusManifest:
    """Cut the text of digest `source` into units, and write a prepared corpus to `folder`, its record last.

    Unread sections are linked from the earlier corpus. Raises `CorpusError` for text too short, or impossible to cut.
    """
    corpus, cut = cut_into_units(text.corpus, tokenizer, config.base_units_tokens)
    known = {name: units for record in text.kept.values() for name, units in record.units.items()} | cut
    units = {name: known[name] for name in text.partitions}
    grouped = config.base_units_tokens is not None or config.groups
    groups = groups_of(units, text.domains, config.groups) if grouped else {}
    (folder / TRAIN).mkdir()
    (folder / HELD_OUT).mkdir()
    text.earlier.take_over(text.kept, folder)
    streams = _write_streams(corpus, tokenizer, config, source.context, folder)
    partitions = {**text.earlier.partitions, **streams}
    new = _write_windows(corpus, tokenizer, config, source.context, folder)
    search, test = ({**text.earlier.windows[split], **new[split]} for split in SPLITS)
    manifest = CorpusManifest(
        source_digest=source.whole,
        tokenizer_digest=tokenizer_digest(tokenizer),
        context=source.context,
        partitions={unit: partitions[unit] for some in units.values() for unit in some},
        search={name: search[name] for name in text.domains},
        test={name: test[name] for name in text.domains},
        groups=groups,
    )
    _write_sections(text, units, source, folder)
    write_record(folder / CORPUS_RECORD, manifest)
    return manifest


def _write_sections(text: ReadText, units: Units, source: TextDigest, folder: Path) -> None:
    records = {}
    for section, one in text.sections.items():
        if one.kept is not None:
            records[section] = one.kept
            continue
        own = {name: units[name] for name in one.partitions}
        places = [training_place(unit) for some in own.values() for unit in some]
        places += [held_out_place(name, split) for name in one.domains for split in SPLITS]
        count, digest = write_hashes(folder / hashes_file(section), text.store, places, one.refused)
        records[section] = SectionRecord(
            source=source.sections[section], units=own, domains=one.domains, own=count, hashes=digest
        )
    if records:
        write_record(folder / SECTIONS_FILE, SectionRecords(source_digest=source.whole, tables=records))


def _write_streams(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, config: CorpusConfig, context: int, folder: Path
) -> dict[str, PartitionSummary]:
    parts, most = corpus.partitions, config.train_tokens
    limits = {name: StreamLimits(most, context, one.bytes, more_text(one)) for name, one in parts.items()}
    unknown = plain(tokenizer).unknown_name
    partitions: dict[str, PartitionSummary] = {}
    with track_text("corpus: tokens", {name: one.expected_bytes for name, one in limits.items()}) as show:
        for name, documents in parts.items():
            path = folder / stream_file(name)
            stream = training_stream(name, documents, tokenizer, limits[name], path, watch=partial(show, name))
            partitions[name] = PartitionSummary(
                documents=stream.documents,
                tokens=len(stream.tokens),
                bytes=stream.bytes,
                digest=digest_stream(path),
                unknown_tokens=stream.unknown,
                available_tokens=round(len(stream.tokens) * documents.bytes / stream.bytes),
            )
            refuse_unknown(training_place(name), partitions[name], config.max_unknown_share, unknown)
            show(name, 1)
    return partitions


def _write_windows(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, config: CorpusConfig, context: int, folder: Path
) -> dict[Split, dict[str, TextSummary]]:
    scored, text = config.scored, plain(tokenizer)
    texts = {f"{name}.{split}": splits[split] for name, splits in corpus.held_out.items() for split in SPLITS}
    most = scored.tokens * BYTES_A_TOKEN
    sizes = {called: min(documents.bytes, most) for called, documents in texts.items()}
    summaries: dict[Split, dict[str, TextSummary]] = {split: {} for split in SPLITS}
    with track_text("corpus: held-out tokens", sizes) as show:
        for name in corpus.held_out:
            for split in SPLITS:
                called = f"{name}.{split}"
                documents = watched(texts[called], sizes[called], partial(show, called))
                windows = held_out_windows(name, documents, tokenizer, scored, context)
                arrays = {key: getattr(windows, key) for key in ("inputs", "targets", "document", "window_bytes")}
                save_file(arrays | {"words": np.array([windows.words])}, folder / windows_file(name, split))
                summaries[split][name] = summary = TextSummary(
                    documents=windows.documents,
                    tokens=windows.tokens,
                    bytes=windows.bytes,
                    digest=windows.digest,
                    unknown_tokens=None if text.unknown is None else windows.count([text.unknown]),
                )
                refuse_unknown(domain_place(name), summary, config.max_unknown_share, text.unknown_name)
                show(called, 1)
    return summaries
