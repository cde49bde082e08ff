"""Which files a source stands for, and what their content digests to: patterns, folders, one error a bad path."""

import glob
from pathlib import Path

import zstandard

from pool.config.sources import TextSource
from pool.errors import CorpusError

_BLOCK_BYTES = 2**20


def paths_of(name: str, source: TextSource) -> list[Path]:
    """List the paths of partition or held-out domain `name`; a path that exists is a name, not a pattern.

    Raises `CorpusError` for a pattern that nothing matches.
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
    """Raise `CorpusError` for a path that is missing, of the wrong kind, empty, or cut short."""
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
    """Read a Zstandard file through to the end of its last frame: its readers take one cut short for whole."""
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
