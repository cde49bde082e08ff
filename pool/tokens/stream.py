"""A partition's training stream: its documents as one row of tokens in a .npy file, written as they come.

The file is mapped into memory, never read into it, so a stream may be larger than memory.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from pool.errors import CorpusError
from pool.files.whole import rows_into
from pool.tokens.encoding import EncodedBatch, encoded
from pool.tokens.held_out import Tokens, bytes_covered, end_of_text, whole_characters
from pool.tokens.tokenizer import plain_backend

_BLOCK_BYTES = 2**22
BYTES_A_TOKEN = 4
"""About how much text a token stands for; decides nothing but the number of processes and how progress is shown."""
_MOST_CUTS = 256
"""Documents tried for the last places: where a character has several tokens, none may fit what a cut leaves."""


@dataclass(frozen=True)
class TrainingStream:
    """Training text of one partition: `tokens` (N,) int32 mapped from a file, the raw UTF-8 `bytes` they cover."""

    tokens: Tokens
    bytes: int
    documents: int


@dataclass(frozen=True)
class StreamLimits:
    """At most `limit` tokens, at least one window of `context`; `text_bytes` there are in all."""

    limit: int
    context: int
    text_bytes: int

    @property
    def expected_bytes(self) -> int:
        """About how much of the text the limit lets through."""
        return min(self.text_bytes, self.limit * BYTES_A_TOKEN)

    def share_done(self, tokens: int, size: int) -> float:
        """Which share of the work is done when so many tokens, of so many bytes of text, are written."""
        return max(tokens / self.limit, size / self.text_bytes)


def training_stream(
    name: str,
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    asked: StreamLimits,
    path: Path,
    *,
    watch: Callable[[float], None] = lambda share: None,
) -> TrainingStream:
    """Write documents to `path`, each preceded by the end-of-text token, up to the limit; the last one may be cut.

    `watch` is told after each document which share of the work is done. Raises `CorpusError` when the partition holds
    less than one window.
    """
    count, total, total_bytes = 0, 0, 0
    with rows_into(path, np.int32) as add:
        for tokens, size in _pieces(documents, tokenizer, asked):
            add(tokens.tobytes())
            total_bytes += size
            count += 1
            total += len(tokens)
            watch(asked.share_done(total, total_bytes))
    if total < asked.context:
        raise CorpusError(
            f"partition {name!r} has {total} training tokens, fewer than one window of {asked.context}; "
            "add text, raise train_tokens, or lower the context"
        )
    return TrainingStream(map_stream(path), total_bytes, count)


def map_stream(path: Path) -> Tokens:
    """Map a stream (N,) into memory, read-only. Raises `OSError` or `ValueError` for a file that is none."""
    tokens: Tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    return tokens


def digest_stream(path: Path) -> str:
    """Digest a stream as `digest_arrays` would, from the file: mapped pages would count as this process's memory."""
    tokens = map_stream(path)
    outer = hashlib.sha256(f"{tokens.dtype.str}{tokens.shape}".encode())
    with path.open("rb") as stream:
        stream.seek(path.stat().st_size - tokens.nbytes)
        while block := stream.read(_BLOCK_BYTES):
            outer.update(block)
    return outer.hexdigest()


def _pieces(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, asked: StreamLimits
) -> Iterator[tuple[Tokens, int]]:
    """Yield documents with the end-of-text token before each, and the bytes they cover, until the limit is reached."""
    left, cuts = asked.limit, 0
    again = enumerate(documents)
    for number, (tokens, size) in enumerate(_encoded_one_by_one(documents, tokenizer, asked)):
        if len(tokens) >= left:
            text = next(text for place, text in again if place == number)
            tokens, size = _beginning(text, tokenizer, left - 1)
            cuts += 1
        if len(tokens):
            yield np.concatenate([[end_of_text(tokenizer)], tokens], dtype=np.int32), size
            left -= len(tokens) + 1
        if left <= 1 or cuts == _MOST_CUTS:
            return


def _encoded_one_by_one(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, asked: StreamLimits
) -> Iterator[tuple[Tokens, int]]:
    return (one for batch in encoded(documents, tokenizer, asked.expected_bytes) for one in _split(batch))


def _split(batch: EncodedBatch) -> Iterator[tuple[Tokens, int]]:
    ends = np.cumsum(batch.lengths)
    for end, length, size in zip(ends.tolist(), batch.lengths.tolist(), batch.bytes.tolist(), strict=True):
        yield batch.tokens[end - length : end], size


def _beginning(text: str, tokenizer: PreTrainedTokenizerFast, limit: int) -> tuple[Tokens, int]:
    encoding = plain_backend(tokenizer).encode(text, add_special_tokens=False)
    tokens = whole_characters(encoding, limit)
    size = bytes_covered(text, encoding, tokens) if tokens else 0
    return np.array(encoding.ids[:tokens], dtype=np.int32), size
