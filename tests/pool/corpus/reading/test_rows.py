"""Promises of rows: the same documents whatever holds them, and one clear line for bytes that are none."""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.errors import CorpusError


def _jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(texts)).encode()


def _json(texts: list[str]) -> bytes:
    return json.dumps([{"text": text} for text in texts], ensure_ascii=False, indent=1).encode()


def _table(texts: list[str], delimiter: str = ",") -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows([["n", "text"], *enumerate(texts)])
    return stream.getvalue().encode()


def _parquet(texts: list[str]) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"text": pa.array(texts, pa.string())}), stream)
    return stream.getvalue()


CONTAINERS: dict[str, tuple[str, Callable[[list[str]], bytes]]] = {
    "jsonl": ("jsonl", _jsonl),
    "json": ("jsonl", _json),
    "csv": ("csv", _table),
    "german csv": ("csv", lambda texts: _table(texts, ";")),
    "tsv": ("tsv", lambda texts: _table(texts, "\t")),
    "excel": ("csv", lambda texts: b"\xef\xbb\xbf" + _table(texts)),
    "utf-16": ("csv", lambda texts: _table(texts).decode().encode("utf-16")),
    "utf-16 lines": ("jsonl", lambda texts: _jsonl(texts).decode().encode("utf-16")),
    "parquet": ("parquet", _parquet),
    "gz": ("jsonl", lambda texts: gzip.compress(_jsonl(texts))),
    "csv.gz": ("csv", lambda texts: gzip.compress(_table(texts))),
    "zst": ("jsonl", lambda texts: zstandard.compress(_jsonl(texts))),
    "bz2": ("tsv", lambda texts: bz2.compress(_table(texts, "\t"))),
    "xz": ("csv", lambda texts: lzma.compress(_table(texts))),
    "parquet.gz": ("parquet", lambda texts: gzip.compress(_parquet(texts))),
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=5))
def test_documents_are_the_same_whatever_holds_them(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    texts = [*texts, 'a "quoted", text;\twith\r\nlines\n\nand | bars']
    for name, (form, written) in CONTAINERS.items():
        path = tmp_path_factory.getbasetemp() / f"container.{name}"
        path.write_bytes(written(texts))
        found = list(read_documents("news", TextSource(files=(path,), format=form)))
        assert found == [text for text in texts if text.strip()], name


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_shard_without_rows_is_passed_over_and_shards_without_any_are_refused(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    form, written = CONTAINERS[name]
    full, empty = tmp_path / f"a-0.{name}", tmp_path / f"a-1.{name}"
    full.write_bytes(written(["one", "two"]))
    empty.write_bytes(written([]) or b"\n")
    assert list(read_documents("news", TextSource(files=(tmp_path / "a-*",), format=form))) == ["one", "two"]
    assert capsys.readouterr().err == f"news: passed over 1 empty file: {empty}\n"
    with pytest.raises(CorpusError, match=f"news: {empty} holds no text; remove it"):
        list(read_documents("news", TextSource(files=(empty,), format=form)))


FUZZED = {"jsonl": _jsonl, "json": _json, "csv": _table, "parquet": _parquet, "random": lambda texts: b""}
FORMATS = ("jsonl", "text", "csv", "tsv", "parquet")
TEXTS = ["The first document, of two lines\nand a half.", "größe 一 \U0001f600", "", "x" * 300]


def _mutated(content: bytes, draw: random.Random) -> bytes:
    if not content:
        return draw.randbytes(draw.choice([1, 3, 20, 600]))
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3, 20])):
        at = draw.randrange(len(changed))
        piece = draw.choice([b"", b"\0", b"\xff", b'"', b"\n", b"{", b"]", b"\\u", draw.randbytes(4)])
        changed[at : at + draw.choice([0, 1, 4, 50])] = piece
        changed = changed or bytearray(b"x")
    return bytes(changed)


@pytest.mark.parametrize("count", [25, pytest.param(2000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", FUZZED)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, kind: str, count: int) -> None:
    draw, path = random.Random(kind), tmp_path / "a"
    content = FUZZED[kind](TEXTS)
    for number in range(count):
        path.write_bytes(_mutated(content, draw))
        own = kind if kind in FORMATS else "jsonl"
        source = TextSource(files=(path,), format=own if number % 2 else draw.choice(FORMATS))
        try:
            found = list(read_documents("news", source))
        except CorpusError as error:
            assert "\n" not in str(error) and str(error).startswith(f"news: {path}") and len(str(error)) < 1000
        else:
            assert found and all(isinstance(text, str) and text.strip() for text in found)
