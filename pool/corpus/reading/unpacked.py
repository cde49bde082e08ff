"""Files as bytes and as text: compressed or not, told by their first bytes, in UTF-8 or a named encoding."""

import bz2
import codecs
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import zstandard

from pool.errors import CorpusError
from pool.files.kinds import BZIP2, GZIP, START_BYTES, UTF_MARKS, XZ, ZSTANDARD

BLOCK_BYTES = 2**20
LARGEST_WINDOW = 2**31
"""Bytes of the longest window of Zstandard, `--long=31`; such a file needs as much memory to be read."""


def unpacked(path: Path) -> io.BufferedIOBase:
    """Open a file for its bytes, decompressed if they are compressed. Raises `OSError`."""
    with path.open("rb") as stream:
        opener = _opener(stream.read(10))
    return path.open("rb") if opener is None else opener(path)


def is_packed(start: bytes) -> bool:
    """Tell by the first ten bytes whether a file is compressed by gzip, Zstandard, bzip2 or xz."""
    return _opener(start) is not None


def is_zstandard(start: bytes) -> bool:
    return _opener(start) is _opened_zstandard


def marked_encoding(start: bytes) -> str | None:
    """Name the encoding of a byte order mark: UTF-16 or UTF-32."""
    return next((name for mark, name in UTF_MARKS.items() if start.startswith(mark)), None)


def _opener(start: bytes) -> Callable[[Path], io.BufferedIOBase] | None:
    if start.startswith(BZIP2) and start[4:10] not in _BZIP2:
        return None  # text may begin with these letters
    if start[1:4] == _SKIPPABLE and start[0] in range(0x50, 0x60):
        return _opened_zstandard  # a skippable frame, the first of pzstd
    return next((opener for mark, opener in _OPENERS.items() if start.startswith(mark)), None)


def _opened_zstandard(path: Path) -> io.BufferedIOBase:
    decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
    frames = decompressor.stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
    return io.BufferedReader(frames)


_SKIPPABLE = b"\x2a\x4d\x18"
_BZIP2 = (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
"""The bytes after `BZh` and a digit: a block, or the end of an empty file."""
_OPENERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    GZIP: gzip.open,
    ZSTANDARD: _opened_zstandard,
    BZIP2: bz2.open,
    XZ: lzma.open,
}


@contextmanager
def as_text(
    path: Path, encoding: str | None, *, newline: str | None = None, skip_mark: bool = False
) -> Iterator[TextIO]:
    """Open a file for its text, in the named encoding, else as its byte order mark says, else in UTF-8.

    `skip_mark` leaves out the mark of UTF-8; the mark of UTF-16 is always left out.

    Raises `OSError`, errors of decompression, and `UnicodeError`.
    """
    used = _encoding(path, encoding)
    if skip_mark and is_utf_8(used):
        used = "utf-8-sig"
    with io.TextIOWrapper(cast(BinaryIO, unpacked(path)), encoding=used, newline=newline) as text:
        yield text


def _encoding(path: Path, encoding: str | None) -> str:
    if encoding is not None:
        return encoding
    with unpacked(path) as stream:
        return marked_encoding(stream.read(4)) or "utf-8"


def is_utf_8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


@contextmanager
def bad_bytes_named(path: Path, encoding: str | None, form: str) -> Iterator[None]:
    """Raise `CorpusError` with line and offset if the block meets a byte of no character."""
    try:
        yield
    except UnicodeError:
        raise CorpusError(f"cannot be read as {form}: {_bad_byte(path, _encoding(path, encoding))}") from None


def _bad_byte(path: Path, encoding: str) -> str:
    """Find the first byte of no character: its line, and its offset in the unpacked file."""
    decoder, line, before = codecs.getincrementaldecoder(encoding)(), 1, 0
    with unpacked(path) as stream:
        while True:
            block, state = stream.read(BLOCK_BYTES), decoder.getstate()
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                kept = len(error.object) - len(block)  # bytes of an unfinished character before this block
                decoder.setstate(state)
                line += decoder.decode(block[: max(0, error.start - kept)]).count("\n")
                byte = error.object[error.start]
                return _refusal(encoding, f"line {line}: byte 0x{byte:02x} at offset {before + error.start - kept}")
            except UnicodeError as error:  # UTF-16 without a byte order mark where there has to be one
                return _refusal(encoding, f"line 1: {error}: the file")
            if not block:
                return _refusal(encoding, "the file")
            before += len(block)


def _refusal(encoding: str, place: str) -> str:
    return (
        f"{place} is not {encoding.upper()}; if the file is in another encoding, name that in its section, such as "
        'encoding = "latin-1", or correct the file'
    )


_AGAIN = "download or write it again"


def check_frames(name: str, path: Path) -> None:
    """Read a Zstandard file to the end of its last frame. Raises `CorpusError`, as for one cut short."""
    try:
        with path.open("rb") as stream:
            frame = None
            while rest := stream.read(BLOCK_BYTES):
                while rest:
                    frame = frame or zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()
                    frame.decompress(rest)
                    rest, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    except MemoryError:
        raise CorpusError(f"{name}: {path} needs more memory than there is: {_window(path)}") from None
    except (OSError, zstandard.ZstdError) as error:
        raise CorpusError(f"{name}: {path} cannot be read as Zstandard: {_cause(path, error)}") from None
    if frame is not None:
        raise CorpusError(f"{name}: {path} ends in the middle of a Zstandard frame; {_AGAIN}")


def _cause(path: Path, error: Exception) -> str:
    if "memory" in str(error).lower():
        return f"{error}; {_window(path)}"
    with path.open("rb") as stream:
        start = stream.read(START_BYTES)
    try:
        dictionary = zstandard.get_frame_parameters(start).dict_id
    except zstandard.ZstdError:
        dictionary = 0
    if dictionary:
        return f"it needs dictionary {dictionary}; unpack it with `zstd -d -D DICTIONARY` and list what was inside"
    return f"{error}; {_AGAIN}"


def _window(path: Path) -> str:
    with path.open("rb") as stream:
        size = zstandard.get_frame_parameters(stream.read(START_BYTES)).window_size or LARGEST_WINDOW
    return f"its window takes {size / 2**20:,.0f} MB; compress it again with a smaller one, say `zstd --long=27`"
