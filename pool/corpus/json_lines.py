"""Rows of JSON Lines, each line by itself.

`datasets` infers the types of all columns from the first megabyte. It refuses a file with another type later on, even
in an unused column, and turns text like a date into a date.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import zstandard

from pool.errors import CorpusError

Row = dict[str, object]

_DECODER = json.JSONDecoder()


def json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the objects of a file, compressed or not, each with the number of its line.

    A file of one list is read whole and its items are numbered; a text item becomes a row with column `text`. Raises
    `CorpusError` naming the line, and errors of decompression.
    """
    with _opened(path) as stream:
        lines = ((number, line) for number, line in enumerate(stream, start=1) if not line.isspace())
        place, first = next(lines, (1, b""))
        first = first.removeprefix(codecs.BOM_UTF8).lstrip()
        if first.startswith(b"["):
            yield from _items(b"".join([first, *stream]))
            return
        for number, line in chain([(place, first)], lines):
            for value in _values(line, number):
                yield number, _row(value, f"line {number}")


def _opened(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as stream:
        start = stream.read(6)
    for mark, opener in _OPENERS.items():
        if start.startswith(mark):
            return opener(path)
    return path.open("rb")


def _opened_zstandard(path: Path) -> io.BufferedIOBase:
    frames = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
    return io.BufferedReader(frames)


_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": _opened_zstandard,
    b"\x50\x2a\x4d\x18": _opened_zstandard,  # a skippable frame, the first of pzstd
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def _values(line: bytes, number: int) -> Iterator[object]:
    """Yield the values of a line: several after files were joined without a newline."""
    text, end = _decoded(line, f"line {number}").strip(), 0
    while end < len(text):
        try:
            value, end = _DECODER.raw_decode(text, end)
        except json.JSONDecodeError as error:
            raise _unreadable(f"line {number}", f"{error.msg} (character {error.pos + 1})") from None
        except (ValueError, RecursionError) as error:
            raise _unreadable(f"line {number}", str(error)) from None
        yield value
        while text[end : end + 1].isspace():
            end += 1


def _items(content: bytes) -> Iterator[tuple[int, Row]]:
    try:
        values = json.loads(_decoded(content, "the list"))
    except (ValueError, RecursionError) as error:
        raise _unreadable("the list", str(error)) from None
    for number, value in enumerate(values, start=1):
        yield number, _row({"text": value} if isinstance(value, str) else value, f"item {number}")


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _unreadable(where, f"byte {error.start + 1} is not UTF-8") from None


def _row(value: object, where: str) -> Row:
    if not isinstance(value, dict):
        raise _unreadable(where, f"it is of type {type(value).__name__}, not an object")
    return value


def _unreadable(where: str, reason: str) -> CorpusError:
    return CorpusError(f"cannot be read as jsonl: {where}: {reason}; correct or remove it")
