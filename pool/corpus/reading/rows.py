"""Rows of a file or saved folder, whatever its format; every error names the source and the file.

CSV and TSV are read by `csv`, each field as text, and Parquet by pyarrow.
"""

import csv
import glob
import io
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

from pool.config.sources import CHUNK_BYTES, TextSource
from pool.corpus.reading.json_lines import Row, has_column, json_rows
from pool.corpus.reading.source_files import check_start, folder_columns
from pool.corpus.reading.unpacked import as_text, bad_bytes_named, is_packed, unpacked
from pool.errors import CorpusError, first_line
from pool.files.kinds import shown_names
from pool.progress import silent

_DELIMITERS = {"csv": (",", ";", "\t", "|"), "tsv": ("\t",)}
_LONGEST_FIELD = 2**31 - 1
_BATCH_ROWS = 256


def csv_rows(path: Path, form: str, column: str, encoding: str | None = None) -> Iterator[tuple[int, Row]]:
    """Yield the rows of a file, compressed or not, each with the number of its last line.

    The first row names the columns. Fields of `csv` are separated by the first of `,` `;` tab `|` that splits the first
    row into names with `column` among them, of `tsv` by tabs; quotes are doubled within quotes (RFC 4180). Raises
    `CorpusError` naming a missing column or a bad line, and errors of decompression.
    """
    with _long_fields(), bad_bytes_named(path, encoding, form):
        delimiter, names = _header(path, form, column, encoding)
        with as_text(path, encoding, newline="", skip_mark=True) as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            begins = 1
            try:
                for number, fields in enumerate(reader):
                    if fields and number:
                        yield reader.line_num, _row(names, fields, form, begins)
                    begins = reader.line_num + 1
            except csv.Error as error:
                raise _unreadable(
                    form, begins, f"{error}; a quote inside quotes is written twice, or correct it"
                ) from None


def _header(path: Path, form: str, column: str, encoding: str | None) -> tuple[str, list[str]]:
    found: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS[form]:
        with as_text(path, encoding, newline="", skip_mark=True) as stream:
            try:
                found[delimiter] = next(csv.reader(stream, delimiter=delimiter, strict=True), [])
            except csv.Error as error:
                raise _unreadable(form, 1, f"{error}; the first row names the columns") from None
        names = found[delimiter]
        if names.count(column) > 1:
            raise CorpusError(f"names column {column!r} twice in its first row; rename one of them")
        if column in names:
            return delimiter, names
    first = found[_DELIMITERS[form][0]]
    raise CorpusError(
        f"has no column {column!r}; its first row, which names the columns, is {shown_names(first)}: set `column`, or "
        "put such a row first"
    )


def _row(names: list[str], fields: list[str], form: str, line: int) -> Row:
    if len(fields) != len(names):
        raise _unreadable(
            form,
            line,
            f"it has {len(fields)} fields, and the first row {len(names)}; put quotes around a field, or correct it",
        )
    return dict(zip(names, fields, strict=True))


def _unreadable(form: str, line: int, reason: str) -> CorpusError:
    return CorpusError(f"cannot be read as {form}: line {line}: {reason}")


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def parquet_rows(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    """Yield the rows of a file with the columns `wanted`, or with all columns if one of them is missing.

    Raises errors of pyarrow and of decompression.
    """
    import pyarrow.parquet  # heavy, as datasets below: opening a pool reads no rows

    with _opened(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
        names = file.schema_arrow.names
        columns = list(wanted) if set(wanted) <= set(names) else None
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            yield from batch.to_pylist()


def parquet_columns(path: Path) -> list[str]:
    """List the columns of a file, of which no rows are read."""
    import pyarrow.parquet

    with _opened(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
        return list(file.schema_arrow.names)


def _opened(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as stream:
        packed = is_packed(stream.read(10))
    if not packed:
        return path.open("rb")
    with unpacked(path) as whole:
        return io.BufferedReader(io.BytesIO(whole.read()))


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
    import datasets

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
    import datasets

    options = {"chunksize": CHUNK_BYTES, "sample_by": _SAMPLES[unit], "encoding": encoding or "utf-8"}
    rows: Iterable[Row] = datasets.load_dataset(
        "text", data_files=glob.escape(str(path)), split="train", streaming=True, **options
    )
    return rows
