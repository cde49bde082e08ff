"""Promises of JSON Lines: a row is what its own line says, whatever other lines hold, and a bad line is named."""

import bz2
import gzip
import json
import lzma
import re
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.corpus.reading.json_lines import json_rows
from pool.errors import CorpusError

FIRST_LINES = 40
"""Of some 50 kB each: more than `datasets` looks at to learn the types of columns."""


def _read(path: Path) -> list[str]:
    return list(read_documents("news", TextSource(files=(path,))))


CHANGES = {
    "null, then text": (None, "x"),
    "null, then an object": (None, {"a": 1}),
    "an empty list, then a list of texts": ([], ["a"]),
    "a whole number, then another": (1, 1.5),
    "a whole number, then text": (1, "n/a"),
    "an object that gains a key": ({"a": 1}, {"a": 1, "b": 2}),
    "a date, then text": ("2024-01-01", "n/a"),
    "a column that comes later": (..., 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_column_that_nobody_asked_for_may_be_of_another_type_later_on(tmp_path: Path, change: str) -> None:
    first, later = CHANGES[change]
    texts = [f"{number} {'long ' * 10_000}" for number in range(FIRST_LINES)] + ["the last one"]
    rows = [{"text": text, "about": later if text == texts[-1] else first} for text in texts]
    rows = [{key: value for key, value in row.items() if value is not ...} for row in rows]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _read(tmp_path / "a.jsonl") == texts


@given(st.lists(st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.text(max_size=5), max_size=3)))
def test_rows_are_those_that_were_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict]) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert list(json_rows(path)) == list(enumerate(rows, start=1))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
def test_compressed_files_are_read_as_they_are_whatever_their_names(tmp_path: Path, pack) -> None:
    (tmp_path / "a").write_bytes(pack(b'{"text": "one"}\n') + pack(b'{"text": "two"}'))
    assert _read(tmp_path / "a") == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b'\xef\xbb\xbf{"text": "a mark before it"}\r\n\r\n{"text": "two"}', ["a mark before it", "two"]),
        (b'{"text": "cat a b"}{"text": "without a line\'s end"}\n', ["cat a b", "without a line's end"]),
        (b'{"text": "not a number", "score": NaN}\n{"text": ""}\n', ["not a number"]),
        (b'\n [{"text": "one list"},\n {"text": "of rows"}]\n', ["one list", "of rows"]),
        (b'["one list", "of texts"]', ["one list", "of texts"]),
        ('{"text": "一\\u2028二"}\n'.encode(), ["一\u2028二"]),
    ],
)
def test_what_else_such_files_hold_is_read(tmp_path: Path, content: bytes, texts: list[str]) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    assert _read(tmp_path / "a.jsonl") == texts


READABLE = "cannot be read as jsonl: "


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut sho', f"{READABLE}line 3: Unterminated string starting at (character 10); correct or remove"),
        (b'{"text": "x"} and more', f"{READABLE}line 3: Expecting value (character 15)"),
        (b'"only a text"', f"{READABLE}line 3: it is of type str, not an object"),
        (b'{"text": "\xff"}', f"{READABLE}line 3: byte 0xff at offset 28 is not UTF-8; if the file is in another"),
        (b"[" * 100_000, f"{READABLE}line 3: "),
        (b'{"text": null}', ", row 3: column 'text' is null; remove the row, or make it"),
        (b'{"body": "x"}', ", row 3 has no column 'text'; it has body: set `column`, or give the row a text"),
        (b'{"text": 3}', ", row 3: column 'text' holds int, not text"),
        (b'{"text": "\\ud83d"}', ", row 3: column 'text' holds half a surrogate pair, which is no character"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "good"}\n\n' + line + b'\n{"text": "good"}\n')
    with pytest.raises(CorpusError, match=rf"news: .*a\.jsonl ?{re.escape(message)}") as caught:
        _read(tmp_path / "a.jsonl")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"text": "x"}, 3]', "item 2: it is of type int, not an object"),
        (b'[{"text": "x"},', "the list: Illegal trailing comma|the list: Expecting value"),
    ],
)
def test_a_bad_list_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match=f"a.jsonl {READABLE}({message})"):
        _read(tmp_path / "a.jsonl")
