"""Promises of encodings: the named one is used, and a byte of no character is told by its line and offset."""

import gzip
from pathlib import Path

import pytest
import zstandard
from pydantic import ValidationError

from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.corpus.files import describe_source
from pool.errors import CorpusError

WAY_OUT = 'if the file is in another encoding, name that in its section, such as encoding = "latin-1", or correct'


def _read(path: Path, **options: str) -> list[str]:
    return list(read_documents("news", TextSource(files=(path,), **options)))


PACKED = [("text", bytes), ("jsonl", bytes), ("csv", bytes), ("tsv", bytes)]
PACKED += [("text", zstandard.compress), ("jsonl", gzip.compress)]


@pytest.mark.parametrize(("form", "pack"), PACKED)
def test_a_byte_of_no_character_is_told_by_its_line_and_offset(tmp_path: Path, form: str, pack) -> None:
    line = {"text": b"alpha beta\n", "jsonl": b'{"text": "alpha"}\n', "csv": b"text,a\n", "tsv": b"text\ta\n"}[form]
    good = line * (1_100_000 // len(line))
    (tmp_path / "a").write_bytes(pack(good + line[:-3] + b"\xe9" + line[-3:]))
    place = f"line {good.count(10) + 1}: byte 0xe9 at offset {len(good) + len(line) - 3} is not UTF-8; {WAY_OUT}"
    with pytest.raises(CorpusError, match=f"news: .*a cannot be read as {form}: {place}"):
        _read(tmp_path / "a", format=form)


@pytest.mark.parametrize(
    ("content", "encoding", "place"),
    [
        (b"a\nb\xf0\x9f\x98", None, "line 2: byte 0xf0 at offset 3 is not UTF-8"),
        (b"a\nb\x81", "cp1252", "line 2: byte 0x81 at offset 3 is not CP1252"),
        ("a\nb".encode("utf-16") + b"\x00", None, "line 2: byte 0x00 at offset 8 is not UTF-16"),
        (b"a\nb\xff", "ascii", "line 2: byte 0xff at offset 3 is not ASCII"),
        (b"ab", "utf-16", "line 1: UTF-16 stream does not start with BOM: the file is not UTF-16"),
    ],
)
def test_so_are_bytes_of_other_encodings(tmp_path: Path, content: bytes, encoding: str | None, place: str) -> None:
    (tmp_path / "a").write_bytes(content)
    options = {} if encoding is None else {"encoding": encoding}
    with pytest.raises(CorpusError, match=f"cannot be read as text: {place}; {WAY_OUT}"):
        _read(tmp_path / "a", format="text", **options)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8", "utf-8-sig", "shift_jis"])
def test_a_named_encoding_is_used_in_every_format_of_text(tmp_path: Path, encoding: str) -> None:
    text = "caf\xe9 au lait" if encoding != "shift_jis" else "漢字"
    for form, content in {"text": text, "jsonl": f'{{"text": "{text}"}}', "csv": f"n,text\n1,{text}\n"}.items():
        (tmp_path / form).write_bytes(content.encode(encoding))
        assert _read(tmp_path / form, format=form, encoding=encoding) == [text]


def test_utf_16_and_utf_32_are_known_by_their_byte_order_mark(tmp_path: Path) -> None:
    for number, mark in enumerate([b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff"]):
        encoding = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")[number]
        (tmp_path / "a").write_bytes(mark + "größe\n\nzwei".encode(encoding))
        assert _read(tmp_path / "a", format="text") == ["größe", "zwei"]


def test_an_encoding_is_in_the_digest_of_text_only_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    plain = describe_source("news", TextSource(files=(tmp_path / "a",), format="text"))
    named = describe_source("news", TextSource(files=(tmp_path / "a",), format="text", encoding="latin-1"))
    assert named == {**plain, "encoding": "latin-1"} and "encoding" not in plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoding": "latin-one"}, "no such encoding of text; such are utf-8, latin-1"),
        ({"encoding": "rot13"}, "no such encoding of text"),
        ({"encoding": "hex"}, "no such encoding of text"),
        ({"encoding": "latin-1", "format": "parquet"}, "`encoding` is of text, jsonl, csv and tsv files: take it away"),
    ],
)
def test_an_encoding_that_is_none_or_says_nothing_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TextSource(files=("a",), **options)
