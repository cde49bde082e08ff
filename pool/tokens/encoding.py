"""Tokens of many documents: in this process, or in several where there is text enough to pay for starting them."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import joblib
import numpy as np
import numpy.typing as npt
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from pool.errors import PoolError
from pool.tokens.held_out import Tokens
from pool.tokens.tokenizer import plain_backend

_DOCUMENTS_AT_ONCE = 256
_BYTES_A_PROCESS = 32_000_000
"""A process takes seconds to start; this much text takes it several times as long to encode."""


@dataclass(frozen=True)
class EncodedBatch:
    """Documents that follow each other: all their tokens (N,), and of each document its tokens and UTF-8 bytes (D,)."""

    tokens: Tokens
    lengths: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]


def encoded(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, expected_bytes: int
) -> Iterator[EncodedBatch]:
    """Yield the documents in batches, in their order, without special tokens; only a few batches are ever in memory.

    `expected_bytes` is about how much of the text will be asked for: it decides how many processes there are. Raises
    `PoolError` when one of them died.
    """
    backend = plain_backend(tokenizer)
    processes = min(joblib.cpu_count(), expected_bytes // _BYTES_A_PROCESS)
    if processes < 2:
        yield from (_encode(backend, batch) for batch in _batches(documents))
        return
    written = backend.to_str()
    parallel = joblib.Parallel(n_jobs=processes, return_as="generator", pre_dispatch="2 * n_jobs", batch_size=1)
    results = parallel(joblib.delayed(_encode_elsewhere)(written, batch) for batch in _batches(documents))
    try:
        for result in results:  # noqa: UP028  (`yield from` would close them at once, and warn)
            yield result
    except TerminatedWorkerError:
        raise PoolError(
            "a process that encodes text died, perhaps for want of memory; run the same command again, with "
            "LOKY_MAX_CPU_COUNT=1 if it dies again"
        ) from None
    finally:
        with warnings.catch_warnings():  # of tasks that were under way when enough was encoded
            warnings.simplefilter("ignore")
            results.close()


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(documents)
    while some := list(islice(iterator, _DOCUMENTS_AT_ONCE)):
        yield some


def _encode_elsewhere(written: str, texts: list[str]) -> EncodedBatch:
    return _encode(_read(written), texts)


@lru_cache(maxsize=1)
def _read(written: str) -> Tokenizer:
    return Tokenizer.from_str(written)


def _encode(backend: Tokenizer, texts: list[str]) -> EncodedBatch:
    ids = [np.array(each.ids, dtype=np.int32) for each in backend.encode_batch_fast(texts, add_special_tokens=False)]
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    return EncodedBatch(np.concatenate(ids), np.array([len(each) for each in ids]), np.array(sizes))
