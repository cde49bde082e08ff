"""Documents of a source, one at a time: JSON Lines line by line, all else through `datasets`, which loads no pickle.

Files are streamed: nothing of them is copied to a cache. Those of a hub data set are downloaded once.
"""

import datetime
import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets

from pool.config.sources import CHUNK_BYTES, TextSource
from pool.corpus.files import check_path, paths_of
from pool.corpus.hub_documents import hub_rows
from pool.corpus.json_lines import Row, json_rows
from pool.errors import CorpusError, HubError, first_line
from pool.progress import silent

_SAMPLES = {"paragraph": "paragraph", "line": "line", "file": "document"}
_READER = "datasets.packaged_modules"
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def read_documents(name: str, source: TextSource) -> Iterator[str]:
    """Yield the documents of partition or held-out domain `name`, empty ones dropped.

    Raises `CorpusError` that names the file or data set: missing, empty, unreadable, or without the text column.
    """
    return (text for text, _ in read_labelled_documents(name, source, None))


def read_labelled_documents(name: str, source: TextSource, field: str | None) -> Iterator[tuple[str, str]]:
    """Yield documents with the value of a column each, as text; empty where it is missing or none is asked for.

    Raises `CorpusError` as above, and where the column is in no row or is no single value.
    """
    for where, rows in _tables(name, source):
        count, row, has_field = 0, Row(), field is None
        for number, row in rows:
            text = _text_of(row, source.text_column, f"{where}, row {number}")
            has_field = has_field or field in row
            if text.strip():
                count += 1
                yield text, "" if field is None else _label(row, field, f"{where}, row {number}")
        if count == 0:
            raise CorpusError(f"{where} holds no text; remove it from the pool file or fill it")
        if not has_field:
            raise CorpusError(f"{where} has no column {field!r}; it has {', '.join(sorted(row))}: set `partition_by`")


def _tables(name: str, source: TextSource) -> Iterator[tuple[str, Iterator[tuple[int, Row]]]]:
    if source.hub is not None:
        yield f"{name}: hub data set {source.hub!r}", enumerate(_hub_rows(name, source), start=1)
    for path in paths_of(name, source):
        check_path(name, path, source)
        yield f"{name}: {path}", _file_rows(name, path, source)


def _file_rows(name: str, path: Path, source: TextSource) -> Iterator[tuple[int, Row]]:
    try:
        with silent(_READER):
            yield from json_rows(path) if source.format == "jsonl" else enumerate(_open(path, source), start=1)
    except CorpusError as error:
        raise CorpusError(f"{name}: {path} {error}") from None
    except Exception as error:  # datasets raises many types for bad files; all mean the same to a user
        raise CorpusError(f"{name}: {path} cannot be read as {source.format}: {first_line(error)}") from error


def _open(path: Path, source: TextSource) -> Iterable[Row]:
    if source.format == "saved":
        return _one_split(datasets.load_from_disk(str(path)), source)
    options: dict[str, object] = {}
    if source.format == "text":
        options = {"chunksize": CHUNK_BYTES, "sample_by": _SAMPLES[source.document]}
    rows: Iterable[Row] = datasets.load_dataset(
        source.format, data_files=glob.escape(str(path)), split="train", streaming=True, **options
    )
    return rows


def _one_split(saved: datasets.Dataset | datasets.DatasetDict, source: TextSource) -> Iterable[Row]:
    if isinstance(saved, datasets.Dataset):
        rows: Iterable[Row] = saved
        return rows
    if source.split not in saved:
        raise CorpusError(f"has no split {source.split!r}; it has {', '.join(saved)}: set `split`")
    part: Iterable[Row] = saved[source.split]
    return part


def _hub_rows(name: str, source: TextSource) -> Iterator[Row]:
    where = f"{name}: hub data set {source.hub!r} at {source.revision}"
    try:
        with silent(_READER):
            yield from hub_rows(source)
    except HubError as error:
        raise CorpusError(f"{where} {error}, or name local `files`") from None
    except CorpusError as error:
        raise CorpusError(f"{where} {error}") from None


def _text_of(row: Row, column: str, where: str) -> str:
    if column not in row:
        raise CorpusError(
            f"{where} has no column {column!r}; it has {', '.join(sorted(row))}: set `column`, or give the row a text"
        )
    text = row[column]
    if text is None:
        raise CorpusError(f'{where}: column {column!r} is null; remove the row, or make it "", which is left out')
    if not isinstance(text, str):
        raise CorpusError(f"{where}: column {column!r} holds {type(text).__name__}, not text")
    if not text.isascii() and _HALF_A_PAIR.search(text):
        raise CorpusError(f"{where}: column {column!r} holds half a surrogate pair, which is no character; correct it")
    return text


def _label(row: Row, field: str, where: str) -> str:
    value = row.get(field)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if value is not None and not isinstance(value, str | int | float):
        raise CorpusError(f"{where}: column {field!r} holds {type(value).__name__}, which names no partition")
    return "" if value is None else str(value).strip()
