"""Take unchanged sections over from an earlier corpus: tokens are never made twice.

CORPUS/  tables.json  documents/<section>.npy

A section is taken over if its text, settings and tokenizer are unchanged, its files are whole, and its documents would
be the same. A document belongs to its first section, so a section depends on those before it; the hashes of its
documents settle that. Everything else is read.
"""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np

from pool.corpus.corpus import SPLITS, Split
from pool.corpus.document_store import DocumentStore
from pool.corpus.files import TextDigest
from pool.corpus.partitioning import SectionRecord
from pool.errors import PoolError
from pool.files.names import file_name
from pool.files.records import Record, read_record
from pool.files.whole import rows_into
from pool.tokens.prepared import (
    CORPUS_RECORD,
    CorpusManifest,
    PartitionSummary,
    TextSummary,
    load_prepared,
    stream_file,
    windows_file,
)
from pool.tokens.stream import digest_stream

SECTIONS_FILE = "tables.json"
_KEY_BYTES, _ROWS_AT_ONCE = 32, 4096


class SectionRecords(Record):
    """The sections (`tables`) of a corpus of this source."""

    source_digest: str
    tables: dict[str, SectionRecord]


def hashes_file(section: str) -> Path:
    """Return the place, in a corpus, of the hashes of a section's documents."""
    kind, _, name = section.partition("/")
    return Path("documents", kind, f"{file_name(name)}.npy")


def write_hashes(path: Path, store: DocumentStore, places: Collection[str], refused: range) -> tuple[int, str]:
    """Write the hashes of the documents of `places`, then of those refused; return the former's count and a digest."""
    own = (key for place in places for page in store.pages(place) for key, _, _ in page.found)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rows_into(path, np.uint8, (_KEY_BYTES,)) as add:
        for key in chain(own, store.refused_keys(refused)):
            add(key)
    return sum(len(store.documents(place)) for place in places), digest_stream(path)


def _read_hashes(path: Path, rows: slice) -> Iterator[bytes]:
    hashes = np.load(path, mmap_mode="r", allow_pickle=False)[rows]
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        block = hashes[start : start + _ROWS_AT_ONCE].tobytes()
        yield from (block[at : at + _KEY_BYTES] for at in range(0, len(block), _KEY_BYTES))


@dataclass(frozen=True)
class Earlier:
    """An earlier corpus.

    folder: its place
    sections: records of its unchanged sections
    partitions, windows: its manifest's summaries of all text
    """

    folder: Path = Path()
    sections: Mapping[str, SectionRecord] = field(default_factory=dict)
    partitions: Mapping[str, PartitionSummary] = field(default_factory=dict)
    windows: Mapping[Split, Mapping[str, TextSummary]] = field(default_factory=lambda: {split: {} for split in SPLITS})

    @classmethod
    def find(cls, corpora: Iterable[Path], text: TextDigest, tokenizer: str) -> Self:
        """Choose the corpus with most unchanged sections; an empty value for none.

        `tokenizer` is the digest of today's tokenizer.
        """
        found = [one for folder in corpora if (one := cls._in(folder, text, tokenizer)) is not None]
        return max(found, key=lambda one: len(one.sections), default=cls())

    @classmethod
    def _in(cls, folder: Path, text: TextDigest, tokenizer: str) -> Self | None:
        try:
            manifest = read_record(folder / CORPUS_RECORD, CorpusManifest)
            records = read_record(folder / SECTIONS_FILE, SectionRecords)
        except PoolError:  # a broken record: everything is read
            return None
        if (records.source_digest, tokenizer) != (manifest.source_digest, manifest.tokenizer_digest):
            return None
        sections = {
            name: record
            for name, record in records.tables.items()
            if record.source == text.sections.get(name) and _is_whole(folder, name, record, manifest)
        }
        return cls(folder, sections, manifest.partitions, {"search": manifest.search, "test": manifest.test})

    def keep(self, store: DocumentStore, section: str, place: str) -> SectionRecord | None:
        """Give a section's documents a place in the store and return its record; None if it has to be read.

        A section is kept if none of its own documents has a place yet, and every refused document has one.
        """
        record = self.sections.get(section)
        if record is None:
            return None
        hashes = self.folder / hashes_file(section)
        claimed = store.claim(place, _read_hashes(hashes, slice(record.own)))
        if claimed == record.own and all(map(store.has, _read_hashes(hashes, slice(record.own, None)))):
            return record
        store.forget(place)
        return None

    def take_over(self, kept: Mapping[str, SectionRecord], folder: Path) -> None:
        """Link, or else copy, the files of kept sections into the folder of another corpus."""
        for section, record in kept.items():
            for file in _files(section, record):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(self.folder / file, folder / file)
                except OSError:  # a file system without links, or too many of them
                    shutil.copyfile(self.folder / file, folder / file)


def _files(section: str, record: SectionRecord) -> list[Path]:
    streams = [stream_file(unit) for units in record.units.values() for unit in units]
    return [*streams, *(windows_file(name, split) for name in record.domains for split in SPLITS), hashes_file(section)]


def _is_whole(folder: Path, section: str, record: SectionRecord, manifest: CorpusManifest) -> bool:
    try:
        units = {unit: manifest.partitions[unit] for units in record.units.values() for unit in units}
        search, test = ({name: split[name] for name in record.domains} for split in (manifest.search, manifest.test))
        own = manifest.model_copy(update={"partitions": units, "search": search, "test": test})
        load_prepared(folder, own)
        return digest_stream(folder / hashes_file(section)) == record.hashes
    except (PoolError, OSError, ValueError, KeyError):
        return False
