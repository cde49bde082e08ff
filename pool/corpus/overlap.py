"""Passages shared by training and held-out text: found by hashes of runs of words, reported, or dropped.

Only scored held-out text is indexed, so memory follows held_out_tokens, not the corpus. Training text is read once.
Every word has at least one token, so the index covers all scored tokens.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pool.config.pool_file import ScoredText
from pool.corpus.corpus import SPLITS, Corpus, Split, corpus_of, training_place
from pool.corpus.document_store import DocumentStore, Page
from pool.errors import CorpusError

WORDS = 13
"""Words of a run, as in the decontamination of GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C)."""
_WORD = re.compile(r"\w+")
_BASE = 0x9E3779B97F4A7C15
"""Odd, so that multiplying loses no bits (the golden ratio's bits, as in Fibonacci hashing)."""

Hashes = npt.NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def ngram_hashes(words: list[str]) -> Hashes:
    """Hash every run of `WORDS` words (N,): h = sum_i hash(word_i) base^i modulo 2^64.

    The same in every process; empty for fewer words.
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


DROPPED = "dropped for its overlap"


@dataclass(frozen=True)
class Overlap:
    """Documents with a shared run of words.

    shared: held-out documents with a run of the partition, by partition and domain
    checked: held-out documents looked at, by domain
    too_short: those of them shorter than a run, by domain
    training: training documents with a shared run, by partition
    documents: all training documents, by partition
    """

    shared: Mapping[str, Mapping[str, int]]
    checked: Mapping[str, int]
    too_short: Mapping[str, int]
    training: Mapping[str, int]
    documents: Mapping[str, int]

    def as_json(self) -> dict[str, object]:
        shares = {
            partition: {name: count / self.checked[name] for name, count in row.items()}
            for partition, row in self.shared.items()
        }
        return {"words": WORDS, "share": shares, **asdict(self)}


@dataclass(frozen=True)
class _Index:
    """Sorted hashes (H,) of held-out text, and the hash and document of each entry (M,)."""

    hashes: Hashes
    hash_of_entry: npt.NDArray[np.int64]
    document_of_entry: npt.NDArray[np.int64]
    domain_of_document: Sequence[str]

    def found(self, hashes: Hashes) -> npt.NDArray[np.int64]:
        if not len(self.hashes):
            return np.empty(0, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        found: npt.NDArray[np.int64] = places[self.hashes[places] == hashes]
        return found

    def documents(self, places: npt.NDArray[np.bool_]) -> dict[str, int]:
        """Count the documents with a marked hash (H,), by domain."""
        numbers = np.unique(self.document_of_entry[places[self.hash_of_entry]])
        counts = dict.fromkeys(self.domain_of_document, 0)
        for number in numbers.tolist():
            counts[self.domain_of_document[number]] += 1
        return counts


def find_overlap(corpus: Corpus, scored: ScoredText) -> Overlap:
    """Compare all training text with the scored held-out text."""
    texts = [(name, words) for name in corpus.held_out for words in _scored_words(corpus, name, scored)]
    index = _index(texts)
    shared: dict[str, dict[str, int]] = {}
    training: dict[str, int] = {}
    for partition, documents in corpus.partitions.items():
        marked = np.zeros(len(index.hashes), dtype=np.bool_)
        training[partition] = 0
        for text in documents:
            places = index.found(ngram_hashes(words_of(text)))
            marked[places] = True
            training[partition] += len(places) > 0
        shared[partition] = index.documents(marked)
    domains = [name for name, _ in texts]
    return Overlap(
        shared=shared,
        checked={name: domains.count(name) for name in corpus.held_out},
        too_short={name: sum(one == name and len(words) < WORDS for one, words in texts) for name in corpus.held_out},
        training=training,
        documents={name: len(documents) for name, documents in corpus.partitions.items()},
    )


def without_overlap(corpus: Corpus, scored: ScoredText) -> Corpus:
    """Drop training documents with a run of words from scored held-out text.

    Raises `CorpusError` naming an emptied partition.
    """
    index = _index([(name, words) for name in corpus.held_out for words in _scored_words(corpus, name, scored)])
    store: DocumentStore = next(iter(corpus.partitions.values())).store
    for name in corpus.partitions:
        place = training_place(name)

        def choose(page: Page, place: str = place) -> list[str]:
            return [DROPPED if len(index.found(ngram_hashes(words_of(text)))) else place for text in page.texts()]

        store.reassign(place, choose)
        if not len(store.documents(place)):
            raise CorpusError(
                f"partition {name!r}: all of its documents share a run of {WORDS} words with held-out text, so "
                "drop_overlap leaves nothing; see `mixscout pool overlap POOL.toml`, and part the text better"
            )
    return corpus_of(store, tuple(corpus.partitions), tuple(corpus.held_out))


def _scored_words(corpus: Corpus, domain: str, scored: ScoredText) -> Iterable[list[str]]:
    splits: Mapping[Split, Iterable[str]] = corpus.held_out[domain]
    for split in SPLITS:
        left = scored.tokens
        for text in splits[split]:
            if left <= 0:
                break
            words = words_of(text)[: scored.document_tokens]
            left -= max(1, len(text.split()[: scored.document_tokens]))
            yield words


def _index(texts: Sequence[tuple[str, list[str]]]) -> _Index:
    each = [ngram_hashes(words) for _, words in texts]
    together = np.concatenate([np.empty(0, dtype=np.uint64), *each])
    hashes, places = np.unique(together, return_inverse=True)
    documents = np.repeat(np.arange(len(each)), [len(one) for one in each])
    return _Index(hashes, places, documents, [name for name, _ in texts])
