"""Plain text as documents: paragraphs, lines, or the file whole."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TextIO

import datasets

from pool.config.sources import CHUNK_BYTES
from pool.corpus.reading.json_lines import Row
from pool.corpus.reading.unpacked import as_text, bad_bytes_named

_SAMPLES = {"paragraph": "paragraph", "line": "line", "file": "document"}
Unit = Literal["paragraph", "line", "file"]


def text_rows(path: Path, unit: Unit, encoding: str | None = None) -> Iterator[Row]:
    """Yield the units of a file, compressed or not, each as a row with column `text`; line ends become newlines.

    Paragraphs end at a blank line. An end of file ends the last unit; a line may be empty. Raises `CorpusError` naming
    line and offset of a byte of no character, and errors of decompression.
    """
    with bad_bytes_named(path, encoding, "text"), as_text(path, encoding) as stream:
        if unit == "file":
            yield {"text": stream.read()}
        elif unit == "line":
            for line in stream:
                yield {"text": line.rstrip("\n")}
        else:
            for paragraph in _paragraphs(stream):
                yield {"text": paragraph}


def _paragraphs(stream: TextIO) -> Iterator[str]:
    rest = ""
    while chunk := stream.read(CHUNK_BYTES):
        *whole, rest = (rest + chunk + stream.readline()).split("\n\n")
        yield from filter(None, whole)
    if rest:
        yield rest


def zipped_text_rows(path: Path, unit: Unit, encoding: str | None = None) -> Iterable[Row]:
    """Return the rows of all texts inside a .zip, one text after the other, by `datasets`."""
    options = {"chunksize": CHUNK_BYTES, "sample_by": _SAMPLES[unit], "encoding": encoding or "utf-8"}
    rows: Iterable[Row] = datasets.load_dataset(
        "text", data_files=glob.escape(str(path)), split="train", streaming=True, **options
    )
    return rows
