"""Rows of tables: CSV and TSV by `csv`, each field as text, and Parquet by pyarrow."""

import csv
import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet

from pool.corpus.reading.json_lines import Row
from pool.corpus.reading.kinds import shown_names
from pool.corpus.reading.unpacked import as_text, bad_bytes_named, is_packed, unpacked
from pool.errors import CorpusError

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
    with _opened(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
        names = file.schema_arrow.names
        columns = list(wanted) if set(wanted) <= set(names) else None
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
            yield from batch.to_pylist()


def parquet_columns(path: Path) -> list[str]:
    """List the columns of a file, of which no rows are read."""
    with _opened(path) as stream, pyarrow.parquet.ParquetFile(stream) as file:
        return list(file.schema_arrow.names)


def _opened(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as stream:
        packed = is_packed(stream.read(10))
    if not packed:
        return path.open("rb")
    with unpacked(path) as whole:
        return io.BufferedReader(io.BytesIO(whole.read()))
