"""What a corpus is made from, as digests: of all of it, and of every table of the pool file by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pool.config.pool_file import PoolFile
from pool.config.sources import ClusterConfig, PartitionSource, TextSource
from pool.corpus.demo import demo_source_versions
from pool.corpus.embeddings import describe_embedding_model
from pool.corpus.files import paths_of
from pool.errors import CorpusError
from pool.files.digests import DigestOf, digest_file, digest_json


def describe_source(name: str, source: TextSource, digest_of: DigestOf = digest_file) -> dict[str, object]:
    """Say what decides a source's text and its parts: how it is read and split, and the content (not the place) of
    its files and of the model that splits it.

    Raises `CorpusError` naming a file that is missing.
    """
    how = source.model_dump(mode="json", exclude={"files"})
    if isinstance(source, PartitionSource) and source.cluster is not None:
        how["cluster"] = _describe_cluster(name, source.cluster, digest_of)
    return {**how, "files": sorted(_digest(name, path, digest_of) for path in paths_of(name, source))}


def _describe_cluster(name: str, cluster: ClusterConfig, digest_of: DigestOf) -> dict[str, object]:
    """Describe it as before there were models where it names none, so that the pools of then still hold."""
    how = cluster.model_dump(mode="json", exclude={"embeddings"})
    if cluster.embeddings is None:
        return how
    return {**how, "embeddings": describe_embedding_model(name, cluster.embeddings, digest_of)}


def _digest(name: str, path: Path, digest_of: DigestOf) -> str:
    try:
        if not path.is_dir():
            return digest_of(path)
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_json({file.relative_to(path).as_posix(): digest_of(file) for file in inside})
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(f"{name}: {path}: {reason}; correct `files` in the pool file") from None


WINDOW_FORMAT = 2
"""Raised when the same text gives other windows than before, so that old ones are made again."""


@dataclass(frozen=True)
class TextDigest:
    """Digests of what decides the tokens: `whole` of all, `tables` of each table and the settings that it is under.

    A table's says nothing of the other tables, which may have documents of it, and nothing of the tokenizer. Tables are
    named `partitions/NAME` and `held_out/NAME`; the demo has none.
    """

    whole: str
    tables: Mapping[str, str]


def digest_text(config: PoolFile, digest_of: DigestOf = digest_file) -> TextDigest:
    """Digest the corpus table and the content (not the path) of every source file.

    `digest_of` digests a file. Raises `CorpusError` naming a file that is missing.
    """
    corpus = config.corpus
    settings = corpus.model_dump(mode="json", exclude={"partitions", "held_out", "text_root"})
    described = {
        kind: {name: describe_source(name, table, digest_of) for name, table in tables.items()}
        for kind, tables in (("partitions", corpus.partitions), ("held_out", corpus.held_out))
    }
    made_by = {"context": config.context, "windows": WINDOW_FORMAT}
    versions = demo_source_versions() if corpus.source == "demo" else {}
    whole = {"settings": settings, "order": list(corpus.partitions), "versions": versions, **described, **made_by}
    own = {key: value for key, value in settings.items() if key != "groups"}
    tables = {
        f"{kind}/{name}": digest_json({"settings": own, "table": one, **made_by})
        for kind, some in described.items()
        for name, one in some.items()
    }
    return TextDigest(digest_json(whole), tables)


def partition_table(name: str) -> str:
    """Name the table [corpus.partitions.NAME]."""
    return f"partitions/{name}"


def held_out_table(name: str) -> str:
    """Name the table [corpus.held_out.NAME]."""
    return f"held_out/{name}"
