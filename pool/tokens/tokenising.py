"""From a corpus of text to a prepared one: training streams, held-out windows, and the record of both."""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerFast

from pool.config.pool_file import PoolFile
from pool.corpus.corpus import SPLITS, Corpus, Split, held_out_place, training_place
from pool.corpus.partitioning import TableRecord
from pool.files.records import write_record
from pool.progress import track_text, watched
from pool.tokens.base_units import Units, cut_into_units, groups_of
from pool.tokens.held_out import HeldOutWindows, held_out_windows
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
from pool.tokens.reading import ReadText
from pool.tokens.reuse import TABLES_FILE, TableRecords, hashes_file, write_hashes
from pool.tokens.stream import BYTES_A_TOKEN, StreamLimits, TrainingStream, digest_stream, training_stream
from pool.tokens.text_digest import TextDigest
from pool.tokens.tokenizer import tokenizer_digest


def tokenise(
    text: ReadText, tokenizer: PreTrainedTokenizerFast, config: PoolFile, folder: Path, source: TextDigest
) -> CorpusManifest:
    """Cut text of the digest `source` into units, and write training streams and held-out windows, the record last.

    What was not read is taken over from the earlier corpus. Raises `CorpusError` for what is too short or cannot be
    cut.
    """
    corpus, cut = cut_into_units(text.corpus, tokenizer, config.corpus)
    known = {name: units for record in text.kept.values() for name, units in record.units.items()} | cut
    units = {name: known[name] for name in text.partitions}
    groups = groups_of(units, text.domains, config.corpus)
    (folder / TRAIN).mkdir()
    (folder / HELD_OUT).mkdir()
    text.earlier.take_over(text.kept, folder)
    partitions = {**text.earlier.partitions, **_write_streams(corpus, tokenizer, config, folder)}
    new = _write_windows(corpus, tokenizer, config, folder)
    search, test = ({**text.earlier.windows[split], **new[split]} for split in SPLITS)
    manifest = CorpusManifest(
        source_digest=source.whole,
        tokenizer_digest=tokenizer_digest(tokenizer),
        context=config.context,
        partitions={unit: partitions[unit] for some in units.values() for unit in some},
        search={name: search[name] for name in text.domains},
        test={name: test[name] for name in text.domains},
        groups=groups,
    )
    _write_tables(text, units, source, folder)
    write_record(folder / CORPUS_RECORD, manifest)
    return manifest


def _write_tables(text: ReadText, units: Units, source: TextDigest, folder: Path) -> None:
    """Write what each table gave, if that is known."""
    records = {}
    for table, one in text.tables.items():
        if one.kept is not None:
            records[table] = one.kept
            continue
        own = {name: units[name] for name in one.partitions}
        places = [training_place(unit) for some in own.values() for unit in some]
        places += [held_out_place(name, split) for name in one.domains for split in SPLITS]
        count, digest = write_hashes(folder / hashes_file(table), text.store, places, one.refused)
        records[table] = TableRecord(
            source=source.tables[table], units=own, domains=one.domains, own=count, hashes=digest
        )
    if records:
        write_record(folder / TABLES_FILE, TableRecords(source_digest=source.whole, tables=records))


def _write_streams(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, config: PoolFile, folder: Path
) -> dict[str, PartitionSummary]:
    limits = {
        name: StreamLimits(config.corpus.train_tokens, config.context, documents.bytes)
        for name, documents in corpus.partitions.items()
    }
    partitions: dict[str, PartitionSummary] = {}
    with track_text("corpus: tokens", {name: one.expected_bytes for name, one in limits.items()}) as show:
        for name, documents in corpus.partitions.items():
            path = folder / stream_file(name)
            stream = training_stream(name, documents, tokenizer, limits[name], path, watch=partial(show, name))
            partitions[name] = _summary(stream, documents.bytes, digest_stream(path))
            show(name, 1)
    return partitions


def _write_windows(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, config: PoolFile, folder: Path
) -> dict[Split, dict[str, TextSummary]]:
    texts = {f"{name}.{split}": splits[split] for name, splits in corpus.held_out.items() for split in SPLITS}
    most = config.corpus.held_out_tokens * BYTES_A_TOKEN
    sizes = {called: min(documents.bytes, most) for called, documents in texts.items()}
    summaries: dict[Split, dict[str, TextSummary]] = {split: {} for split in SPLITS}
    with track_text("corpus: held-out tokens", sizes) as show:
        for name in corpus.held_out:
            for split in SPLITS:
                called = f"{name}.{split}"
                documents = watched(texts[called], sizes[called], partial(show, called))
                windows = held_out_windows(name, documents, tokenizer, config.corpus, config.context)
                save_file(_arrays(windows), folder / windows_file(name, split))
                summaries[split][name] = _window_summary(windows)
                show(called, 1)
    return summaries


def _summary(stream: TrainingStream, all_bytes: int, digest: str) -> PartitionSummary:
    return PartitionSummary(
        documents=stream.documents,
        tokens=len(stream.tokens),
        bytes=stream.bytes,
        digest=digest,
        available_tokens=round(len(stream.tokens) * all_bytes / stream.bytes),
    )


def _window_summary(windows: HeldOutWindows) -> TextSummary:
    return TextSummary(documents=windows.documents, tokens=windows.tokens, bytes=windows.bytes, digest=windows.digest)


def _arrays(windows: HeldOutWindows) -> dict[str, npt.NDArray[np.generic]]:
    return {
        "inputs": windows.inputs,
        "targets": windows.targets,
        "document": windows.document,
        "window_bytes": windows.window_bytes,
        "words": np.array([windows.words]),
    }
