"""The prepared corpus: tokens on disk, made once, believed only under their digests.

CORPUS/  corpus.json (written last)  train/<partition>.npy  held_out/<domain>.<split>.safetensors
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerFast

from pool.base_units import cut_into_units
from pool.config import CorpusConfig, PoolFile
from pool.corpus import SPLITS, Corpus, Split, make_corpus, with_held_out
from pool.demo_corpus import demo_held_out, demo_partitions
from pool.document_store import DocumentStore
from pool.documents import read_documents
from pool.errors import PoolError
from pool.manifest import CorpusManifest, PartitionSummary, TextSummary, write_record
from pool.overlap import without_overlap
from pool.packing import BYTES_A_TOKEN, StreamLimits, TrainingStream, digest_stream, map_stream, training_stream
from pool.partitioning import fill_partitions
from pool.text_digest import TextDigest
from pool.text_progress import track_reading, track_text, watched
from pool.tokenizer import tokenizer_digest
from pool.tokens import HeldOutWindows, Tokens, held_out_windows

CORPUS_RECORD = "corpus.json"
TRAIN, HELD_OUT = "train", "held_out"


@dataclass(frozen=True)
class PreparedCorpus:
    """Training tokens (N,) int32 by partition, held-out windows by split and domain."""

    train: Mapping[str, Tokens]
    held_out: Mapping[Split, Mapping[str, HeldOutWindows]]
    manifest: CorpusManifest


def read_corpus(config: PoolFile, folder: Path | None = None) -> Corpus:
    """Read the text that the pool file names into a store under `folder`, or the system's temporary folder.

    Raises `CorpusError`; for a full disk `PoolError`, or under a given folder `OSError`.
    """
    try:
        with track_reading("corpus: reading text") as show:
            corpus = _sorted_text(config.corpus, DocumentStore(folder, show))
        return without_overlap(corpus, config.corpus.scored) if config.corpus.drop_overlap else corpus
    except OSError as error:
        if folder is not None:
            raise
        raise PoolError(
            f"the corpus's text cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}; make room "
            "there, or name another folder by the environment variable TMPDIR"
        ) from error


def _sorted_text(config: CorpusConfig, store: DocumentStore) -> Corpus:
    kept_out = config.kept_out
    if config.source == "demo":
        return make_corpus(demo_partitions(), demo_held_out(), kept_out=kept_out, store=store)
    held_out = {name: read_documents(name, table) for name, table in config.held_out.items()}
    return with_held_out(store, fill_partitions(store, config.partitions), held_out, kept_out)


def tokenise(
    text: Corpus, tokenizer: PreTrainedTokenizerFast, config: PoolFile, folder: Path, source: TextDigest
) -> CorpusManifest:
    """Cut text of the digest `source` into units, and write training streams and held-out windows, the record last.

    Raises `CorpusError` for what is too short or cannot be cut.
    """
    corpus, groups = cut_into_units(text, tokenizer, config.corpus)
    (folder / TRAIN).mkdir()
    (folder / HELD_OUT).mkdir()
    partitions = _write_streams(corpus, tokenizer, config, folder / TRAIN)
    summaries = _write_windows(corpus, tokenizer, config, folder / HELD_OUT)
    manifest = CorpusManifest(
        source_digest=source.whole,
        tokenizer_digest=tokenizer_digest(tokenizer),
        context=config.context,
        partitions=partitions,
        search=summaries["search"],
        test=summaries["test"],
        groups=groups,
    )
    write_record(folder / CORPUS_RECORD, manifest)
    return manifest


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
            path = folder / f"{name}.npy"
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
                save_file(_arrays(windows), folder / f"{called}.safetensors")
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


def load_prepared(folder: Path, manifest: CorpusManifest) -> PreparedCorpus:
    """Read a prepared corpus, memory-mapped where it is for training.

    Raises `PoolError` naming the file when one is missing or is not what the manifest says.
    """
    train = load_streams(folder, {name: summary.digest for name, summary in manifest.partitions.items()})
    splits: dict[Split, Mapping[str, TextSummary]] = {"search": manifest.search, "test": manifest.test}
    held_out = {
        split: {name: _load_windows(folder, name, split, summary) for name, summary in domains.items()}
        for split, domains in splits.items()
    }
    return PreparedCorpus(train, held_out, manifest)


def load_search_windows(folder: Path, name: str, manifest: CorpusManifest) -> HeldOutWindows:
    """Read the search split of one held-out domain. Raises `PoolError` where it is not what the manifest says."""
    return _load_windows(folder, name, "search", manifest.search[name])


def load_streams(folder: Path, digests: Mapping[str, str]) -> dict[str, Tokens]:
    """Read the training tokens of some partitions, memory-mapped. Raises `PoolError` where a digest is another one."""
    return {name: _load_stream(folder, name, digest) for name, digest in digests.items()}


def _load_stream(folder: Path, name: str, expected: str) -> Tokens:
    path = folder / TRAIN / f"{name}.npy"
    try:
        stream, digest = map_stream(path), digest_stream(path)
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from None
    if digest != expected:
        raise _unusable(path, "its content is not what corpus.json says")
    return stream


def _load_windows(folder: Path, name: str, split: Split, summary: TextSummary) -> HeldOutWindows:
    path = folder / HELD_OUT / f"{name}.{split}.safetensors"
    try:
        arrays = load_file(path)
        windows = HeldOutWindows(
            arrays["inputs"], arrays["targets"], arrays["document"], arrays["window_bytes"], int(arrays["words"][0])
        )
    except (OSError, KeyError, SafetensorError) as error:
        raise _unusable(path, str(error)) from None
    if windows.digest != summary.digest:
        raise _unusable(path, "its content is not what corpus.json says")
    return windows


def _unusable(path: Path, reason: str) -> PoolError:
    return PoolError(f"{path}: {reason}; delete the folder {path.parent.parent} and run `mixscout pool build` again")
