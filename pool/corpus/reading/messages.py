"""The text of a column: a text, or the messages of a conversation as one text; a column may lie inside another."""

import re
from collections.abc import Mapping

from pool.corpus.reading.json_lines import Row
from pool.corpus.reading.kinds import shown_names
from pool.errors import CorpusError

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
