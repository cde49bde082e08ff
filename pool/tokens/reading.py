"""The text that a pool file names, read into a corpus: partitions, held-out domains and their splits."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pool.config.pool_file import CorpusConfig, HeldOutSize, PoolFile
from pool.corpus.corpus import Corpus, check_domains, domain_place, make_corpus, training_place, with_held_out
from pool.corpus.demo import demo_held_out, demo_partitions
from pool.corpus.document_store import DocumentStore
from pool.corpus.documents import read_documents
from pool.corpus.overlap import without_overlap
from pool.corpus.partitioning import FilledTable, TableRecord, fill_partitions
from pool.errors import PoolError
from pool.progress import track_reading
from pool.tokens.reuse import Earlier
from pool.tokens.text_digest import held_out_table, partition_table


@dataclass(frozen=True)
class ReadText:
    """The text of a pool: `corpus` is of what was read, `partitions` and `domains` name all there are, in order.

    What was not read is of the `earlier` corpus. `tables` says what each table gave; it is empty where that does not
    decide its tokens: for the demo, and where documents are left out for what they share with other tables.
    """

    corpus: Corpus
    store: DocumentStore
    partitions: tuple[str, ...]
    domains: tuple[str, ...]
    tables: Mapping[str, FilledTable] = field(default_factory=dict)
    earlier: Earlier = field(default_factory=Earlier)

    @property
    def kept(self) -> dict[str, TableRecord]:
        """The tables that were not read."""
        return {table: one.kept for table, one in self.tables.items() if one.kept is not None}


def read_corpus(config: PoolFile, folder: Path | None = None) -> Corpus:
    """Read all text that the pool file names, as `read_text` does."""
    return read_text(config, folder).corpus


def read_text(config: PoolFile, folder: Path | None = None, earlier: Earlier | None = None) -> ReadText:
    """Read text into a store under `folder`, or the system's temporary folder: what an earlier corpus does not have.

    Raises `CorpusError`; for a full disk `PoolError`, or under a given folder `OSError`.
    """
    try:
        with track_reading("corpus: reading text") as show:
            text = _sorted_text(config.corpus, DocumentStore(folder, show), earlier or Earlier())
        if not config.corpus.drop_overlap:
            return text
        return replace(text, corpus=without_overlap(text.corpus, config.corpus.scored), tables={})
    except OSError as error:
        if folder is not None:
            raise
        raise PoolError(
            f"the corpus's text cannot be kept in {tempfile.gettempdir()}: {error.strerror or error}; make room "
            "there, or name another folder by the environment variable TMPDIR"
        ) from error


def _sorted_text(config: CorpusConfig, store: DocumentStore, earlier: Earlier) -> ReadText:
    kept_out = config.kept_out
    if config.source == "demo":
        corpus = make_corpus(demo_partitions(), demo_held_out(), kept_out=kept_out, store=store)
        return ReadText(corpus, store, tuple(corpus.partitions), tuple(corpus.held_out))
    keep = partial(earlier.keep, store)
    filled = fill_partitions(store, config.partitions, lambda name: keep(partition_table(name), training_place(name)))
    names = tuple(name for one in filled.values() for name in one.partitions)
    check_domains(names, config.held_out, kept_out)
    kept = {name: keep(held_out_table(name), domain_place(name)) for name in config.held_out}
    new = [name for one in filled.values() if one.kept is None for name in one.partitions]
    held_out = {name: read_documents(name, table) for name, table in config.held_out.items() if kept[name] is None}
    corpus = with_held_out(store, new, held_out, kept_out)
    if kept_out != HeldOutSize():
        filled = {name: replace(one, domains=one.partitions) for name, one in filled.items()}
    tables = {partition_table(name): one for name, one in filled.items()}
    tables |= {held_out_table(name): FilledTable(domains=(name,), kept=record) for name, record in kept.items()}
    domains = tuple(domain for one in tables.values() for domain in one.domains)
    return ReadText(corpus, store, names, domains, tables, earlier)
