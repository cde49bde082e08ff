"""Documents on disk, each once, ordered by a hash of its text: memory stays flat however large the corpus is.

Texts are appended to a spool file. A small SQLite index maps each text to its start and its place: a partition, or a
split of a domain. Both files are unlinked once open, so a kill leaves nothing behind.
"""

import hashlib
import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_PAGE = 2048
_SCHEMA = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8000; PRAGMA temp_store = FILE;
CREATE TABLE documents (key BLOB PRIMARY KEY, place INTEGER, start INTEGER, bytes INTEGER) WITHOUT ROWID;
CREATE INDEX by_place ON documents (place, key, start, bytes);
CREATE TABLE refused (number INTEGER PRIMARY KEY, key BLOB);
"""

Found = tuple[bytes, int, int]
"""Key, start of the text in the spool, its bytes."""


class DocumentStore:
    """Documents by place; a text already in the store is refused, whatever its place.

    `folder` (default: the system's temporary folder) holds the files. `watch` is told place and bytes of every document
    given. A full disk raises `OSError`.
    """

    def __init__(
        self, folder: Path | None = None, watch: Callable[[str, int], None] = lambda place, size: None
    ) -> None:
        self._watch = watch
        self._spool: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (open as long as the store is)
        self._end = 0
        handle, path = tempfile.mkstemp(prefix=".index.", dir=folder)
        os.close(handle)
        self._index = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with _disk_errors():
                self._index.executescript(_SCHEMA)
        finally:
            Path(path).unlink()
        self._index.execute("BEGIN")
        self._numbers: dict[str, int] = {}
        self.refused = 0
        """Documents given again for another place."""
        self.given = Counter[str]()
        """Documents given, by place."""
        self.copies = Counter[tuple[str, str]]()
        """Documents left out as copies, by the place they were given for and the place of the first."""

    def add(self, place: str, text: str) -> str:
        """Keep a document and return its place, an earlier place for a known text."""
        content = text.encode("utf-8", "surrogatepass")
        self._watch(place, len(content))
        self.given[place] += 1
        key = hashlib.sha256(content).digest()
        row = (key, self._number(place), self._end, len(content))
        if self._run("INSERT OR IGNORE INTO documents VALUES (?, ?, ?, ?)", row).rowcount == 0:
            (other,) = self._run("SELECT place FROM documents WHERE key = ?", (key,)).fetchone()
            if other != row[1]:
                self._run("INSERT INTO refused (key) VALUES (?)", (key,))
                self.refused += 1
            first = list(self._numbers)[int(other)]
            self.copies[place, first] += 1
            return first
        self._spool.write(content)
        self._end += len(content)
        return place

    def claim(self, place: str, keys: Iterable[bytes]) -> int:
        """Give documents a place by their keys, without texts; return how many had no place before."""
        before, number = self._index.total_changes, self._number(place)
        self._run_many("INSERT OR IGNORE INTO documents VALUES (?, ?, 0, 0)", ((key, number) for key in keys))
        return self._index.total_changes - before

    def has(self, key: bytes) -> bool:
        return self._run("SELECT 1 FROM documents WHERE key = ?", (key,)).fetchone() is not None

    def forget(self, place: str) -> None:
        """Remove the documents of a place without a trace."""
        self._run("DELETE FROM documents WHERE place = ?", (self._number(place),))

    def refused_keys(self, which: range) -> Iterator[bytes]:
        """Yield the keys of refused documents in order, each once; `which` numbers them as `refused` counts."""
        query = "SELECT DISTINCT key FROM refused WHERE number > ? AND number <= ? ORDER BY key"
        yield from (key for (key,) in self._run(query, (which.start, which.stop)))

    def documents(self, place: str) -> "StoredDocuments":
        self._spool.flush()
        counts = "SELECT count(*), coalesce(sum(bytes), 0) FROM documents WHERE place = ?"
        return StoredDocuments(self, place, *self._run(counts, (self._number(place),)).fetchone())

    def reassign(self, place: str, choose: Callable[["Page"], Sequence[str]]) -> None:
        """Give every document of a place a new place: `choose` returns one for each document of a page."""
        for page in self.pages(place):
            moved = zip(choose(page), page.found, strict=True)
            rows = [(self._number(to), key) for to, (key, _, _) in moved if to != place]
            self._run_many("UPDATE documents SET place = ? WHERE key = ?", rows)

    def rename(self, place: str, into: str) -> None:
        documents = self.given.pop(place, 0)
        self.given[into] += documents
        for (given, first), count in [*self.copies.items()]:
            if place in (given, first):
                del self.copies[given, first]
                self.copies[into if given == place else given, into if first == place else first] += count
        self._run("UPDATE documents SET place = ? WHERE place = ?", (self._number(into), self._number(place)))

    def pages(self, place: str) -> Iterator["Page"]:
        """Yield the documents of a place in order, some at a time."""
        self._spool.flush()
        query = "SELECT key, start, bytes FROM documents WHERE place = ? AND key > ? ORDER BY key LIMIT ?"
        found: list[Found] = self._run(query, (self._number(place), b"", _PAGE)).fetchall()
        while found:
            yield Page(self, tuple(found))
            found = self._run(query, (self._number(place), found[-1][0], _PAGE)).fetchall()

    def text(self, found: Found) -> str:
        return os.pread(self._spool.fileno(), found[2], found[1]).decode("utf-8", "surrogatepass")

    def _number(self, place: str) -> int:
        return self._numbers.setdefault(place, len(self._numbers))

    def _run(self, statement: str, values: Sequence[object]) -> sqlite3.Cursor:
        with _disk_errors():
            return self._index.execute(statement, tuple(values))

    def _run_many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        with _disk_errors():
            self._index.executemany(statement, rows)


@dataclass(frozen=True)
class Page:
    """Consecutive documents: their sizes, and their texts on demand."""

    store: DocumentStore
    found: tuple[Found, ...]

    @property
    def bytes(self) -> list[int]:
        return [size for _, _, size in self.found]

    def texts(self) -> Iterator[str]:
        return map(self.store.text, self.found)


@dataclass(frozen=True)
class StoredDocuments:
    """The documents of one place, read from disk at each iteration; `bytes` in all."""

    store: DocumentStore
    place: str
    count: int
    bytes: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        for page in self.store.pages(self.place):
            yield from page.texts()


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"the index of the corpus: {error}") from error
