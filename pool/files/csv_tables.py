"""CSV files as programs and spreadsheets write them: their encoding, their separator, and their rows by line.

The separator is found by trial, for `csv.Sniffer` guesses wrong. Lines are counted as editors count them.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pool.errors import ConfigError
from pool.files import kinds

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", **kinds.UTF_MARKS}
_NO_TABLES = {
    kinds.ZIP: "an Excel workbook or a zip archive; save the sheet as CSV",
    kinds.OLD_OFFICE: "an Excel workbook; save the sheet as CSV",
    kinds.GZIP: "compressed by gzip; unpack it",
    kinds.ZSTANDARD: "compressed by zstd; unpack it",
    kinds.PARQUET: "a Parquet file; write it as CSV",
    kinds.GIT_LFS: "a pointer of Git LFS; fetch the file by `git lfs pull`",
    b"<!DOCTYPE": "a page of HTML; download the file itself",
    b"<html": "a page of HTML; download the file itself",
    b'{"': "JSON; write it as CSV",
    b"[{": "JSON; write it as CSV",
}
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>[^\r\n])"?(\r\n|\r|\n)', re.IGNORECASE)

_MARKS = "; is a quotation mark missing?"
_OPEN = f"a quotation mark is opened and never closed{_MARKS}"


class TableRow(NamedTuple):
    """The fields of a row, and the number of its first line in the file."""

    line: int
    fields: tuple[str, ...]


@dataclass(frozen=True)
class CsvTable:
    """Rows under named columns, each as long as `columns`; `notes` word the differences from plain CSV."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]


class _Trial(NamedTuple):
    """The rows by one separator, and the reason against them in words."""

    rows: list[TableRow]
    problem: str = ""


def read_csv(path: Path, fits: Callable[[Sequence[str]], bool], what: str) -> CsvTable:
    """Read a table by the separator with fitting columns; `what` names a row for messages.

    Blank rows and empty columns at the end are left out. Raises `ConfigError` with the line at fault.
    """
    text, encoding = _decoded(path)
    given = _SEPARATOR_LINE.match(text)
    body, skipped = (text[given.end() :], 1) if given else (text, 0)
    tried: dict[str, _Trial] = {}
    for separator in given["separator"] if given else SEPARATORS:
        tried[separator] = _tried(body, separator, skipped)
        if _likeness(tried[separator], fits)[:3] == (True, True, True):
            break
    separator = max(tried, key=lambda one: _likeness(tried[one], fits))
    rows, problem = tried[separator]
    if not problem and len(rows) < 2:
        found = "there is only the former" if rows else "the file is empty"
        problem = f"expected a line of column names and a line for each {what}: {found}"
    if problem:
        raise ConfigError(f"{path}: {problem}")
    notes = [f"fields are separated by {SEPARATORS.get(separator, repr(separator))}"] if separator != "," else []
    return CsvTable(path, rows[0].fields, tuple(rows[1:]), (*encoding, *notes))


def _likeness(trial: _Trial, fits: Callable[[Sequence[str]], bool]) -> tuple[bool, bool, bool, int]:
    columns = trial.rows[0].fields if trial.rows else ()
    return bool(columns) and fits(columns), len(columns) > 1, not trial.problem, len(columns)


def _decoded(path: Path) -> tuple[str, list[str]]:
    """Return the text of a file, and a note on an encoding other than UTF-8."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; a swarm is a table of weights and a table of metrics") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror or error}; give a CSV file that this user may read"
        ) from None
    for beginning, kind in _NO_TABLES.items():
        if data.startswith(beginning):
            raise ConfigError(f"{path}: not a CSV file but {kind}")
    encoding = next((name for bom, name in _BOMS.items() if data.startswith(bom)), None) or _unmarked(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        wanted = encoding.upper() if encoding.startswith(("utf-16", "utf-32")) else "UTF-8 or Windows-1252"
        raise ConfigError(
            f"{path}: line {line}: not a CSV file in {wanted}: byte 0x{data[error.start]:02x}; save it as CSV in UTF-8"
        ) from None
    if "\0" in text:
        line = 1 + text.count("\n", 0, text.index("\0"))
        raise ConfigError(f"{path}: line {line}: not a CSV file: there is a zero byte; save it as CSV in UTF-8")
    names = {"cp1252": "Windows-1252", "utf-8": "", "utf-8-sig": ""}
    name = names.get(encoding, encoding.upper())
    return text.removeprefix("\ufeff"), [f"read as {name}"] if name else []


def _unmarked(data: bytes) -> str:
    """Return the encoding of bytes without a mark: a file with some right UTF-8 beside ASCII is in UTF-8."""
    if len(data) > 3 and data[0] and data[2] and not data[1] and not data[3]:
        return "utf-16-le"
    if len(data) > 3 and data[1] and data[3] and not data[0] and not data[2]:
        return "utf-16-be"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        some = data.decode("utf-8", "ignore").isascii()
        return "cp1252" if some else "utf-8"
    return "utf-8"


def _tried(text: str, separator: str, skipped: int) -> _Trial:
    """Return the rows with content, without columns that are empty to the end."""
    rows, problem = _parsed(text, separator, skipped, strict=True)
    if problem and not problem.endswith(_OPEN):  # text after a closing mark belongs to the field
        rows, problem = _parsed(text, separator, skipped, strict=False)
    rows = [row for row in rows if any(row.fields)]
    width = max((len(row.fields) for row in rows), default=0)
    while width and not any(any(row.fields[width - 1 : width]) for row in rows):
        width -= 1
    rows = [TableRow(line, fields[:width]) for line, fields in rows]
    return _Trial(rows, problem or _unevenness(rows, separator))


def _parsed(text: str, separator: str, skipped: int, *, strict: bool) -> tuple[list[TableRow], str]:
    """Return the rows, and the reason for an end before that of the text."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=strict)
    rows: list[TableRow] = []
    line = 1 + skipped
    try:
        for fields in reader:
            rows.append(TableRow(line, tuple(field.strip() for field in fields)))
            line = reader.line_num + skipped + 1
    except csv.Error as error:
        limit = csv.field_size_limit()
        reason = _OPEN if "unexpected end" in str(error) else f"a field is longer than {limit} characters{_MARKS}"
        return rows, f"line {line}: {reason}"
    return rows, ""


def _unevenness(rows: Sequence[TableRow], separator: str) -> str:
    """Name the first row with more or fewer fields than names; "" for none."""
    names = rows[0].fields if rows else ()
    uneven = next((row for row in rows if len(row.fields) != len(names)), None)
    if uneven is None:
        return ""
    count, remedy = len(uneven.fields), ""
    if len(names) == 1:
        remedy = f"; expected fields separated by {', '.join(SEPARATORS.values())}"
    elif all(len(row.fields) == len(names) + 1 for row in rows[1:]):
        remedy = "; if the first column is the one without a name, give it one"
    elif separator == "," and count > len(names):
        remedy = "; a comma within a field, as in 0,5, needs quotation marks, or another separator such as semicolons"
    return f"line {uneven.line} has {count} fields where the first line has {len(names)}{remedy}"
