"""Promises of kinds: a file without text is known by its first bytes, whatever its name and format, and refused."""

import gzip
import io
import pickle
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from safetensors.numpy import save

from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.corpus.reading.source_files import check_start
from pool.errors import CorpusError

FORMATS = ("jsonl", "text", "csv", "tsv", "parquet")


def _bytes_of(write) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def _zip(stream: io.BytesIO) -> None:
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "text")


def _tar(stream: io.BytesIO) -> None:
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))


TABLE = pa.table({"text": ["one", "two"]})
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 53687\n"
PAGE = b'\n<!DOCTYPE html>\n<html lang="en"><head><title>404 Not Found</title></head><body>no such page</body></html>\n'
KINDS = {
    "lfs": (POINTER, "is a Git LFS pointer; fetch the real file: `git lfs pull`"),
    "annex": (b"/annex/objects/SHA256E-s5--4d7a.jsonl\n", "is a git-annex pointer; .* `git annex get`"),
    "page": (PAGE, r"is an HTML page, as servers send .*; download the file again"),
    "link": (b"../.git/annex/objects/1/2/SHA256E-s5--4d7a/SHA256E-s5--4d7a", "is a git-annex pointer"),
    "saved page": (b"<!-- saved from url=(0)x -->\n<!DOCTYPE HTML>", "is an HTML page"),
    "loud page": (b"<HTML><HEAD>", "is an HTML page"),
    "s3": (b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code></Error>', "is a server's refusal saved"),
    "404": (b"404: Not Found", "is a server's refusal saved"),
    "hub": (b"Entry not found", "is a server's refusal saved"),
    "zip": (_bytes_of(_zip), "is a ZIP archive.*; unpack it with `unzip`"),
    "tar": (_bytes_of(_tar), "is a tar archive; unpack it with `tar -xf`"),
    "tar.gz": (gzip.compress(_bytes_of(_tar)), "is a tar archive; unpack it with `tar -xf`"),
    "7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7z archive; unpack it with `7z x`"),
    "rar": (b"Rar!\x1a\x07\x01\x00", "is a RAR archive; unpack it with `unrar x`"),
    "lz4": (b"\x04\x22\x4d\x18\x64\x40\xa7", "is compressed by LZ4; unpack it with `lz4 -d`"),
    "twice": (gzip.compress(gzip.compress(b"text", mtime=0), mtime=0), "is compressed twice; unpack it once"),
    "arrow": (_bytes_of(lambda s: pa.ipc.new_file(s, TABLE.schema).close()), 'is an Arrow file; .* format = "saved"'),
    "stream": (_bytes_of(lambda s: pa.ipc.new_stream(s, TABLE.schema).close()), "is an Arrow file"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3", "is a PDF document; turn it into text, say with `pdftotext`"),
    "png": (b"\x89PNG\r\n\x1a\n\x00", "is an image"),
    "pickle": (pickle.dumps({"text": "x"}), "is a pickle, never opened; write its text as JSON Lines"),
    "numpy": (_bytes_of(lambda s: np.save(s, np.arange(3))), "is a NumPy array"),
    "safetensors": (save({"a": np.zeros(3)}), "is a model's weights"),
    "zeros": (bytes(4096), "is nothing but zero bytes at its beginning"),
    "utf-16": ("plain text".encode("utf-16-le"), '.*encoding = "utf-16-le"|cannot be read as parquet: it begins'),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_text_is_refused_by_name_in_every_format(tmp_path: Path, kind: str, form: str) -> None:
    content, message = KINDS[kind]
    path = tmp_path / f"a.{form.replace('text', 'txt')}"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=f"news: {path} ({message})") as caught:
        check_start("news", path, TextSource(files=(path,), format=form))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["jsonl", "text", "csv", "tsv"])
def test_tables_in_the_place_of_text_are_refused_by_name(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"
    pyarrow.parquet.write_table(TABLE, path)
    with pytest.raises(CorpusError, match='is a Parquet file; set format = "parquet"'):
        check_start("news", path, TextSource(files=(path,), format=form))
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("create table a (text)")
    with pytest.raises(CorpusError, match="is a SQLite database; write its text as JSON Lines"):
        check_start("news", path, TextSource(files=(path,), format=form))


@pytest.mark.parametrize(
    ("name", "content", "form", "message"),
    [
        ("a.parquet", b'{"text": "x"}\n', "parquet", 'it begins with .*; set format = "jsonl"'),
        (
            "a.parquet",
            b"text\nx\n",
            "parquet",
            "cannot be read as parquet: it begins with 'text.nx.n'; correct `format`",
        ),
        ("a.csv", b"text\nx\n", "jsonl", 'cannot be read as jsonl: it begins with .*; set format = "csv"'),
        ("a.tsv.gz", gzip.compress(b"text\nx\n", mtime=0), "jsonl", 'set format = "tsv"'),
        ("a.txt", b"Once upon a time", "jsonl", "it begins with 'Once upon a time'; set format = \"text\""),
        ("a.jsonl", b'{\n  "text": "x"\n}\n', "jsonl", "line 1: Expecting property name .* write it so with `jq -c .`"),
    ],
)
def test_another_format_than_the_one_said_is_named(
    tmp_path: Path, name: str, content: bytes, form: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(read_documents("news", TextSource(files=(tmp_path / name,), format=form)))


READ = {
    "a.html": PAGE,
    "a.php": PAGE,
    "a.txt": b"ORC and BZh and GGUF and PARE are letters\n",
    "b.txt": b"BZhang wrote this\n",
    "c.txt": b"Not Found is how it began.\n",
    "d.txt": b"Rar! said the bear. 7z PK\n",
    "e.txt": b"a\x00b\n",
}


@pytest.mark.parametrize("name", READ)
def test_what_is_text_on_purpose_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(READ[name])
    source = TextSource(files=(tmp_path / name,), format="text", document="file")
    assert list(read_documents("news", source)) == [READ[name].decode()]


def test_a_large_file_of_html_is_a_corpus_and_texts_in_a_zip_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(PAGE * 10_000)
    assert len(list(read_documents("news", TextSource(files=(tmp_path / "a.txt",), format="text")))) == 10_000
    (tmp_path / "a.zip").write_bytes(_bytes_of(_zip))
    assert list(read_documents("news", TextSource(files=(tmp_path / "a.zip",), format="text"))) == ["text"]
