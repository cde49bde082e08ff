"""How many documents are read while a block runs: those that any store is given."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pool.corpus.document_store import DocumentStore


@contextmanager
def counted_documents() -> Iterator[list[str]]:
    """Yield the texts that stores were given while the block runs."""
    original, given = DocumentStore.add, []

    def add(store: DocumentStore, place: str, text: str) -> str:
        given.append(text)
        return original(store, place, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DocumentStore, "add", add)
        yield given
