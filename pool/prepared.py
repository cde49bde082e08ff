"""The prepared corpus: tokens on disk, made once, believed only under their digests.

CORPUS/  corpus.json (written last)  train/<partition>.npy  held_out/<domain>.<split>.safetensors
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import PreTrainedTokenizerFast

from pool.config import PoolFile, TextFiles
from pool.corpus import SPLITS, Corpus, Split, make_corpus
from pool.demo_corpus import demo_held_out, demo_partitions, demo_source_versions
from pool.errors import CorpusError, PoolError
from pool.fingerprint import digest_arrays, digest_file, digest_json
from pool.manifest import CorpusManifest, PartitionSummary, TextSummary, write_record
from pool.text_files import read_documents
from pool.tokens import HeldOutWindows, Tokens, TrainingStream, held_out_windows, training_stream

CORPUS_RECORD = "corpus.json"
WINDOW_FORMAT = 2
"""Raised when the same text gives other windows than before, so that old ones are made again."""


@dataclass(frozen=True)
class PreparedCorpus:
    """Training tokens (N,) int32 by partition, held-out windows by split and domain."""

    train: Mapping[str, Tokens]
    held_out: Mapping[Split, Mapping[str, HeldOutWindows]]
    manifest: CorpusManifest


def source_digest(config: PoolFile) -> str:
    """Digest what decides the tokens: the corpus table and the content (not the path) of every source file.

    Raises `CorpusError` naming a file that is missing.
    """
    corpus = config.corpus
    described = {
        "settings": corpus.model_dump(mode="json", exclude={"partitions", "held_out"}),
        "order": list(corpus.partitions),
        "partitions": {name: _describe(name, table) for name, table in corpus.partitions.items()},
        "held_out": {name: _describe(name, table) for name, table in corpus.held_out.items()},
        "versions": demo_source_versions() if corpus.source == "demo" else {},
        "context": config.model.context,
        "windows": WINDOW_FORMAT,
    }
    return digest_json(described)


def _describe(name: str, table: TextFiles) -> dict[str, object]:
    files = sorted(_file_digest(name, path) for path in table.files)
    return {"format": table.format, "column": table.column, "files": files}


def _file_digest(name: str, path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(f"{name}: {path}: {reason}; correct `files` in the pool file") from None


def read_corpus(config: PoolFile) -> Corpus:
    """Read the text that the pool file names. Raises `CorpusError`."""
    share = config.corpus.held_out_share
    if config.corpus.source == "demo":
        return make_corpus(demo_partitions(), demo_held_out(), held_out_share=share)
    partitions = {name: read_documents(name, table) for name, table in config.corpus.partitions.items()}
    held_out = {name: read_documents(name, table) for name, table in config.corpus.held_out.items()}
    return make_corpus(partitions, held_out, held_out_share=share)


def tokenise(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, tokenizer_digest: str, config: PoolFile
) -> PreparedCorpus:
    """Turn text into training streams and held-out windows. Raises `CorpusError` for what is too short."""
    context = config.model.context
    streams = {
        name: training_stream(name, documents, tokenizer, config.corpus, context)
        for name, documents in corpus.partitions.items()
    }
    held_out = {
        split: {
            name: held_out_windows(name, splits[split], tokenizer, config.corpus, context)
            for name, splits in corpus.held_out.items()
        }
        for split in SPLITS
    }
    manifest = CorpusManifest(
        source_digest=source_digest(config),
        tokenizer_digest=tokenizer_digest,
        context=context,
        partitions={name: _summary(stream) for name, stream in streams.items()},
        search={name: _window_summary(windows) for name, windows in held_out["search"].items()},
        test={name: _window_summary(windows) for name, windows in held_out["test"].items()},
    )
    train = {name: stream.tokens for name, stream in streams.items()}
    return PreparedCorpus(train, held_out, manifest)


def _summary(stream: TrainingStream) -> PartitionSummary:
    return PartitionSummary(
        documents=stream.documents,
        tokens=len(stream.tokens),
        bytes=stream.bytes,
        digest=digest_arrays([stream.tokens]),
        available_tokens=stream.available_tokens,
    )


def _window_summary(windows: HeldOutWindows) -> TextSummary:
    return TextSummary(documents=windows.documents, tokens=windows.tokens, bytes=windows.bytes, digest=windows.digest)


def save_prepared(corpus: PreparedCorpus, folder: Path) -> None:
    """Write a prepared corpus into an existing empty folder, its record last."""
    (folder / "train").mkdir()
    (folder / "held_out").mkdir()
    for name, stream in corpus.train.items():
        np.save(folder / "train" / f"{name}.npy", stream, allow_pickle=False)
    for split, domains in corpus.held_out.items():
        for name, windows in domains.items():
            save_file(_arrays(windows), folder / "held_out" / f"{name}.{split}.safetensors")
    write_record(folder / CORPUS_RECORD, corpus.manifest)


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


def load_streams(folder: Path, digests: Mapping[str, str]) -> dict[str, Tokens]:
    """Read the training tokens of some partitions, memory-mapped. Raises `PoolError` where a digest is another one."""
    return {name: _load_stream(folder, name, digest) for name, digest in digests.items()}


def _load_stream(folder: Path, name: str, digest: str) -> Tokens:
    path = folder / "train" / f"{name}.npy"
    try:
        stream: Tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from None
    if digest_arrays([stream]) != digest:
        raise _unusable(path, "its content is not what corpus.json says")
    return stream


def _load_windows(folder: Path, name: str, split: Split, summary: TextSummary) -> HeldOutWindows:
    path = folder / "held_out" / f"{name}.{split}.safetensors"
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
