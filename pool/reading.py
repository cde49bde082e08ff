"""The text that a pool file names, read into a corpus: partitions, held-out domains and their splits."""

import tempfile
from pathlib import Path

from pool.config import CorpusConfig, PoolFile
from pool.corpus import Corpus, make_corpus, with_held_out
from pool.demo_corpus import demo_held_out, demo_partitions
from pool.document_store import DocumentStore
from pool.documents import read_documents
from pool.errors import PoolError
from pool.overlap import without_overlap
from pool.partitioning import fill_partitions
from pool.text_progress import track_reading


def read_corpus(config: PoolFile, folder: Path | None = None) -> Corpus:
    """Read the text that the pool file names into a store under `folder`, or the system's temporary folder.

    Raises `CorpusError`; for a full disk `PoolError`, or under a given folder `OSError`.
    """
    try:
        with track_reading("corpus: reading text") as show:
            corpus = _sorted_text(config.corpus, DocumentStore(folder, show))
        return without_overlap(corpus, config.corpus.scored) if config.corpus.drop_overlap else corpus
    except OSError as error:
        if folder is not None:
            raise
        raise PoolError(
            f"the corpus's text cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}; make room "
            "there, or name another folder by the environment variable TMPDIR"
        ) from error


def _sorted_text(config: CorpusConfig, store: DocumentStore) -> Corpus:
    kept_out = config.kept_out
    if config.source == "demo":
        return make_corpus(demo_partitions(), demo_held_out(), kept_out=kept_out, store=store)
    held_out = {name: read_documents(name, table) for name, table in config.held_out.items()}
    return with_held_out(store, fill_partitions(store, config.partitions), held_out, kept_out)
