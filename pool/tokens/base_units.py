"""Base units: a big partition cut into near-equal pieces, by document, each with a member of its own."""

import heapq
from collections.abc import Collection, Mapping
from itertools import islice

from transformers import PreTrainedTokenizerFast

from pool.config.pool_file import CorpusConfig
from pool.corpus.corpus import Corpus, corpus_of, training_place
from pool.corpus.document_store import Page, StoredDocuments
from pool.errors import CorpusError
from pool.mixture import group_units
from pool.tokens.tokenizer import plain_backend

Units = Mapping[str, tuple[str, ...]]
"""Partition -> its base units, itself alone where it is not cut."""
_MEASURED_DOCUMENTS = 256
"""Documents on which bytes a token are measured; hashes order them, so the first ones are a random sample."""


def cut_into_units(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, config: CorpusConfig
) -> tuple[Corpus, dict[str, tuple[str, ...]]]:
    """Cut partitions as the pool file wants it, and return the corpus of units, and the units of each partition.

    Without base units the corpus is the same. The same text and tokenizer give the same units. Raises `CorpusError` for
    names that clash.
    """
    if config.base_units_tokens is None or not corpus.partitions:
        return corpus, {name: (name,) for name in corpus.partitions}
    units = {
        name: _cut(name, documents, _count(documents, tokenizer, config.base_units_tokens))
        for name, documents in corpus.partitions.items()
    }
    _check_names(units, corpus.held_out.keys())
    store = next(iter(corpus.partitions.values())).store
    return corpus_of(store, [one for some in units.values() for one in some], tuple(corpus.held_out)), units


def groups_of(units: Units, domains: Collection[str], config: CorpusConfig) -> dict[str, tuple[str, ...]]:
    """Put the units of all partitions into groups as the pool file wants it; none without base units and groups.

    Raises `CorpusError` for names that clash, a held-out domain's too, and groups that do not fit.
    """
    if config.base_units_tokens is None and not config.groups:
        return {}
    _check_names(units, domains)
    return group_units(tuple(units), units, config.groups)


def _count(documents: StoredDocuments, tokenizer: PreTrainedTokenizerFast, tokens: int | None) -> int:
    if tokens is None:
        return 1
    texts = list(islice(documents, _MEASURED_DOCUMENTS))
    encodings = plain_backend(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    per_byte = sum(len(one.ids) + 1 for one in encodings) / sum(len(text.encode("utf-8", "replace")) for text in texts)
    return min(len(documents), max(1, round(documents.bytes * per_byte / tokens)))


def _cut(name: str, documents: StoredDocuments, count: int) -> tuple[str, ...]:
    """Move documents, in the order of their hashes, each into the smallest unit so far: no two units differ in bytes by
    more than the longest document.
    """
    if count == 1:
        return (name,)
    names = tuple(f"{name}-{number:0{len(str(count))}}" for number in range(1, count + 1))
    filled = [(0, number) for number in range(count)]

    def choose(page: Page) -> list[str]:
        chosen = []
        for size in page.bytes:
            before, number = filled[0]
            heapq.heapreplace(filled, (before + size, number))
            chosen.append(training_place(names[number]))
        return chosen

    documents.store.reassign(training_place(name), choose)
    return names


def _check_names(units: Units, domains: Collection[str]) -> None:
    """Refuse names that clash, a held-out domain's too: one that has a partition's name stands for its text."""
    names = [unit for some in units.values() for unit in some] + [name for name, some in units.items() if len(some) > 1]
    for name in names:
        if len(name) > 80:
            raise CorpusError(f"base unit {name!r}: more than 80 characters; give its partition a shorter name")
        if names.count(name) > 1:
            raise CorpusError(f"a base unit would have the name of another partition, {name!r}; rename that one")
        if name in domains and name not in units:
            raise CorpusError(f"held-out domain {name!r} has the name of a base unit; rename the domain")
