"""From text to tokens: training streams and held-out windows.

Held-out windows never cross documents. The first window of a document is prefixed with the end-of-text token,
the next with the token before it; every token of the document is predicted exactly once. Bytes are counted
from the raw text that those tokens cover, not from decoded tokens.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from pool.config import CorpusConfig
from pool.errors import CorpusError
from pool.fingerprint import digest_arrays

IGNORED = -100
_DOCUMENTS_AT_ONCE = 256

Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class TrainingStream:
    """Training text of one partition: `tokens` (N,) int32, the raw UTF-8 `bytes` they cover, `documents`.

    `available_tokens` is what the whole partition has: where text was left out, estimated from its bytes.
    """

    tokens: Tokens
    bytes: int
    documents: int
    available_tokens: int


@dataclass(frozen=True)
class HeldOutWindows:
    """Held-out text of one domain and split, ready to score.

    `inputs` (W, T) and `targets` (W, T) int32, right-padded; a padded target is `IGNORED`. `bytes` counts
    the raw UTF-8 bytes that the targets cover, `documents` the documents they come from.
    """

    inputs: Tokens
    targets: Tokens
    bytes: int
    documents: int

    @property
    def tokens(self) -> int:
        """Number of predicted tokens."""
        return int((self.targets != IGNORED).sum())

    @property
    def digest(self) -> str:
        """Digest of what is scored."""
        return digest_arrays([self.inputs, self.targets, np.array([self.bytes, self.documents])])


def training_stream(
    name: str,
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    config: CorpusConfig,
    context: int,
) -> TrainingStream:
    """Concatenate documents, each preceded by the end-of-text token, up to `config.train_tokens` tokens.

    Raises `CorpusError` when the partition holds less than one window of `context` tokens.
    """
    pieces: list[Tokens] = []
    left = config.train_tokens
    total_bytes = 0
    for text, encoding in _encode(documents, tokenizer):
        tokens = _whole_characters(encoding, left - 1)
        if tokens > 0:
            pieces.append(np.array([_end_of_text(tokenizer), *encoding.ids[:tokens]], dtype=np.int32))
            total_bytes += _bytes_covered(text, encoding, tokens)
            left -= tokens + 1
        if left <= 1:
            break
    total = config.train_tokens - left
    if total < context:
        raise CorpusError(
            f"partition {name!r} has {total} training tokens, fewer than one window of {context}; "
            "add text, raise train_tokens, or lower [model] context"
        )
    all_bytes = sum(len(text.encode("utf-8", "surrogatepass")) for text in documents)
    return TrainingStream(np.concatenate(pieces), total_bytes, len(pieces), round(total * all_bytes / total_bytes))


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
    inputs: list[Tokens] = []
    targets: list[Tokens] = []
    left = config.held_out_tokens
    total_bytes = count = 0
    for text, encoding in _encode(documents, tokenizer):
        tokens = _whole_characters(encoding, min(left, config.held_out_document_tokens))
        if tokens > 0:
            _add_windows(encoding.ids[:tokens], _end_of_text(tokenizer), context, inputs, targets)
            total_bytes += _bytes_covered(text, encoding, tokens)
            count += 1
            left -= tokens
        if left <= 0:
            break
    if not inputs:
        raise CorpusError(f"held-out domain {name!r} has no token to score; add text or raise held_out_tokens")
    return HeldOutWindows(np.stack(inputs), np.stack(targets), total_bytes, count)


def _whole_characters(encoding: Encoding, limit: int) -> int:
    """Return the largest number of tokens up to `limit` that ends on a character boundary."""
    offsets = encoding.offsets
    if len(offsets) <= limit:
        return len(offsets)
    while limit > 0 and offsets[limit - 1][1] > offsets[limit][0]:
        limit -= 1
    return limit


def _bytes_covered(text: str, encoding: Encoding, tokens: int) -> int:
    return len(text[: encoding.offsets[tokens - 1][1]].encode("utf-8", "surrogatepass"))


def _add_windows(ids: Sequence[int], prefix: int, context: int, inputs: list[Tokens], targets: list[Tokens]) -> None:
    shifted = [prefix, *ids[:-1]]
    for start in range(0, len(ids), context):
        inputs.append(_padded(shifted[start : start + context], context, prefix))
        targets.append(_padded(ids[start : start + context], context, IGNORED))


def _padded(ids: Sequence[int], length: int, value: int) -> Tokens:
    padded = np.full(length, value, dtype=np.int32)
    padded[: len(ids)] = ids
    return padded


def _encode(documents: Iterable[str], tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[str, Encoding]]:
    backend = tokenizer.backend_tokenizer
    iterator = iter(documents)
    while some := list(islice(iterator, _DOCUMENTS_AT_ONCE)):
        yield from zip(some, backend.encode_batch(some, add_special_tokens=False), strict=True)


def _end_of_text(tokenizer: PreTrainedTokenizerFast) -> int:
    token = tokenizer.bos_token_id
    assert isinstance(token, int), "the tokenizer was trained with an end-of-text token"
    return token
