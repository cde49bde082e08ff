"""What each table of the pool file gave a corpus: enough to tell whether another corpus can have it without its text.

CORPUS/  tables.json  documents/<table>.npy

A document stands in the first table that has it, so what a table gives hangs on the tables before it, and no held-out
document may stand anywhere else. The hashes of a table's documents are all that this takes.
"""

from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from pool.corpus.document_store import DocumentStore
from pool.corpus.partitioning import TableRecord
from pool.files.records import Record
from pool.files.row_file import rows_into
from pool.packing import digest_stream

TABLES = "tables.json"
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
