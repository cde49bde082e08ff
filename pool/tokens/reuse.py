"""A corpus that was made before, of which a new one takes over what is the same: tokens are never made twice.

A table is taken over where its text, the settings and the tokenizer are those it was read with, where its files are
whole, and where it would have the documents that it had. Whatever the records do not tell is read.

What each table of the pool file gave a corpus: enough to tell whether another corpus can have it without its text.

CORPUS/  tables.json  documents/<table>.npy

A document stands in the first table that has it, so what a table gives hangs on the tables before it, and no held-out
document may stand anywhere else. The hashes of a table's documents are all that this takes.
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
from pool.corpus.partitioning import TableRecord
from pool.errors import PoolError
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
from pool.tokens.text_digest import TextDigest

TABLES_FILE = "tables.json"
_KEY_BYTES, _ROWS_AT_ONCE = 32, 4096


class TableRecords(Record):
    """All tables of the corpus whose source has this digest."""

    source_digest: str
    tables: dict[str, TableRecord]


def hashes_file(table: str) -> Path:
    """Where a corpus has the hashes of a table's documents."""
    return Path("documents", f"{table}.npy")


def write_hashes(path: Path, store: DocumentStore, places: Collection[str], refused: range) -> tuple[int, str]:
    """Write the hashes of the documents of some places, then of those refused; return the former's number, a digest."""
    own = (key for place in places for page in store.pages(place) for key, _, _ in page.found)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rows_into(path, np.uint8, (_KEY_BYTES,)) as add:
        for key in chain(own, store.refused_keys(refused)):
            add(key)
    return sum(len(store.documents(place)) for place in places), digest_stream(path)


def read_hashes(path: Path, rows: slice) -> Iterator[bytes]:
    """Yield some of the hashes of a file. Raises `OSError` or `ValueError` for a file that is none."""
    hashes = np.load(path, mmap_mode="r", allow_pickle=False)[rows]
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        block = hashes[start : start + _ROWS_AT_ONCE].tobytes()
        yield from (block[at : at + _KEY_BYTES] for at in range(0, len(block), _KEY_BYTES))


@dataclass(frozen=True)
class Earlier:
    """The corpus in `folder`: those of its `tables` that are as they were, and what its record says of all it has."""

    folder: Path = Path()
    tables: Mapping[str, TableRecord] = field(default_factory=dict)
    partitions: Mapping[str, PartitionSummary] = field(default_factory=dict)
    windows: Mapping[Split, Mapping[str, TextSummary]] = field(default_factory=lambda: {split: {} for split in SPLITS})

    @classmethod
    def find(cls, corpora: Iterable[Path], text: TextDigest, tokenizer: str) -> Self:
        """Choose the corpus that has most tables as they were; where none has any, there is nothing to take over.

        `tokenizer` is the digest of the one that text is encoded by now.
        """
        found = [one for folder in corpora if (one := cls._in(folder, text, tokenizer)) is not None]
        return max(found, key=lambda one: len(one.tables), default=cls())

    @classmethod
    def _in(cls, folder: Path, text: TextDigest, tokenizer: str) -> Self | None:
        try:
            manifest = read_record(folder / CORPUS_RECORD, CorpusManifest)
            records = read_record(folder / TABLES_FILE, TableRecords)
        except PoolError:  # of an older version, or broken: it can be done without
            return None
        if (records.source_digest, tokenizer) != (manifest.source_digest, manifest.tokenizer_digest):
            return None
        tables = {
            name: record
            for name, record in records.tables.items()
            if record.source == text.tables.get(name) and _is_whole(folder, name, record, manifest)
        }
        return cls(folder, tables, manifest.partitions, {"search": manifest.search, "test": manifest.test})

    def keep(self, store: DocumentStore, table: str, place: str) -> TableRecord | None:
        """Give a table's documents a place in a store, and return its record; None where it has to be read.

        It need not be where none of the documents that it had is anywhere yet, and all those that it had not are.
        """
        record = self.tables.get(table)
        if record is None:
            return None
        hashes = self.folder / hashes_file(table)
        claimed = store.claim(place, read_hashes(hashes, slice(record.own)))
        if claimed == record.own and all(map(store.has, read_hashes(hashes, slice(record.own, None)))):
            return record
        store.forget(place)
        return None

    def take_over(self, kept: Mapping[str, TableRecord], folder: Path) -> None:
        """Put the files of some tables into the folder of another corpus, where they can without a copy of them."""
        for table, record in kept.items():
            for file in _files(table, record):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                _link(self.folder / file, folder / file)


def _files(table: str, record: TableRecord) -> list[Path]:
    streams = [stream_file(unit) for units in record.units.values() for unit in units]
    return [*streams, *(windows_file(name, split) for name in record.domains for split in SPLITS), hashes_file(table)]


def _is_whole(folder: Path, table: str, record: TableRecord, manifest: CorpusManifest) -> bool:
    """Whether the files of a table are what the records say."""
    try:
        units = {unit: manifest.partitions[unit] for units in record.units.values() for unit in units}
        search, test = ({name: split[name] for name in record.domains} for split in (manifest.search, manifest.test))
        own = manifest.model_copy(update={"partitions": units, "search": search, "test": test})
        load_prepared(folder, own)
        return digest_stream(folder / hashes_file(table)) == record.hashes
    except (PoolError, OSError, ValueError, KeyError):
        return False


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except OSError:  # a file system without links, or too many of them
        shutil.copyfile(path, to)
