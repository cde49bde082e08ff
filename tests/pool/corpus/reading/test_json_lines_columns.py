"""Promises of text in a row: conversations by one rule, columns inside others, and what is no text by its name."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from pool.config.sources import PartitionSource, TextSource
from pool.corpus.documents import read_documents, read_labelled_documents
from pool.corpus.reading.json_lines import text_of
from pool.errors import CorpusError

TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So\nit is."}]
SAID = "user: Why?\n\nassistant: So\nit is."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (TALK, SAID),
        ([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": ""}], "human: Hi\n\ngpt: "),
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "user: ab"),
        ({"role": ["user", "assistant"], "content": ["Why?", "So\nit is."]}, SAID),
        ([], ""),
        ("just text", "just text"),
    ],
)
def test_messages_become_one_text_by_one_rule(value: object, text: str) -> None:
    assert text_of({"messages": value}, "messages", "row 1") == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{"role": "user", "content": None}], "message 1 of column 'm' has no text under content or value"),
        ([TALK[0], {"role": "tool"}], "message 2 of column 'm' has no text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "message 1 of column 'm' has no text"),
        ([{"role": "user", "content": "\ud83d"}], "column 'm' holds half a surrogate pair"),
        (["a", "b"], "column 'm' holds list, not text; write one text a row"),
        ({"0": "a", "1": "b"}, "column 'm' holds dict, not text; write one text a row"),
        ([{"a": 1}], "column 'm' holds list, not text"),
        ({"n": 1, "body": "x"}, "column 'm' holds dict, not text; a text inside it is reached by column = \"m.body\""),
        (b"x", "column 'm' holds bytes, not text"),
        (1.5, "column 'm' holds float, not text"),
    ],
)
def test_what_is_no_text_is_named(value: object, message: str) -> None:
    with pytest.raises(CorpusError, match=f"row 1: {message}"):
        text_of({"m": value}, "m", "row 1")


def test_conversations_of_tables_and_columns_inside_others_are_read(tmp_path: Path) -> None:
    rows = [{"messages": TALK, "meta": {"source": "web"}}, {"messages": TALK[:1], "meta": {"source": "book"}}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for form in ("jsonl", "parquet"):
        path = tmp_path / f"a.{form}"
        source = PartitionSource(files=(path,), format=form, column="messages", partition_by="meta.source")
        assert list(read_labelled_documents("n", source, "meta.source")) == [(SAID, "web"), ("user: Why?", "book")]
        inside = TextSource(files=(path,), format=form, column="meta.source")
        assert list(read_documents("n", inside)) == ["web", "book"]


def test_a_name_with_a_dot_is_a_name_where_there_is_such_a_column() -> None:
    assert text_of({"a.b": "x", "a": {"b": "y"}}, "a.b", "row 1") == "x"
    with pytest.raises(CorpusError, match="row 1 has no column 'a.c'; it has a, x{40}...: set `column`"):
        text_of({"a": {"b": "y"}, "x" * 100: 1}, "a.c", "row 1")
