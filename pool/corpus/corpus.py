"""A corpus: training documents in partitions, and held-out documents in two splits per domain.

Splits rank documents by a hash of their text. They depend neither on the order of files nor on a random state, and an
exact duplicate never stands on both sides.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

from pool.config.pool_file import HeldOutSize
from pool.corpus.document_store import DocumentStore, StoredDocuments
from pool.errors import CorpusError

Split = Literal["search", "test"]
SPLITS: tuple[Split, Split] = ("search", "test")


_MOST_NAMED = 3
"""Places named in a message about copies."""


@dataclass(frozen=True)
class Corpus:
    """Training documents by partition, and held-out documents by domain and split; none is empty."""

    partitions: Mapping[str, StoredDocuments]
    held_out: Mapping[str, Mapping[Split, StoredDocuments]]

    def __post_init__(self) -> None:
        for name, documents in self.partitions.items():
            if not len(documents):
                held_out = sum(len(documents) for documents in self.held_out.get(name, {}).values())
                copies = copies_in(documents.store, training_place(name))
                raise CorpusError(f"partition {name!r} has no training text; {copies}{_remedy(held_out)}")
        for name, splits in self.held_out.items():
            for split in SPLITS:
                if not len(splits[split]):
                    raise CorpusError(
                        f"held-out domain {name!r} has no documents in its {split} split: it needs at least two "
                        f"different documents; {_remedy_of_domain(name, splits[split].store)}"
                    )


def make_corpus(
    partitions: Mapping[str, Iterable[str]],
    held_out: Mapping[str, Iterable[str]],
    *,
    kept_out: HeldOutSize,
    store: DocumentStore,
) -> Corpus:
    """Drop exact duplicates, keep some of each partition out of training, and split held-out text in two.

    A document of several partitions stays in the first. A held-out document found elsewhere raises `CorpusError`.
    """
    for name, texts in partitions.items():
        add_documents(store, name, training_place(name), (text for text in texts if text.strip()))
    check_domains(partitions, held_out, kept_out)
    return with_held_out(store, tuple(partitions), held_out, kept_out)


def check_domains(partitions: Collection[str], held_out: Collection[str], kept_out: HeldOutSize) -> None:
    """Raise `CorpusError` for two held-out domains of one name, or none at all."""
    for name in partitions:
        if name in held_out and kept_out != HeldOutSize():
            raise CorpusError(f"held-out domain {name!r} has the name of a partition: rename it")
    if not held_out and kept_out == HeldOutSize():
        raise CorpusError("no held-out domain: set held_out_share above 0 or add [corpus.held_out.NAME]")


def with_held_out(
    store: DocumentStore, partitions: Sequence[str], held_out: Mapping[str, Iterable[str]], kept_out: HeldOutSize
) -> Corpus:
    """As `make_corpus`, of partitions already in the store."""
    domains = []
    for name in partitions:
        count = kept_out.of(len(store.documents(training_place(name))))
        if kept_out != HeldOutSize():
            _set_aside(store, training_place(name), count, domain=name)
            domains.append(name)
    for name, texts in held_out.items():
        _add_domain(store, name, texts)
        domains.append(name)
    return corpus_of(store, partitions, domains)


def add_documents(store: DocumentStore, name: str, place: str, texts: Iterable[str]) -> None:
    """Keep a partition's documents in a place. Raises `CorpusError` for duplicates of other partitions alone."""
    places = Counter(store.add(place, text) for text in texts)
    refuse_duplicates(name, places, {place})


def refuse_duplicates(name: str, places: Mapping[str, int], own: AbstractSet[str]) -> None:
    """Raise `CorpusError` for documents, counted by place, all outside the places `own`."""
    if places and own.isdisjoint(places):
        count, others = sum(places.values()), ", ".join([*islice(places, 3), *(["others"] if len(places) > 3 else [])])
        raise CorpusError(
            f"{name}: all {count:,} documents are duplicates of documents of {others}; a document stands in the first "
            "partition alone, so give it other files, or take one of them away"
        )


def corpus_of(store: DocumentStore, partitions: Sequence[str], domains: Sequence[str]) -> Corpus:
    """View a store as a corpus. Raises `CorpusError` for an empty partition or split."""
    return Corpus(
        {name: store.documents(training_place(name)) for name in partitions},
        {name: {split: store.documents(held_out_place(name, split)) for split in SPLITS} for name in domains},
    )


def training_place(partition: str) -> str:
    return f"partition {partition!r}"


def domain_place(domain: str) -> str:
    return f"held-out domain {domain!r}"


def held_out_place(domain: str, split: Split) -> str:
    return f"held-out domain {domain!r} ({split} split)"


def copies_in(store: DocumentStore, place: str) -> str:
    """Tell how many documents given for a place are copies, left out, and of what; empty without any."""
    found = {first: count for (given, first), count in store.copies.items() if given == place}
    if not found:
        return ""
    ranked = sorted(found, key=lambda first: -found[first])[:_MOST_NAMED]
    named = [f"{found[one]:,} of {'its own' if one == place else one}" for one in ranked]
    rest = sum(found.values()) - sum(found[one] for one in ranked)
    listed = ", ".join([*named, *([f"{rest:,} of others"] if rest else [])])
    count = sum(found.values())
    what = "is a copy" if count == 1 else "are copies"
    return f"{count:,} of the {store.given[place]:,} documents of {place} {what}, left out ({listed}); "


def more_text(documents: StoredDocuments) -> str:
    """Word the remedy for too little text: copies are no help."""
    copies = copies_in(documents.store, documents.place)
    return f"{copies}give it text of its own" if copies else "add text"


def all_copies(store: DocumentStore) -> list[str]:
    """Tell of the copies left out, a line for each place with most of them, and one for the rest."""
    counts = Counter[str]()
    for (given, _), count in store.copies.items():
        counts[given] += count
    lines = [copies_in(store, place).removesuffix("; ") for place, _ in counts.most_common(_MOST_NAMED)]
    if rest := list(counts.most_common())[_MOST_NAMED:]:
        number, places = sum(count for _, count in rest), len(rest)
        copies = "1 copy" if number == 1 else f"{number:,} copies"
        where = "1 more place" if places == 1 else f"{places} more places"
        lines.append(f"{copies} in {where} {'is' if number == 1 else 'are'} left out, too")
    return lines


def _remedy_of_domain(name: str, store: DocumentStore) -> str:
    for place in (training_place(name), domain_place(name)):
        if copies := copies_in(store, place):
            own = store.given[place] - sum(count for (given, _), count in store.copies.items() if given == place)
            few = ", or set held_out_documents = 2" if own > 2 and place == training_place(name) else ""
            return f"{copies}give it text of its own, or take the copies away{few}"
    return "add text, or raise held_out_share or held_out_documents"


def _remedy(held_out: int) -> str:
    if held_out:
        return f"its {held_out} documents are all held out: add text, or lower held_out_share or held_out_documents"
    return "give it files with text in them"


def _add_domain(store: DocumentStore, name: str, texts: Iterable[str]) -> None:
    own = domain_place(name)
    for text in texts:
        place = store.add(own, text) if text.strip() else own
        if place != own:
            raise CorpusError(
                f"the same document is in {place} and in {own}: {text[:60]!r}; remove it from one of them"
            )
    _set_aside(store, own, len(store.documents(own)), domain=name)


def _set_aside(store: DocumentStore, place: str, count: int, *, domain: str) -> None:
    """Move the first `count` documents of a place alternately into the two splits of a domain."""
    turns = islice(cycle([held_out_place(domain, split) for split in SPLITS]), count)
    store.reassign(place, lambda page: [next(turns, place) for _ in page.found])
