"""From sections [corpus.partitions.NAME] to partitions: each whole, or split by a column or by topic."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from pool.config.sources import PartitionSource
from pool.corpus.corpus import add_documents, refuse_duplicates, training_place
from pool.corpus.document_store import DocumentStore
from pool.corpus.documents import read_documents, read_labelled_documents
from pool.errors import CorpusError
from pool.files.records import Record


class SectionRecord(Record):
    """The yield of one section of the pool file in a corpus.

    source: digest of its text and of how it is read
    units: base units by partition
    domains: held-out domains
    own: number of its different documents in the corpus
    hashes: digest of its hashes file, rows (32,) uint8: its own documents, then those of earlier sections
    """

    source: str
    units: dict[str, tuple[str, ...]]
    domains: tuple[str, ...]
    own: int
    hashes: str


MOST_VALUES = 10_000
"""Different values of a column; a column with more names documents, not partitions."""
MISSING, OTHER = "missing", "other"
_LONGEST_NAME = 80


@dataclass(frozen=True)
class FilledSection:
    """The partitions and held-out domains of one section.

    refused: numbers, in the store's count, of its documents in other sections
    kept: its record in an earlier corpus, if it was not read
    """

    partitions: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    refused: range = range(0)
    kept: SectionRecord | None = None


def fill_partitions(
    store: DocumentStore,
    sections: Mapping[str, PartitionSource],
    keep: Callable[[str], SectionRecord | None] = lambda name: None,
) -> dict[str, FilledSection]:
    """Put the documents of every section into the places of its partitions.

    `keep` fills the store from an earlier corpus if it can. Raises `CorpusError` for unreadable or unsplittable text,
    and for two partitions of one name.
    """
    names: list[str] = []
    filled: dict[str, FilledSection] = {}
    for name, section in sections.items():
        before, kept = store.refused, keep(name)
        new = list(kept.units) if kept is not None else _fill(store, name, section)
        twice = sorted(set(new) & {*names, *(set(sections) - {name})})
        if twice:
            raise CorpusError(
                f"{name}: it is split into {twice[0]!r}, and there is a partition of that name; rename it"
            )
        names += new
        filled[name] = FilledSection(tuple(new), refused=range(before, store.refused), kept=kept)
    return filled


def _fill(store: DocumentStore, name: str, section: PartitionSource) -> list[str]:
    if section.partition_by is not None:
        return _fill_by_column(store, name, section, section.partition_by)
    add_documents(store, name, training_place(name), read_documents(name, section))
    if section.cluster is None:
        return [name]
    from pool.corpus.topics import split_by_topic  # loads scikit-learn and torch

    topics = split_by_topic(store, training_place(name), section.cluster, what=name)
    named = safe_names(name, topics)
    for topic, place in topics.items():
        store.rename(place, training_place(named[topic]))
    return [named[topic] for topic in topics]


def _fill_by_column(store: DocumentStore, name: str, section: PartitionSource, field: str) -> list[str]:
    places: dict[str, str] = {}
    found = Counter[str]()
    for text, value in read_labelled_documents(name, section, field):
        place = places.setdefault(value or MISSING, f"{field} = {value!r} of {name!r}")
        if len(places) > MOST_VALUES:
            raise CorpusError(
                f"{name}: column {field!r} has more than {MOST_VALUES:,} different values; name a coarser one"
            )
        found[store.add(place, text)] += 1
    refuse_duplicates(name, found, set(places.values()))
    sizes = {value: store.documents(place).bytes for value, place in places.items()}
    kept = _kept(name, field, section, {value: size for value, size in sizes.items() if size})
    named = safe_names(name, kept)
    for value, place in places.items():
        store.rename(place, training_place(named.get(value, f"{name}-{OTHER}")))
    merged = [f"{name}-{OTHER}"] if len(kept) < sum(size > 0 for size in sizes.values()) else []
    return list(dict.fromkeys([*(named[value] for value in sorted(kept)), *merged]))


def _kept(name: str, field: str, section: PartitionSource, sizes: Mapping[str, int]) -> list[str]:
    if section.max_partitions is None or len(sizes) <= section.max_partitions:
        return list(sizes)
    if section.rest == "refuse":
        raise CorpusError(
            f"{name}: column {field!r} has {len(sizes)} different values, more than max_partitions "
            f"{section.max_partitions}; raise it, or merge the smallest with rest = 'merge'"
        )
    return sorted(sizes, key=lambda value: (-sizes[value], value))[: section.max_partitions - 1]


def safe_names(prefix: str, values: Collection[str]) -> dict[str, str]:
    """Name a partition for each value: PREFIX-value, of letters, digits, `.`, `_` and `-` alone, and all different.

    An empty or too long name, or one equal to another ignoring case, ends with a piece of its value's hash.
    """
    plain = {value: _ascii(value) for value in values}
    counts = Counter(name.lower() for name in plain.values())
    room = _LONGEST_NAME - len(prefix) - 1
    named = {}
    for value, name in plain.items():
        if not name or counts[name.lower()] > 1 or len(name) > room:
            mark = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:6]
            name = f"{name[: max(0, room - 7)]}-{mark}".lstrip("-")
        named[value] = f"{prefix}-{name}"
    return named


def _ascii(value: str) -> str:
    letters = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")
