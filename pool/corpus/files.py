"""Source files of the corpus: found, checked, and digested by their content."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import zstandard

from pool.config.pool_file import CorpusConfig
from pool.config.sources import PartitionSource, TextSource
from pool.corpus.demo import demo_source_versions
from pool.corpus.embeddings import describe_embedding_model
from pool.errors import CorpusError
from pool.files.digests import DigestOf, digest_file, digest_json

WINDOW_FORMAT = 2
"""Raised when the same text gives other windows than before, so that old windows are made again."""
_BLOCK_BYTES = 2**20


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


def paths_of(name: str, source: TextSource) -> list[Path]:
    """List the paths of a partition or held-out domain. An existing path is a name, never a pattern.

    Raises `CorpusError` for a pattern without a match.
    """
    paths: list[Path] = []
    for file in source.files:
        if file.exists() or not glob.has_magic(str(file)):
            paths.append(file)
            continue
        found = sorted(Path(match) for match in glob.glob(str(file), recursive=True))  # noqa: PTH207
        found = [path for path in found if path.is_dir() == (source.format == "saved")]
        if not found:
            raise CorpusError(f"{name}: no file matches {file}; correct `files` in the pool file")
        paths += found
    return list(dict.fromkeys(paths))


def check_path(name: str, path: Path, source: TextSource) -> None:
    """Raise `CorpusError` for a missing, wrong, empty or truncated path."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CorpusError(f"{name}: {path}: {error.strerror}; correct `files` in the pool file") from None
    if source.format == "saved":
        if not path.is_dir():
            raise CorpusError(f"{name}: {path} is not a folder written by save_to_disk; correct `files` or `format`")
        return
    if not path.is_file():
        raise CorpusError(f"{name}: {path} is not a file; correct `files` in the pool file")
    if size == 0:
        raise CorpusError(f"{name}: {path} is empty; remove it from `files` or fill it")
    if path.suffix in (".zst", ".zstd"):
        _check_frames(name, path)


def _check_frames(name: str, path: Path) -> None:
    """Read a Zstandard file to the end of its last frame: `zstandard`'s readers accept a truncated file."""
    try:
        with path.open("rb") as stream:
            frame = None
            while rest := stream.read(_BLOCK_BYTES):
                while rest:
                    frame = frame or zstandard.ZstdDecompressor().decompressobj()
                    frame.decompress(rest)
                    rest, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    except (OSError, zstandard.ZstdError) as error:
        raise CorpusError(f"{name}: {path} cannot be read as Zstandard: {error}; download or write it again") from None
    if frame is not None:
        raise CorpusError(f"{name}: {path} ends in the middle of a Zstandard frame; download or write it again")


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
    return {**how, "files": sorted(_digest(name, path, digest_of) for path in paths_of(name, source))}


def _digest(name: str, path: Path, digest_of: DigestOf) -> str:
    try:
        if not path.is_dir():
            return digest_of(path)
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return digest_json({file.relative_to(path).as_posix(): digest_of(file) for file in inside})
    except OSError as error:
        reason = error.strerror or str(error)
        raise CorpusError(f"{name}: {path}: {reason}; correct `files` in the pool file") from None
