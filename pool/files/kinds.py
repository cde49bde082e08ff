"""Kinds of files by their first bytes: files without text are refused by name, with the way to their text."""

import codecs
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePath

from pool.errors import CorpusError

GZIP, ZSTANDARD, BZIP2, XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"
ZIP, EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
PARQUET, SQLITE, PDF = b"PAR1", b"SQLite format 3\0", b"%PDF-"
OLD_OFFICE = b"\xd0\xcf\x11\xe0"
GIT_LFS = b"version https://git-lfs"
TAR = b"ustar"
TAR_MARK = slice(257, 262)
UTF_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by their byte order marks; the longer of two with one beginning stands first."""

START_BYTES = 512
_LARGEST_PAGE = 2**20
"""Bytes of a saved error page, at most: a larger file of HTML is taken for a corpus of HTML."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: its first bytes, its name, and the way to its text."""

    starts: tuple[bytes, ...]
    what: str
    remedy: str


_AS_JSONL = "write its text as JSON Lines"
_UNPACK = "unpack it with `{}` and list what was inside"

_POINTERS = (
    Kind((GIT_LFS + b".github.com/spec/",), "a Git LFS pointer", "fetch the real file: `git lfs pull`"),
    Kind((b"# xet version",), "a Xet pointer", "fetch the real file: `git xet pull`, or download it again"),
    Kind((b"/annex/objects/",), "a git-annex pointer", "fetch the real file: `git annex get`"),
)
_PARQUET = Kind((PARQUET,), "a Parquet file", 'set format = "parquet"')
_ZIP = Kind((ZIP, EMPTY_ZIP), "a ZIP archive, as .docx and .npz are", _UNPACK.format("unzip"))
_BINARY = (
    Kind((b"ARROW1\0\0", b"FEA1\0", b"\xff\xff\xff\xff"), "an Arrow file", 'list its folder with format = "saved"'),
    Kind((SQLITE,), "a SQLite database", _AS_JSONL),
    Kind((b"Obj\x01",), "an Avro file", _AS_JSONL),
    Kind((b"\x89HDF\r\n",), "an HDF5 file", _AS_JSONL),
    Kind((PDF,), "a PDF document", "turn it into text, say with `pdftotext`"),
    Kind((OLD_OFFICE,), "an old Office document", "save it as text"),
    Kind((b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"), "an image", "take it out of `files`"),
    Kind((b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95"), "a pickle, never opened", _AS_JSONL),
    Kind((b"\x93NUMPY",), "a NumPy array", _AS_JSONL),
    Kind((b"GGUF\2\0", b"GGUF\3\0"), "a model's weights (GGUF)", "take it out of `files`"),
    Kind((b"7z\xbc\xaf\x27\x1c",), "a 7z archive", _UNPACK.format("7z x")),
    Kind((b"Rar!\x1a\x07",), "a RAR archive", _UNPACK.format("unrar x")),
    Kind((b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"), "compressed by LZ4", _UNPACK.format("lz4 -d")),
    Kind((b"\x1f\x9d",), "compressed by compress", _UNPACK.format("uncompress")),
    Kind((b"\x89LZO",), "compressed by lzop", _UNPACK.format("lzop -d")),
    Kind((b"\xff\x06\x00\x00sNaPpY",), "compressed by Snappy", _UNPACK.format("snzip -d")),
)
_TAR = Kind((), "a tar archive", _UNPACK.format("tar -xf"))
_WEIGHTS = Kind((), "a model's weights (safetensors)", "take it out of `files`")
_PAGE = Kind(
    (), "an HTML page, as servers send instead of a file", "download the file again, or name it .html on purpose"
)
_ANSWER = Kind((), "a server's refusal saved in the place of the file", "download the file again")
_ZEROS = Kind((), "nothing but zero bytes at its beginning: a download that did not end", "download it again")

_IS_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?(?:<\?xml[^>]*>\s*)?(?:<!doctype html|<html[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_IS_LINK = re.compile(rb"[./\\]*\.git[/\\]annex[/\\]objects[/\\][^\n]*\s*\Z")
_IS_ANSWER = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?<Error>\s*<Code>|\s*(?:404: Not Found|Not Found|Entry not found|Access Denied"
    rb"|Forbidden|Unauthorized|Invalid username or password\.?)\s*\Z",
)
_PLAIN = frozenset(("", ".txt", ".text", ".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet"))
"""Suffixes of plain data; HTML on purpose has another suffix, say .html."""
_WRITTEN_AS = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".txt": "text", ".text": "text", ".md": "text"}


def refuse_known(path: PurePath, start: bytes, size: int, form: str) -> None:
    """Refuse a file without text of format `form`, by its first bytes and its size in bytes.

    Raises `CorpusError` with a predicate: `is a Git LFS pointer; fetch the real file: ...`.
    """
    known = (
        *_POINTERS,
        *_BINARY,
        *(() if form == "parquet" else (_PARQUET,)),
        *(() if _is_zip(path, form) else (_ZIP,)),
    )
    found = next((kind for kind in known if start.startswith(kind.starts)), None) or _by_content(path, start, size)
    if found is not None:
        raise CorpusError(f"is {found.what}; {found.remedy}")
    if form == "parquet" and not start.startswith(PARQUET):
        hint = 'set format = "jsonl"' if start.lstrip()[:1] in (b"{", b"[") else "correct `format`, or write it again"
        raise CorpusError(f"cannot be read as parquet: it begins with {shown(start)}; {hint}")
    other = _WRITTEN_AS.get(path.suffix.lower())
    if form == "jsonl" and other and start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"{", b"["):
        raise CorpusError(f'cannot be read as jsonl: it begins with {shown(start)}; set format = "{other}"')


def is_pointer(start: bytes) -> bool:
    """Tell whether a file is a pointer to a file elsewhere."""
    return any(start.startswith(kind.starts) for kind in _POINTERS)


def shown(start: bytes) -> str:
    """Show the first bytes of a file on one line."""
    return repr(start[:24].decode("utf-8", "replace")) if start.isascii() else repr(start[:12])[1:]


def shown_names(names: Collection[str]) -> str:
    """List names of columns on one line: the first of many, long ones cut short."""
    some = [name if len(name) <= 40 else f"{name[:40]}..." for name in list(names)[:12]]
    line = ", ".join([*some, *(["..."] if len(names) > 12 else [])])
    return line if line.isprintable() else ascii(line)[1:-1]


def _is_zip(path: PurePath, form: str) -> bool:
    """Tell whether an archive is read: texts inside a .zip are."""
    return form == "text" and path.suffix == ".zip"


def _by_content(path: PurePath, start: bytes, size: int) -> Kind | None:
    if start[TAR_MARK] == TAR:
        return _TAR
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 2**27:
        return _WEIGHTS
    if _IS_LINK.match(start):
        return _POINTERS[-1]
    if len(start) >= 64 and not any(start):
        return _ZEROS
    if path.suffix.lower() not in _PLAIN or size > _LARGEST_PAGE:
        return None
    if _IS_PAGE.match(start):
        return _PAGE
    return _ANSWER if _IS_ANSWER.match(start) else None
