"""A partition's training stream: its documents as one row of tokens in a .npy file.

Much text is encoded in several processes. The file is written as tokens come and mapped into memory, so a stream may be
larger than memory.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from pool.checkpoints.plain_text import TextTokenizer
from pool.errors import CorpusError, PoolError
from pool.files.whole import rows_into
from pool.tokens.held_out import Tokens, bytes_covered, whole_characters
from pool.tokens.tokenizer import end_of_text, plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTES_A_TOKEN = 4
"""A rough guess, only for the number of processes and the progress shown."""
_DIGESTED_BYTES = 2**22
_DOCUMENTS_AT_ONCE = 256
_BYTES_A_PROCESS = 32_000_000
"""Text that takes several times as long to encode as a process takes to start."""
_MOST_CUTS = 256
"""Documents tried for the last places: a character of several tokens may not fit."""


@dataclass(frozen=True)
class TrainingStream:
    """Training text of one partition: tokens (N,) mapped from a file, the raw UTF-8 bytes they cover, documents.

    unknown: tokens that stand for text unknown to the tokenizer; None for a tokenizer without such a token
    """

    tokens: Tokens
    bytes: int
    documents: int
    unknown: int | None = None


@dataclass(frozen=True)
class StreamLimits:
    """How much text becomes tokens.

    limit: most tokens
    context: least tokens, one window
    text_bytes: size of all text there is
    remedy: what to do about too little text, if not to add some
    """

    limit: int
    context: int
    text_bytes: int
    remedy: str = "add text"

    @property
    def expected_bytes(self) -> int:
        """About how much of the text the limit lets through."""
        return min(self.text_bytes, self.limit * BYTES_A_TOKEN)


@dataclass(frozen=True)
class _Batch:
    """All tokens (N,) of consecutive documents, and the tokens and UTF-8 bytes of each."""

    tokens: Tokens
    lengths: list[int]
    bytes: list[int]


def training_stream(
    name: str,
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    asked: StreamLimits,
    path: Path,
    *,
    watch: Callable[[float], None] = lambda share: None,
) -> TrainingStream:
    """Write documents to `path` up to the limit, the end-of-text token before each; the last may be cut.

    `watch` is told the share done after each document. Raises `CorpusError` for less than one window, and `PoolError`
    when an encoding process died.
    """
    count, total, total_bytes, unknown, text = 0, 0, 0, 0, plain(tokenizer)
    prefix = end_of_text(tokenizer)
    with rows_into(path, np.int32) as add:
        for tokens, size in _pieces(documents, text, asked):
            add(np.concatenate([[prefix], tokens], dtype=np.int32).tobytes())
            total_bytes += size
            count += 1
            total += len(tokens) + 1
            unknown += int((tokens == text.unknown).sum()) if text.unknown is not None else 0
            watch(max(total / asked.limit, total_bytes / asked.text_bytes))
    if total < asked.context:
        raise CorpusError(
            f"partition {name!r} has {total} training tokens, fewer than one window of {asked.context}; "
            f"{asked.remedy}, raise train_tokens, or lower the context"
        )
    return TrainingStream(map_stream(path), total_bytes, count, None if text.unknown is None else unknown)


def map_stream(path: Path) -> Tokens:
    """Map a stream (N,) into memory, read-only. Raises `OSError` or `ValueError` for another kind of file."""
    try:
        tokens: Tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except EOFError:  # which the command line would take for the end of its own input
        raise ValueError("the file is empty") from None
    return tokens


def digest_stream(path: Path) -> str:
    """Digest a stream as `digest_arrays` does, but from the file: mapped pages count as this process's memory."""
    tokens = map_stream(path)
    outer = hashlib.sha256(f"{tokens.dtype.str}{tokens.shape}".encode())
    with path.open("rb") as stream:
        stream.seek(path.stat().st_size - tokens.nbytes)
        while block := stream.read(_DIGESTED_BYTES):
            outer.update(block)
    return outer.hexdigest()


def _pieces(documents: Iterable[str], tokenizer: TextTokenizer, asked: StreamLimits) -> Iterator[tuple[Tokens, int]]:
    """Yield each document's tokens and the bytes they cover, until the limit is reached, end-of-text tokens counted."""
    left, cuts = asked.limit, 0
    again = enumerate(documents)
    batches = _encoded(documents, tokenizer.core, asked.expected_bytes)
    for number, (tokens, size) in enumerate(one for batch in batches for one in _split(batch)):
        if len(tokens) >= left:
            text = next(text for place, text in again if place == number)
            tokens, size = _beginning(text, tokenizer.core, left - 1)
            cuts += 1
        if len(tokens):
            yield tokens, size
            left -= len(tokens) + 1
        if left <= 1 or cuts == _MOST_CUTS:
            return


def _split(batch: _Batch) -> Iterator[tuple[Tokens, int]]:
    return zip(np.split(batch.tokens, np.cumsum(batch.lengths)[:-1].tolist()), batch.bytes, strict=True)


def _beginning(text: str, core: Tokenizer, limit: int) -> tuple[Tokens, int]:
    encoding = core.encode(text, add_special_tokens=False)
    tokens = whole_characters(encoding, limit)
    size = bytes_covered(text, encoding, tokens) if tokens else 0
    return np.array(encoding.ids[:tokens], dtype=np.int32), size


def _encoded(documents: Iterable[str], backend: Tokenizer, expected_bytes: int) -> Iterator[_Batch]:
    """Yield documents in batches, in order; only a few batches are in memory. `expected_bytes` decides on processes."""
    import joblib  # not to open a pool
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    iterator = iter(documents)
    batches = iter(lambda: list(islice(iterator, _DOCUMENTS_AT_ONCE)), [])
    processes = min(joblib.cpu_count(), expected_bytes // _BYTES_A_PROCESS)
    if processes < 2:
        yield from (_encode(backend, batch) for batch in batches)
        return
    written = backend.to_str()
    parallel = joblib.Parallel(n_jobs=processes, return_as="generator", pre_dispatch="2 * n_jobs", batch_size=1)
    results = parallel(joblib.delayed(_encode_elsewhere)(written, batch) for batch in batches)
    try:
        for result in results:  # noqa: UP028  (`yield from` would close them at once, and warn)
            yield result
    except TerminatedWorkerError:
        raise PoolError(
            "a process that encodes text died, perhaps for want of memory; run the same command again, with "
            "LOKY_MAX_CPU_COUNT=1 if it dies again"
        ) from None
    finally:
        with warnings.catch_warnings():  # of tasks still under way
            warnings.simplefilter("ignore")
            results.close()


def _encode_elsewhere(written: str, texts: list[str]) -> _Batch:
    return _encode(_read(written), texts)


@lru_cache(maxsize=1)
def _read(written: str) -> Tokenizer:
    core = Tokenizer.from_str(written)
    core.encode_special_tokens = True  # no part of what is written
    return core


def _encode(backend: Tokenizer, texts: list[str]) -> _Batch:
    ids = [np.array(each.ids, dtype=np.int32) for each in backend.encode_batch_fast(texts, add_special_tokens=False)]
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    return _Batch(np.concatenate(ids), [len(each) for each in ids], sizes)
