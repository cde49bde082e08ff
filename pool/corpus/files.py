"""Source files of the corpus: digested by their content."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pool.config.pool_file import CorpusConfig
from pool.config.sources import PartitionSource, TextSource
from pool.corpus.demo import demo_source_versions
from pool.corpus.embeddings import describe_embedding_model
from pool.corpus.reading.rows import folder_value
from pool.corpus.reading.source_files import paths_of, reason_of
from pool.errors import CorpusError
from pool.files.digests import DigestOf, digest_file, digest_json

WINDOW_FORMAT = 2
"""Raised when the same text gives other windows than before, so that old windows are made again."""


@dataclass(frozen=True)
class TextDigest:
    """Digests of everything behind a corpus's tokens, except the tokenizer.

    whole: digest of all sections and settings
    sections: digest of each section with the settings, by `partitions/NAME` or `held_out/NAME`; empty for the demo
    context: tokens of a window
    """

    whole: str
    sections: Mapping[str, str]
    context: int


def digest_text(config: CorpusConfig, context: int, digest_of: DigestOf = digest_file) -> TextDigest:
    """Digest the corpus settings, and the content (never the path) of every source file by `digest_of`.

    Raises `CorpusError` naming a missing file.
    """
    settings = config.model_dump(mode="json", exclude={"partitions", "held_out", "text_root", "max_unknown_share"})
    described = {
        kind: {name: describe_source(name, source, digest_of) for name, source in sources.items()}
        for kind, sources in (("partitions", config.partitions), ("held_out", config.held_out))
    }
    made_by = {"context": context, "windows": WINDOW_FORMAT}
    versions = demo_source_versions() if config.source == "demo" else {}
    whole = {"settings": settings, "order": list(config.partitions), "versions": versions, **described, **made_by}
    own = {key: value for key, value in settings.items() if key != "groups"}
    sections = {
        f"{kind}/{name}": digest_json({"settings": own, "table": one, **made_by})
        for kind, some in described.items()
        for name, one in some.items()
    }
    return TextDigest(digest_json(whole), sections, context)


def describe_source(name: str, source: TextSource, digest_of: DigestOf = digest_file) -> dict[str, object]:
    """Describe how a source is read and split, with the content digests of its files and of its embedding model.

    Raises `CorpusError` naming a missing file.
    """
    how = source.model_dump(mode="json", exclude={"files": True, "cluster": {"embeddings"}})  # paths are no content
    if isinstance(source, PartitionSource) and source.cluster is not None and source.cluster.embeddings is not None:
        how["cluster"]["embeddings"] = describe_embedding_model(name, source.cluster.embeddings, digest_of)
    if source.encoding is None:
        del how["encoding"]  # younger than the others: text that does without keeps its digest
    return {**how, "files": sorted(_described(name, path, source, digest_of) for path in paths_of(name, source))}


def _described(name: str, path: Path, source: TextSource, digest_of: DigestOf) -> str:
    """Digest a path, with the value of the column that its folder gives to split it by."""
    digest = _digest(name, path, digest_of)
    if not isinstance(source, PartitionSource) or source.partition_by is None:
        return digest
    folder = folder_value(name, path, source, source.partition_by)
    return digest if folder is None else f"{digest} {source.partition_by}={folder}"


def _digest(name: str, path: Path, digest_of: DigestOf) -> str:
    try:
        if not path.is_dir():
            return digest_of(path)
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_json({file.relative_to(path).as_posix(): digest_of(file) for file in inside})
    except OSError as error:
        raise CorpusError(f"{name}: {path}: {reason_of(path, error)}") from None
