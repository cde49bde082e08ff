"""Promises of tables: rows as they are written, columns by their names, and bad lines named by their numbers."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.corpus.reading.rows import csv_rows, parquet_rows
from pool.errors import CorpusError


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("text,n\r\nx,1\r\n\r\ny,2", [(2, {"text": "x", "n": "1"}), (4, {"text": "y", "n": "2"})]),
        ('n;text\n1,5;"a;b\nc"\n', [(3, {"n": "1,5", "text": "a;b\nc"})]),
        ("text\nNA\nnull\n001\n", [(2, {"text": "NA"}), (3, {"text": "null"}), (4, {"text": "001"})]),
        ("text|a\nx\0y|z\n", [(2, {"text": "x\0y", "a": "z"})]),
        (f"text\n{'x' * 300_000}\n", [(2, {"text": "x" * 300_000})]),
    ],
)
def test_fields_are_text_as_it_is_written(tmp_path: Path, content: str, rows: list) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert list(csv_rows(tmp_path / "a.csv", "csv", "text")) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "has no column 'text'; its first row, which names the columns, is a, b: set `column`"),
        ("text,text\n1,2\n", "names column 'text' twice in its first row; rename one of them"),
        ("text,n\nx,1\ny\n", "cannot be read as csv: line 3: it has 1 fields, and the first row 2; put quotes around"),
        ("text,n\nx, or y,1\n", "cannot be read as csv: line 2: it has 3 fields, and the first row 2"),
        (
            'text\n"x" y\n',
            "cannot be read as csv: line 2: .* expected after .*; a quote inside quotes is written twice",
        ),
        ('text\nx\n"y\nz\n', "cannot be read as csv: line 3: unexpected end of data; a quote"),
        ("text\n", "holds no text; remove it"),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(CorpusError, match=rf"news: .*a\.csv {message}"):
        list(read_documents("news", TextSource(files=(tmp_path / "a.csv",), format="csv")))


def test_of_parquet_only_the_columns_asked_for_are_read_or_all_to_name_them(tmp_path: Path) -> None:
    table = pa.table({"text": ["x"], "n": [1], "meta": [{"source": "web"}]})
    pyarrow.parquet.write_table(table, tmp_path / "a")
    assert list(parquet_rows(tmp_path / "a", ["text"])) == [{"text": "x"}]
    assert list(parquet_rows(tmp_path / "a", ["body"])) == table.to_pylist()


def test_groups_of_rows_that_are_empty_are_no_matter(tmp_path: Path) -> None:
    schema = pa.schema({"text": pa.string()})
    with pyarrow.parquet.ParquetWriter(tmp_path / "a", schema) as writer:
        for texts in ([], ["one"], [], ["two"]):
            writer.write_table(pa.table({"text": pa.array(texts, pa.string())}))
    assert [row["text"] for row in parquet_rows(tmp_path / "a", ["text"])] == ["one", "two"]
