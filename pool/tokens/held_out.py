"""Held-out text as windows to score, cut as in the rolling log-likelihood of lm-evaluation-harness.

Windows never cross documents. A document's first window begins with the end-of-text token, each later one with the
token before it. The last of several windows reaches back until it is full. Every token is predicted exactly once.
Bytes and words are counted in the raw text under those tokens, not in decoded tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pool.config.pool_file import ScoredText
from pool.errors import CorpusError
from pool.files.digests import digest_arrays
from pool.tokens.tokenizer import end_of_text, plain

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast

IGNORED = -100
_DOCUMENTS_AT_ONCE = 256

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class HeldOutWindows:
    """W windows of T tokens, of one domain and split.

    inputs: (W, T), right-padded
    targets: (W, T); `IGNORED` for padding and for tokens predicted in the window before
    document: (W,), the number of each window's document
    window_bytes: (W,), raw UTF-8 bytes under each window's targets
    words: runs between white space in the covered text, as lm-evaluation-harness counts them
    """

    inputs: Tokens
    targets: Tokens
    document: Tokens
    window_bytes: npt.NDArray[np.int64]
    words: int

    @property
    def window_tokens(self) -> npt.NDArray[np.int64]:
        """Predicted tokens of each window (W,)."""
        counts: npt.NDArray[np.int64] = (self.targets != IGNORED).sum(axis=1, dtype=np.int64)
        return counts

    @property
    def tokens(self) -> int:
        return int(self.window_tokens.sum())

    @property
    def bytes(self) -> int:
        """Raw UTF-8 bytes under the targets."""
        return int(self.window_bytes.sum())

    @property
    def documents(self) -> int:
        return len(np.unique(self.document))

    def count(self, tokens: Sequence[int]) -> int:
        """Count the targets that are one of some tokens."""
        return int(np.isin(self.targets, tokens).sum())

    @property
    def digest(self) -> str:
        return digest_arrays([self.inputs, self.targets, self.document, self.window_bytes, np.array([self.words])])


def held_out_windows(
    name: str, documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, scored: ScoredText, context: int
) -> HeldOutWindows:
    """Cut the beginnings of documents, up to the limits `scored`, into windows of `context` tokens.

    A cut document ends on a character boundary. Raises `CorpusError` when nothing can be scored.
    """
    prefix = end_of_text(tokenizer)
    parts = [
        _document_windows(number, text, encoding, tokens, prefix=prefix, context=context)
        for number, (text, encoding, tokens) in enumerate(_beginnings(documents, tokenizer, scored))
    ]
    if not parts:
        raise CorpusError(f"held-out domain {name!r} has no token to score; add text or raise held_out_tokens")
    return HeldOutWindows(
        inputs=np.concatenate([part.inputs for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        document=np.concatenate([part.document for part in parts]),
        window_bytes=np.concatenate([part.window_bytes for part in parts]),
        words=sum(part.words for part in parts),
    )


def _beginnings(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, scored: ScoredText
) -> Iterator[tuple[str, Encoding, int]]:
    left, backend, iterator = scored.tokens, plain(tokenizer).core, iter(documents)
    while some := list(islice(iterator, _DOCUMENTS_AT_ONCE)):
        for text, encoding in zip(some, backend.encode_batch(some, add_special_tokens=False), strict=True):
            tokens = whole_characters(encoding, min(left, scored.document_tokens))
            if tokens > 0:
                yield text, encoding, tokens
                left -= tokens
            if left <= 0:
                return


def _document_windows(
    number: int, text: str, encoding: Encoding, tokens: int, *, prefix: int, context: int
) -> HeldOutWindows:
    ids = encoding.ids[:tokens]
    shifted = [prefix, *ids[:-1]]
    starts = range(0, tokens, context)
    inputs, targets = [], []
    for start in starts:
        end = min(start + context, tokens)
        first = max(0, end - context)
        inputs.append(_padded(shifted[first:end], context, prefix))
        targets.append(_padded([IGNORED] * (start - first) + ids[start:end], context, IGNORED))
    covered = [bytes_covered(text, encoding, min(start + context, tokens)) for start in starts]
    return HeldOutWindows(
        np.stack(inputs),
        np.stack(targets),
        document=np.full(len(inputs), number, dtype=np.int32),
        window_bytes=np.diff([0, *covered]).astype(np.int64),
        words=len(re.split(r"\s+", text[: encoding.offsets[tokens - 1][1]])),
    )


def _padded(ids: Sequence[int], length: int, value: int) -> Tokens:
    padded = np.full(length, value, dtype=np.int32)
    padded[: len(ids)] = ids
    return padded


def whole_characters(encoding: Encoding, limit: int) -> int:
    """Return the largest number of tokens, at most `limit`, with an end on a character boundary."""
    offsets = encoding.offsets
    if len(offsets) <= limit:
        return len(offsets)
    while limit > 0 and offsets[limit - 1][1] > offsets[limit][0]:
        limit -= 1
    return limit


def bytes_covered(text: str, encoding: Encoding, tokens: int) -> int:
    """Count the raw UTF-8 bytes under a text's first `tokens` tokens, at least one."""
    return len(text[: encoding.offsets[tokens - 1][1]].encode("utf-8", "surrogatepass"))
