"""Source files: found by names and patterns, and checked by sizes and first bytes before any is read whole."""

import fnmatch
import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

from pool.config.sources import TEXT_ROOT, TextSource
from pool.corpus.reading.unpacked import check_frames, is_packed, is_zstandard, marked_encoding, unpacked
from pool.errors import CorpusError
from pool.files.kinds import START_BYTES, is_pointer, refuse_known

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_CLOSED_TO_ALL = "lost+found"


@dataclass(frozen=True)
class SourceFiles:
    """The files of a partition or held-out domain.

    paths: in their order, each once, without the empty files
    named: paths given by name; patterns found the others
    empty: files of no bytes that patterns found
    """

    paths: tuple[Path, ...]
    named: frozenset[Path]
    empty: tuple[Path, ...]


def files_of(name: str, source: TextSource) -> SourceFiles:
    """List the files of a partition or held-out domain. An existing path is a name, never a pattern.

    Raises `CorpusError` for a pattern that matches nothing, or empty files alone.
    """
    paths, named, empty = list[Path](), set[Path](), list[Path]()
    for file in source.files:
        if os.path.lexists(file) or not glob.has_magic(str(file)):
            paths.append(file)
            named.add(file)
            continue
        found = _matching(name, file, source)
        nothing = set(filter(_is_empty, found))
        if len(nothing) == len(found):
            raise CorpusError(f"{name}: every file that matches {file} is empty; fill one, or {_way_to(file)}")
        paths += [path for path in found if path not in nothing]
        empty += sorted(nothing)
    return SourceFiles(tuple(dict.fromkeys(paths)), frozenset(named), tuple(dict.fromkeys(empty)))


def _matching(name: str, file: Path, source: TextSource) -> list[Path]:
    found = [path for path in _matches(name, file) if path.is_dir() == (source.format == "saved")]
    if not found:
        raise CorpusError(f"{name}: no file matches {file}; {_way_to(file)}")
    return found


def paths_of(name: str, source: TextSource) -> list[Path]:
    """List the paths of `files_of`."""
    return list(files_of(name, source).paths)


def passed_over(name: str, paths: Sequence[Path | str]) -> str:
    """Word that empty files add nothing: their number, and the first of them."""
    if len(paths) == 1:
        return f"{name}: passed over 1 empty file: {paths[0]}"
    return f"{name}: passed over {len(paths):,} empty files, such as {paths[0]}"


def _is_empty(path: Path) -> bool:
    """Tell whether a file has no bytes; a broken link has some, and is refused when it is read."""
    try:
        return path.is_file() and path.stat().st_size == 0
    except OSError:
        return False


def folder_columns(path: Path) -> dict[str, str]:
    """Read the columns named by folders, as in `lang=de/part-0.parquet`; a missing value is empty."""
    pairs = (part.split("=", 1) for part in path.parent.parts if "=" in part)
    return {unquote(key): "" if value == _NO_VALUE else unquote(value) for key, value in pairs}


def _matches(name: str, file: Path) -> list[Path]:
    """List the matches of a pattern, in order. Its first folders are names as long as there are such folders."""
    parts, folder, count = file.parts, Path(), 0
    while count < len(parts) - 1 and os.path.lexists(folder / parts[count]):
        folder, count = folder / parts[count], count + 1
    root = Path(file.anchor)
    try:
        found = sorted(_below(folder, parts[count:], ()))
        return found or sorted(_below(root, parts[1:] if file.anchor else parts, ()))
    except OSError as error:
        raise CorpusError(
            f"{name}: {error.filename} cannot be listed: {error.strerror}; give read permission, or correct `files`"
        ) from None


def _below(folder: Path, parts: Sequence[str], above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the matches in a folder, as `glob.glob` does; `**` follows no link back to a folder `above`."""
    if not parts:
        yield folder
        return
    first, rest = parts[0], parts[1:]
    if first == "**":
        if (target := folder.resolve()) not in above:
            yield from _below(folder, rest, above)
            for inner in _fitting(folder, "*"):
                if inner.is_dir():
                    yield from _below(inner, parts, (*above, target))
                elif not rest:
                    yield inner
        return
    for inner in _fitting(folder, first) if glob.has_magic(first) else [folder / first]:
        if inner.is_dir() if rest else os.path.lexists(inner):
            yield from _below(inner, rest, above)


def _fitting(folder: Path, pattern: str) -> list[Path]:
    hidden = pattern.startswith(".")
    return [
        inner
        for inner in _listed(folder)
        if fnmatch.fnmatch(inner.name, pattern) and (hidden or not inner.name.startswith("."))
    ]


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir() or folder.name == _CLOSED_TO_ALL:
        return []
    return [folder / name for name in os.listdir(folder)]  # noqa: PTH208  an iterator would stay open during recursion


_IN_FILES = "correct `files` in the pool file"
_COMPRESSED = frozenset((".gz", ".zst", ".zstd", ".bz2", ".xz"))


def check_sources(sources: Mapping[str, TextSource]) -> None:
    """Check all files of all sources by name, size and first bytes.

    Raises `CorpusError` for the first missing or empty file, or the first without such text.
    """
    for name, source in sources.items():
        for path in paths_of(name, source):
            check_start(name, path, source)


def check_start(name: str, path: Path, source: TextSource) -> None:
    """Check one path as `check_sources` does."""
    try:
        if source.format == "saved":
            _check_folder(path)
        else:
            _check_file(path, source)
    except CorpusError as error:
        raise CorpusError(f"{name}: {path} {error}") from None
    except OSError as error:
        raise CorpusError(f"{name}: {path}: {reason_of(path, error)}") from None


def is_blank(path: Path) -> bool:
    """Tell whether a folder is empty, or a file is short and holds white space alone, compressed or not."""
    if path.is_dir():
        return not any(path.iterdir())
    with path.open("rb") as stream:
        start = stream.read(START_BYTES)
    if is_packed(start):
        start = _unpacked_start(path, start)
    return len(start) < START_BYTES and not start.strip()


def check_path(name: str, path: Path, source: TextSource) -> None:
    """Check one path as `check_sources` does, and a Zstandard file to its end: the readers accept half of one."""
    check_start(name, path, source)
    if source.format == "saved":
        return
    with path.open("rb") as stream:
        start = stream.read(START_BYTES)
    if is_zstandard(start):
        check_frames(name, path)


def _check_folder(path: Path) -> None:
    path.stat()
    if not path.is_dir():
        raise CorpusError("is not a folder written by save_to_disk; correct `files` or `format`")
    for file in path.rglob("*.arrow"):
        with file.open("rb") as stream:
            start = stream.read(START_BYTES)
        if is_pointer(start):
            refuse_known(file, start, len(start), "saved")


def _check_file(path: Path, source: TextSource) -> None:
    size = path.stat().st_size
    if path.is_dir():
        raise CorpusError(_folder_remedy(path, source.format))
    if not path.is_file():
        raise CorpusError(f"is not a file; {_IN_FILES}")
    if size == 0:
        raise CorpusError("is empty; remove it from `files` or fill it")
    with path.open("rb") as stream:
        start = stream.read(START_BYTES)
    inner = PurePath(path.with_suffix("")) if path.suffix in _COMPRESSED else path
    if is_packed(start):
        start = _unpacked_start(path, start)
    refuse_known(inner, start, size, source.format)
    if source.format != "parquet" and source.encoding is None and not marked_encoding(start):
        _refuse_unmarked(start)


def _unpacked_start(path: Path, start: bytes) -> bytes:
    try:
        with unpacked(path) as stream:
            inside = stream.read(START_BYTES)
    except Exception:  # the decompressors raise many types; reading the file says what is wrong with it
        return start
    if is_packed(inside):
        raise CorpusError("is compressed twice; unpack it once, say with `gunzip` or `zstd -d`")
    return inside


def _refuse_unmarked(start: bytes) -> None:
    """Refuse UTF-16 without a byte order mark: in UTF-8 every second character would be NUL."""
    pairs = len(start) // 2
    for name, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[0::2])):
        if pairs >= 8 and zeros.count(0) > 0.7 * pairs and start.count(0) < 1.3 * pairs:
            raise CorpusError(
                f'seems to be in UTF-16 without a byte order mark; set encoding = "{name}" in its section'
            )


def _folder_remedy(path: Path, form: str) -> str:
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return 'is a folder written by save_to_disk; set format = "saved"'
    ending = {"jsonl": "jsonl", "text": "txt"}.get(form, form)
    return f'is not a file; for the files in this folder write a pattern, such as "{path.name}/**/*.{ending}"'


def _way_to(file: Path) -> str:
    """Word the remedy for a missing file: the environment may say in which folder files are looked for."""
    root = os.environ.get(TEXT_ROOT)
    if root and root.rstrip("/") in str(file):
        return f"correct {TEXT_ROOT} in the environment, or `files` in the pool file"
    return _IN_FILES


def reason_of(path: Path, error: OSError) -> str:
    """Say why a path cannot be read, and what to do."""
    told = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return f"{told}; give read permission, or {_IN_FILES}"
    if path.with_name(f"{path.name}.dvc").is_file():
        return f"{told}; DVC keeps it: fetch it with `dvc pull`"
    if not path.is_symlink() or path.exists():
        return f"{told}; {_way_to(path)}"
    target = path.readlink()
    if ".git/annex/objects" in target.as_posix():
        return "a git-annex link to a file that is not here; fetch it with `git annex get`"
    return f"a symbolic link to {target}, which cannot be followed: {told}; {_IN_FILES}"
