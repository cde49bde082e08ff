"""Documents from a user's files, read through `datasets` (streamed: nothing is copied to a cache)."""

import glob
from collections.abc import Iterator
from pathlib import Path

import datasets

from pool.config import TextFiles
from pool.errors import CorpusError

_BUILDERS = {"jsonl": "json", "text": "text", "parquet": "parquet"}


def read_documents(name: str, source: TextFiles) -> Iterator[str]:
    """Yield the documents of partition or held-out domain `name`, empty ones dropped.

    Raises `CorpusError` that names the file: missing, empty, unreadable, or without the text column.
    """
    for path in source.files:
        _check_file(name, path)
        count = 0
        for text in _read_file(name, path, source):
            if text.strip():
                count += 1
                yield text
        if count == 0:
            raise CorpusError(f"{name}: {path} holds no text; remove it from `files` or fill it")


def _check_file(name: str, path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CorpusError(f"{name}: {path}: {error.strerror}; correct `files` in the pool file") from None
    if not path.is_file():
        raise CorpusError(f"{name}: {path} is not a file; correct `files` in the pool file")
    if size == 0:
        raise CorpusError(f"{name}: {path} is empty; remove it from `files` or fill it")


def _read_file(name: str, path: Path, source: TextFiles) -> Iterator[str]:
    options = {"sample_by": "paragraph"} if source.format == "text" else {}
    try:
        rows = datasets.load_dataset(
            _BUILDERS[source.format], data_files=glob.escape(str(path)), split="train", streaming=True, **options
        )
        for row in rows:
            yield _text_of(row, name, path, source)
    except CorpusError:
        raise
    except Exception as error:  # datasets raises many types for bad files; all mean the same to a user
        detail = str(error).strip().splitlines() or [type(error).__name__]
        raise CorpusError(f"{name}: {path} cannot be read as {source.format}: {detail[0]}") from error


def _text_of(row: dict[str, object], name: str, path: Path, source: TextFiles) -> str:
    column = source.column if source.format != "text" else "text"
    if column not in row:
        raise CorpusError(f"{name}: {path} has no column {column!r}; it has {', '.join(sorted(row))}: set `column`")
    text = row[column]
    if not isinstance(text, str):
        raise CorpusError(f"{name}: {path}: column {column!r} holds {type(text).__name__}, not text")
    return text
