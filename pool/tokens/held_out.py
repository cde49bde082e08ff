"""From text to tokens: held-out windows.

Held-out windows never cross documents, and are those of lm-evaluation-harness's rolling log-likelihood: the first
window of a document is prefixed with the end-of-text token, the next with the token before it, and the last one of
several reaches back so that it is full too; every token is predicted exactly once. Bytes and words are counted from
the raw text that those tokens cover, not from decoded tokens.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from pool.config.pool_file import CorpusConfig
from pool.errors import CorpusError, PoolError
from pool.files.digests import digest_arrays
from pool.tokens.tokenizer import plain_backend

IGNORED = -100
_DOCUMENTS_AT_ONCE = 256

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class HeldOutWindows:
    """Held-out text of one domain and split, ready to score.

    `inputs` (W, T) and `targets` (W, T) int32, right-padded; a target that is padding, or was predicted in the
    window before, is `IGNORED`. `document` (W,) int32 numbers the document a window comes from, `window_bytes`
    (W,) int64 counts the raw UTF-8 bytes its targets cover. `words` counts what stands between white space in
    the text covered, as lm-evaluation-harness does.
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
        """Number of predicted tokens."""
        return int(self.window_tokens.sum())

    @property
    def bytes(self) -> int:
        """Raw UTF-8 bytes that the targets cover."""
        return int(self.window_bytes.sum())

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(np.unique(self.document))

    @property
    def digest(self) -> str:
        """Digest of what is scored."""
        return digest_arrays([self.inputs, self.targets, self.document, self.window_bytes, np.array([self.words])])


def held_out_windows(
    name: str,
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    config: CorpusConfig,
    context: int,
) -> HeldOutWindows:
    """Cut the beginnings of documents into windows of at most `context` tokens.

    Reads up to `held_out_tokens` tokens, at most `held_out_document_tokens` of a document; the last document
    is cut where a token boundary is a character boundary. Raises `CorpusError` when nothing can be scored.
    """
    prefix = end_of_text(tokenizer)
    parts = [
        _document_windows(number, text, encoding, tokens, prefix=prefix, context=context)
        for number, (text, encoding, tokens) in enumerate(_beginnings(documents, tokenizer, config))
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
    documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, config: CorpusConfig
) -> Iterator[tuple[str, Encoding, int]]:
    """Yield documents with the number of tokens to score of each, until `held_out_tokens` are used up."""
    left = config.held_out_tokens
    for text, encoding in _encode(documents, tokenizer):
        tokens = whole_characters(encoding, min(left, config.held_out_document_tokens))
        if tokens > 0:
            yield text, encoding, tokens
            left -= tokens
        if left <= 0:
            break


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


def whole_characters(encoding: Encoding, limit: int) -> int:
    """Return the largest number of tokens up to `limit` that ends on a character boundary."""
    offsets = encoding.offsets
    if len(offsets) <= limit:
        return len(offsets)
    while limit > 0 and offsets[limit - 1][1] > offsets[limit][0]:
        limit -= 1
    return limit


def bytes_covered(text: str, encoding: Encoding, tokens: int) -> int:
    """Count the raw UTF-8 bytes that the first tokens of a text stand for; at least one token."""
    return len(text[: encoding.offsets[tokens - 1][1]].encode("utf-8", "surrogatepass"))


def _padded(ids: Sequence[int], length: int, value: int) -> Tokens:
    padded = np.full(length, value, dtype=np.int32)
    padded[: len(ids)] = ids
    return padded


def _encode(documents: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[str, Encoding]]:
    backend = plain_backend(tokenizer)
    iterator = iter(documents)
    while some := list(islice(iterator, _DOCUMENTS_AT_ONCE)):
        yield from zip(some, backend.encode_batch(some, add_special_tokens=False), strict=True)


def end_of_text(tokenizer: PreTrainedTokenizerFast) -> int:
    """Return the token that stands before every document: the beginning-of-text token, or else the end's.

    Raises `PoolError` for a tokenizer that has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise PoolError(
        "the tokenizer has neither a bos_token nor an eos_token to stand before a document; set one in its "
        "tokenizer_config.json"
    )
