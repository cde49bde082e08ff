"""Rows of a file or saved folder, whatever its format; every error names the source and the file."""

import glob
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Literal, TextIO

import datasets

from pool.config.sources import CHUNK_BYTES, TextSource
from pool.corpus.reading.checks import check_start
from pool.corpus.reading.json_lines import Row, json_rows
from pool.corpus.reading.messages import has_column
from pool.corpus.reading.places import folder_columns
from pool.corpus.reading.tables import csv_rows, parquet_columns, parquet_rows
from pool.corpus.reading.unpacked import as_text, bad_bytes_named
from pool.errors import CorpusError, first_line
from pool.progress import silent

READER = "datasets.packaged_modules"
_SAMPLES = {"paragraph": "paragraph", "line": "line", "file": "document"}
_Unit = Literal["paragraph", "line", "file"]


def file_rows(name: str, path: Path, source: TextSource, wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a path, each with its number: a line's in JSON Lines and CSV, else a row's.

    Columns besides `wanted` may be left out. Raises `CorpusError` naming source and path.
    """
    try:
        with silent(READER):
            yield from _numbered(path, source, wanted)
    except CorpusError as error:
        raise CorpusError(f"{name}: {path} {error}") from None
    except Exception as error:  # the libraries raise many types for bad files; all mean the same to a user
        raise CorpusError(f"{name}: {path} cannot be read as {source.format}: {first_line(error)}") from error


def folder_value(name: str, path: Path, source: TextSource, field: str) -> str | None:
    """Return the value of column `field` in the folders of the path; None if the file itself has the column.

    A file has the column if its first row has it. Raises `CorpusError` as
    `file_rows`.
    """
    value = folder_columns(path).get(field)
    if value is None:
        return None
    check_start(name, path, source)
    if source.format == "parquet":
        return value if field not in _columns(name, path) else None
    first = next(iter(file_rows(name, path, source, [field])), None)
    return value if first is None or not has_column(first[1], field) else None


def _columns(name: str, path: Path) -> list[str]:
    try:
        return parquet_columns(path)
    except Exception as error:  # as above
        raise CorpusError(f"{name}: {path} cannot be read as parquet: {first_line(error)}") from error


def _numbered(path: Path, source: TextSource, wanted: Collection[str]) -> Iterator[tuple[int, Row]]:
    match source.format:
        case "jsonl":
            yield from json_rows(path, source.encoding)
        case "csv" | "tsv":
            yield from csv_rows(path, source.format, source.column, source.encoding)
        case "parquet":
            yield from enumerate(parquet_rows(path, wanted), start=1)
        case "saved":
            yield from enumerate(_saved_rows(path, source.split), start=1)
        case _ if path.suffix == ".zip":
            yield from enumerate(_zipped_text_rows(path, source.document, source.encoding), start=1)
        case _:
            yield from enumerate(_text_rows(path, source.document, source.encoding), start=1)


def _saved_rows(path: Path, split: str) -> Iterable[Row]:
    rows: Iterable[Row] = datasets.load_from_disk(str(path))
    if isinstance(rows, datasets.DatasetDict):
        if split not in rows:
            raise CorpusError(f"has no split {split!r}; it has {', '.join(rows)}: set `split`")
        rows = rows[split]
    return rows


def _text_rows(path: Path, unit: _Unit, encoding: str | None = None) -> Iterator[Row]:
    """Yield the units of a file, compressed or not, each as a row with column `text`; line ends become newlines.

    Paragraphs end at a blank line. An end of file ends the last unit; a line may be empty. Raises `CorpusError` naming
    line and offset of a byte of no character, and errors of decompression.
    """
    with bad_bytes_named(path, encoding, "text"), as_text(path, encoding) as stream:
        if unit == "file":
            yield {"text": stream.read()}
        elif unit == "line":
            for line in stream:
                yield {"text": line.rstrip("\n")}
        else:
            for paragraph in _paragraphs(stream):
                yield {"text": paragraph}


def _paragraphs(stream: TextIO) -> Iterator[str]:
    rest = ""
    while chunk := stream.read(CHUNK_BYTES):
        *whole, rest = (rest + chunk + stream.readline()).split("\n\n")
        yield from filter(None, whole)
    if rest:
        yield rest


def _zipped_text_rows(path: Path, unit: _Unit, encoding: str | None = None) -> Iterable[Row]:
    """Return the rows of all texts inside a .zip, one text after the other, by `datasets`."""
    options = {"chunksize": CHUNK_BYTES, "sample_by": _SAMPLES[unit], "encoding": encoding or "utf-8"}
    rows: Iterable[Row] = datasets.load_dataset(
        "text", data_files=glob.escape(str(path)), split="train", streaming=True, **options
    )
    return rows
