"""Runs of words as numbers: what tells whether two texts share a passage, whatever their case and punctuation."""

import hashlib
import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

WORDS = 13
"""Words of a run: what GPT-3 was decontaminated with (Brown et al. 2020, arXiv 2005.14165, appendix C)."""
_WORD = re.compile(r"\w+")
_BASE = 0x9E3779B97F4A7C15
"""Odd, so that no word's number is lost when it is multiplied (the golden ratio's bits, as in Fibonacci hashing)."""

Hashes = npt.NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words; punctuation and white space are dropped."""
    return _WORD.findall(text.lower())


def ngram_hashes(words: list[str]) -> Hashes:
    """Hash every run of `WORDS` words (N,): h = sum_i hash(word_i) base^i modulo 2^64.

    The same on every machine and in every process; empty where there are fewer words.
    """
    count = len(words) - WORDS + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    numbers = np.array([_hash(word) for word in words], dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(WORDS):
        total = total * np.uint64(_BASE) + numbers[offset : offset + count]
    return total


@lru_cache(maxsize=2**16)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
