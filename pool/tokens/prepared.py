"""The prepared corpus: tokens on disk, made once, believed only under their digests.

CORPUS/  corpus.json (written last)  train/<partition>.npy  held_out/<domain>.<split>.safetensors
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pool.corpus.corpus import Split
from pool.errors import PoolError
from pool.files.names import file_name
from pool.files.records import Record
from pool.tokens.held_out import HeldOutWindows, Tokens
from pool.tokens.stream import digest_stream, map_stream


class TextSummary(Record):
    """Counts and digest of one split of a held-out domain.

    unknown_tokens: tokens for text that the tokenizer does not know; None for a tokenizer without such a token
    """

    documents: int
    tokens: int
    bytes: int
    digest: str
    unknown_tokens: int | None = Field(None, exclude_if=lambda count: count is None)


class PartitionSummary(TextSummary):
    """The same of a partition's kept training text; `available_tokens` are all it has, estimated for cut text."""

    available_tokens: int


class CorpusManifest(Record):
    """Counts and digests of a prepared corpus, and the digests of its text and its tokenizer."""

    source_digest: str
    tokenizer_digest: str
    context: int
    partitions: dict[str, PartitionSummary]
    search: dict[str, TextSummary]
    test: dict[str, TextSummary]
    groups: dict[str, tuple[str, ...]] = {}


CORPUS_RECORD = "corpus.json"
TRAIN, HELD_OUT = Path("train"), Path("held_out")


def stream_file(unit: str) -> Path:
    """Return the place, in a corpus, of the training tokens of a partition or base unit."""
    return TRAIN / f"{file_name(unit)}.npy"


def windows_file(domain: str, split: Split) -> Path:
    """Return the place, in a corpus, of one split of a held-out domain."""
    return HELD_OUT / f"{file_name(domain)}.{split}.safetensors"


@dataclass(frozen=True)
class PreparedCorpus:
    """Training tokens (N,) int32 by partition, and held-out windows by split and domain."""

    train: Mapping[str, Tokens]
    held_out: Mapping[Split, Mapping[str, HeldOutWindows]]
    manifest: CorpusManifest


def load_prepared(folder: Path, manifest: CorpusManifest) -> PreparedCorpus:
    """Read a prepared corpus, its training tokens memory-mapped.

    Raises `PoolError` naming a missing file, or one other than in the manifest.
    """
    train = load_streams(folder, {name: summary.digest for name, summary in manifest.partitions.items()})
    splits: dict[Split, Mapping[str, TextSummary]] = {"search": manifest.search, "test": manifest.test}
    held_out = {
        split: {name: _load_windows(folder, name, split, summary) for name, summary in domains.items()}
        for split, domains in splits.items()
    }
    return PreparedCorpus(train, held_out, manifest)


def load_search_windows(folder: Path, name: str, manifest: CorpusManifest) -> HeldOutWindows:
    """Read the search split of one held-out domain. Raises `PoolError` as `load_prepared`."""
    return _load_windows(folder, name, "search", manifest.search[name])


def load_streams(folder: Path, digests: Mapping[str, str]) -> dict[str, Tokens]:
    """Map the training tokens of some partitions into memory. Raises `PoolError` for another digest."""
    return {name: _load_stream(folder / stream_file(name), digest) for name, digest in digests.items()}


def _load_stream(path: Path, expected: str) -> Tokens:
    try:
        stream, digest = map_stream(path), digest_stream(path)
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from None
    if digest != expected:
        raise _unusable(path, "its content is not what corpus.json says")
    return stream


def _load_windows(folder: Path, name: str, split: Split, summary: TextSummary) -> HeldOutWindows:
    path = folder / windows_file(name, split)
    try:
        arrays = load_file(path)
        windows = HeldOutWindows(
            arrays["inputs"], arrays["targets"], arrays["document"], arrays["window_bytes"], int(arrays["words"][0])
        )
    except (OSError, KeyError, SafetensorError) as error:
        raise _unusable(path, str(error)) from None
    if windows.digest != summary.digest:
        raise _unusable(path, "its content is not what corpus.json says")
    return windows


def _unusable(path: Path, reason: str) -> PoolError:
    return PoolError(f"{path}: {reason}; run `mixscout pool build POOL.toml`, which makes it again")
