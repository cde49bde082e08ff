"""Standard output and standard error of a command: closed, full, or unable to show a character.

For a stream closed by the shell Python has None, prints in its place to the other stream, and gives its number to the
next opened file.
"""

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pool.errors import OutputError

PLAINLY = "mixscout-plainly"
"""The name of our handler of encoding errors."""
_PLAIN = {"±": "+-", "…": "...", "→": "->", "←": "<-", "≥": ">=", "≤": "<=", "≠": "!=", "\N{MULTIPLICATION SIGN}": "x"}
_BY_WORD = {"QUOTATION": "'", "BLOCK": "#", "HYPHEN": "-", "DASH": "-", "MINUS": "-", "SPACE": " "}
_STREAMS = (0, 1, 2)


def plain(text: str, encoding: str) -> str:
    """Return a text in characters of an encoding: `+-` for `±`, `-`, `|` and `+` for lines, escapes for the rest."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_plain_character(character, encoding) for character in text)
    return text


def _plain_character(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _substitute(character)
    return character


def _substitute(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    words = unicodedata.name(character, "").split()
    if words[:2] == ["BOX", "DRAWINGS"]:
        corner = "AND" in words or "DIAGONAL" in words
        return "+" if corner else "|" if words[-1] in ("VERTICAL", "UP", "DOWN") else "-"
    found = [_BY_WORD[word] for word in words if word in _BY_WORD] if not character.isalpha() else []
    return found[0] if found else character.encode("ascii", "backslashreplace").decode("ascii")


def prepare_streams() -> None:
    """Occupy the numbers of closed streams, and let both streams write a character that they lack plainly.

    A closed standard error loses its lines. Raises `OutputError` for a closed standard output.
    """
    for number in _STREAMS:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    codecs.register_error(PLAINLY, _encode_plainly)
    closed = sys.stdout is None
    sys.stdout, sys.stderr = _prepared(sys.stdout), _prepared(sys.stderr)
    if closed:
        raise OutputError(
            "standard output is closed, and the answer would be lost; leave `>&-` out, or write `> /dev/null` instead"
        )


@contextmanager
def answer_written() -> Iterator[None]:
    """Flush standard output after the block. Raises `OutputError` where the stream takes no more."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            why = "the pipe was closed before the end of the answer; read all of it, or write `> FILE`"
        else:
            why = f"{error.strerror}; make room there, or write the answer elsewhere"
        raise OutputError(f"standard output: {why}") from None


def settle() -> None:
    """Flush both streams at the end of a command. Raises `OutputError` for standard output alone."""
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    with answer_written():
        pass


def _discard(stream: TextIO) -> None:
    """Send the rest of a stream to nowhere: Python would try once more at its end, and fail."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _prepared(stream: TextIO | None) -> TextIO:
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=PLAINLY)
    return stream


def _encode_plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_substitute, error.object[error.start : error.end])), error.end
