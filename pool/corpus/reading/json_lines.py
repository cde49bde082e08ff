"""Rows of JSON Lines, each line by itself, and the text of a column: a text, or a conversation as one text.

`datasets` infers the types of all columns from the first megabyte. It refuses a file with another type later on, even
in an unused column, and turns text like a date into a date.
"""

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from pool.corpus.reading.unpacked import as_text, bad_bytes_named, is_utf_8, marked_encoding, unpacked
from pool.errors import CorpusError
from pool.files.kinds import shown_names

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


_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
_KEYS = (("role", "content"), ("from", "value"))
"""Speaker and text of a message, as chat templates and ShareGPT name them."""


def has_column(row: Row, column: str) -> bool:
    """Tell whether a row has a column, or has it inside another one: `meta.source` of the column `meta`."""
    if column in row:
        return True
    outer, dot, inner = column.partition(".")
    within = row.get(outer)
    return bool(dot) and isinstance(within, dict) and has_column(within, inner)


def value_of(row: Row, column: str) -> object:
    """Return the value of a column as `has_column` finds it; None for a missing one."""
    if column in row or "." not in column:
        return row.get(column)
    outer, _, inner = column.partition(".")
    within = row.get(outer)
    return value_of(within, inner) if isinstance(within, dict) else None


def text_of(row: Row, column: str, where: str) -> str:
    """Return the text of a row. Messages become `role: content`, with a blank line between two of them.

    Raises `CorpusError` for a missing column, null, another type, and half a surrogate pair.
    """
    if not has_column(row, column):
        raise CorpusError(
            f"{where} has no column {column!r}; it has {shown_names(sorted(row))}: set `column`, or give the row a text"
        )
    text = value_of(row, column)
    if text is None:
        raise CorpusError(f'{where}: column {column!r} is null; remove the row, or make it "", which is left out')
    if not isinstance(text, str):
        messages = _messages(text)
        if messages is None:
            raise CorpusError(
                f"{where}: column {column!r} holds {type(text).__name__}, not text{_remedy(text, column)}"
            )
        text = "\n\n".join(_said(message, number, column, where) for number, message in enumerate(messages, start=1))
    if not text.isascii() and _HALF_A_PAIR.search(text):
        raise CorpusError(f"{where}: column {column!r} holds half a surrogate pair, which is no character; correct it")
    return text


def _messages(value: object) -> list[Mapping[str, object]] | None:
    """Read a list of messages, or columns of them, as older tables of `datasets` hold; None for anything else."""
    if isinstance(value, dict):
        columns = [value[key] for pair in _KEYS for key in pair if key in value]
        if len(columns) != 2 or not all(isinstance(column, list) for column in columns):
            return None
        keys = [key for pair in _KEYS for key in pair if key in value]
        return [dict(zip(keys, pair, strict=False)) for pair in zip(*columns, strict=False)]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    return value if all(any(speaker in item for speaker, _ in _KEYS) for item in value) else None


def _said(message: Mapping[str, object], number: int, column: str, where: str) -> str:
    for speaker, text in _KEYS:
        if isinstance(message.get(speaker), str) and (said := _content(message.get(text))) is not None:
            return f"{message[speaker]}: {said}"
    raise CorpusError(
        f"{where}: message {number} of column {column!r} has no text under content or value; remove the row, or write "
        "the conversation as one text"
    )


def _content(content: object) -> str | None:
    """Return the text of a message, which may come in parts; None if a part is no text."""
    if isinstance(content, list) and content:
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    return content if isinstance(content, str) else None


def _remedy(value: object, column: str) -> str:
    pairs = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    inner = {str(key): text for key, text in pairs}
    if inner and all(isinstance(text, str) and key.isdecimal() for key, text in inner.items()):
        return "; write one text a row"
    name = next((key for key, text in inner.items() if isinstance(text, str) and isinstance(value, dict)), None)
    return f'; a text inside it is reached by column = "{column}.{name}"' if name else ""
