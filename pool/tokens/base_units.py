"""Base units: a big partition cut by document into near-equal pieces, each with a member of its own."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from pool.corpus.corpus import Corpus, corpus_of, training_place
from pool.corpus.document_store import Page, StoredDocuments
from pool.errors import CorpusError
from pool.mixture import group_units
from pool.tokens.tokenizer import plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Units = Mapping[str, tuple[str, ...]]
"""Partition -> its base units; an uncut partition is its own unit."""
_MEASURED_DOCUMENTS = 256
"""Documents on which tokens per byte are measured: the first by hash, so a random sample."""


def cut_into_units(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, unit_tokens: int | None
) -> tuple[Corpus, dict[str, tuple[str, ...]]]:
    """Cut partitions into units of about `unit_tokens` (None: no cut); return the corpus of units, and the units.

    The same text and tokenizer give the same units. Raises `CorpusError` for clashing names.
    """
    if unit_tokens is None or not corpus.partitions:
        return corpus, {name: (name,) for name in corpus.partitions}
    units = {
        name: _cut(name, documents, _count(documents, tokenizer, unit_tokens))
        for name, documents in corpus.partitions.items()
    }
    _check_names(units, corpus.held_out.keys())
    store = next(iter(corpus.partitions.values())).store
    return corpus_of(store, [one for some in units.values() for one in some], tuple(corpus.held_out)), units


def groups_of(units: Units, domains: Collection[str], groups: Units) -> dict[str, tuple[str, ...]]:
    """Put the units of all partitions into groups, given as patterns of partition names.

    Raises `CorpusError` for clashing names, held-out domains' included, and for unfit groups.
    """
    _check_names(units, domains)
    return group_units(tuple(units), units, groups)


def _count(documents: StoredDocuments, tokenizer: PreTrainedTokenizerFast, unit_tokens: int) -> int:
    texts = list(islice(documents, _MEASURED_DOCUMENTS))
    encodings = plain(tokenizer).core.encode_batch_fast(texts, add_special_tokens=False)
    per_byte = sum(len(one.ids) + 1 for one in encodings) / sum(len(text.encode("utf-8", "replace")) for text in texts)
    return min(len(documents), max(1, round(documents.bytes * per_byte / unit_tokens)))


def _cut(name: str, documents: StoredDocuments, count: int) -> tuple[str, ...]:
    """Move each document, in hash order, into the smallest unit so far.

    So no two units differ in bytes by more than the longest document.
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
    """Refuse clashing names; a held-out domain may share the name of a whole partition only."""
    names = [unit for some in units.values() for unit in some] + [name for name, some in units.items() if len(some) > 1]
    for name in names:
        if len(name) > 80:
            raise CorpusError(f"base unit {name!r}: more than 80 characters; give its partition a shorter name")
        if names.count(name) > 1:
            raise CorpusError(f"a base unit would have the name of another partition, {name!r}; rename that one")
        if name in domains and name not in units:
            raise CorpusError(f"held-out domain {name!r} has the name of a base unit; rename the domain")
