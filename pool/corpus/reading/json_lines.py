"""Rows of JSON Lines, each line by itself.

`datasets` infers the types of all columns from the first megabyte. It refuses a file with another type later on, even
in an unused column, and turns text like a date into a date.
"""

import codecs
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from pool.corpus.reading.unpacked import as_text, bad_bytes_named, is_utf_8, marked_encoding, unpacked
from pool.errors import CorpusError

Row = dict[str, object]

_CORRECT = "correct or remove it"
_ONE_LINE = "an object takes one line: write it so with `jq -c .`, or complete the line"
_DECODER = json.JSONDecoder()


def json_rows(path: Path, encoding: str | None = None) -> Iterator[tuple[int, Row]]:
    """Yield the objects of a file, compressed or not, each with the number of its line.

    A file of one list is read whole and its items are numbered; a text item becomes a row with column `text`. Raises
    `CorpusError` naming the line, and errors of decompression.
    """
    with bad_bytes_named(path, encoding, "jsonl"), _lines(path, encoding) as stream:
        yield from _rows(stream)


def _rows(stream: Iterator[bytes]) -> Iterator[tuple[int, Row]]:
    lines = ((number, line) for number, line in enumerate(stream, start=1) if not line.isspace())
    place, first = next(lines, (1, b""))
    first = first.removeprefix(codecs.BOM_UTF8).lstrip()
    if first.startswith(b"["):
        yield from _items(b"".join([first, *stream]))
        return
    for number, line in chain([(place, first)], lines):
        for value in _values(line, number):
            yield number, _row(value, f"line {number}")


@contextmanager
def _lines(path: Path, encoding: str | None) -> Iterator[Iterator[bytes]]:
    """Open a file as lines in UTF-8, whatever its encoding."""
    with unpacked(path) as stream:
        other = marked_encoding(stream.read(4)) if encoding is None else encoding
    if other is None or is_utf_8(other):
        with unpacked(path) as stream:
            yield iter(stream)
        return
    with as_text(path, other, newline="\n") as text:
        yield (line.encode() for line in text)


def _values(line: bytes, number: int) -> Iterator[object]:
    """Yield the values of a line: several after files were joined without a newline."""
    text, end = line.decode().strip(), 0
    while end < len(text):
        try:
            value, end = _DECODER.raw_decode(text, end)
        except json.JSONDecodeError as error:
            hint = _ONE_LINE if text in ("{", "[") or (end == 0 and error.pos >= len(text)) else _CORRECT
            raise _unreadable(f"line {number}: {error.msg} (character {error.pos + 1}); {hint}") from None
        except (ValueError, RecursionError) as error:
            raise _unreadable(f"line {number}: {error}; {_CORRECT}") from None
        yield value
        while text[end : end + 1].isspace():
            end += 1


def _items(content: bytes) -> Iterator[tuple[int, Row]]:
    try:
        values = json.loads(content.decode())
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise _unreadable(f"the list: {error}; {_CORRECT}") from None
    for number, value in enumerate(values, start=1):
        yield number, _row({"text": value} if isinstance(value, str) else value, f"item {number}")


def _row(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise _unreadable(f"{where}: it is of type {type(value).__name__}, not an object; {_CORRECT}")
    return value


def _unreadable(reason: str) -> CorpusError:
    return CorpusError(f"cannot be read as jsonl: {reason}")
