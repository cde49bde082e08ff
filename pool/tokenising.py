"""From a corpus of text to a prepared one: training streams, held-out windows, and the record of both."""

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerFast

from pool.base_units import cut_into_units
from pool.config import PoolFile
from pool.corpus import SPLITS, Corpus, Split
from pool.manifest import CorpusManifest, PartitionSummary, TextSummary, write_record
from pool.packing import BYTES_A_TOKEN, StreamLimits, TrainingStream, digest_stream, training_stream
from pool.prepared import CORPUS_RECORD, HELD_OUT, TRAIN
from pool.text_digest import TextDigest
from pool.text_progress import track_text, watched
from pool.tokenizer import tokenizer_digest
from pool.tokens import HeldOutWindows, held_out_windows


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
