"""Promises of reading user files: three formats, and one clear error for each thing that can be wrong."""

import gzip
import json
from pathlib import Path

import datasets
import pytest
import zstandard

from pool.config import TextFiles
from pool.errors import CorpusError
from pool.text_files import read_documents


def _read(path: Path, **options: str) -> list[str]:
    return list(read_documents("news", TextFiles(files=(path,), **options)))


def test_jsonl_gzip_parquet_and_text_give_the_same_documents(tmp_path: Path) -> None:
    texts = ["eins — 一", "zwei\nZeilen", "drei"]
    rows = "".join(json.dumps({"body": text}) + "\n" for text in texts)
    (tmp_path / "a.jsonl").write_text(rows)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as stream:
        stream.write(rows)
    datasets.Dataset.from_dict({"body": texts}).to_parquet(str(tmp_path / "a.parquet"))
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    assert _read(tmp_path / "a.jsonl", column="body") == texts
    assert _read(tmp_path / "a.jsonl.gz", column="body") == texts
    assert _read(tmp_path / "a.parquet", format="parquet", column="body") == texts
    assert [text.strip() for text in _read(tmp_path / "a.txt", format="text")] == texts


def test_zstandard_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "compressed"}\n'))
    assert _read(tmp_path / "a.jsonl.zst") == ["compressed"]


@pytest.mark.parametrize("name", ["data[1].jsonl", "data?.jsonl", "data*.jsonl", "data 1.jsonl"])
def test_a_file_name_is_a_name_and_not_a_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / "data1.jsonl").write_text('{"text": "another file"}\n')
    (tmp_path / name).write_text('{"text": "this file"}\n')
    assert _read(tmp_path / name) == ["this file"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"news: .*gone\.jsonl: No such file"):
        _read(tmp_path / "gone.jsonl")


@pytest.mark.parametrize("content", ["", '{"text": "  "}\n'])
def test_an_empty_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "empty.jsonl").write_text(content)
    with pytest.raises(CorpusError, match=r"news: .*empty\.jsonl (is empty|holds no text)"):
        _read(tmp_path / "empty.jsonl")


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x", "title": "y"}\n')
    with pytest.raises(CorpusError, match="no column 'text'; it has body, title"):
        _read(tmp_path / "a.jsonl")


def test_a_column_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(CorpusError, match="column 'text' holds int, not text"):
        _read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(("name", "kind"), [("a.jsonl", "jsonl"), ("a.parquet", "parquet"), ("a.jsonl.gz", "jsonl")])
def test_a_broken_file_is_named(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08 this is no such file {")
    with pytest.raises(CorpusError, match=f"news: .*{name} cannot be read as {kind}"):
        _read(tmp_path / name, format=kind)
