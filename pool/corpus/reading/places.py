"""Places of source files: names, patterns, and columns named by folders."""

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from pool.config.sources import TextSource
from pool.errors import CorpusError

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_CLOSED_TO_ALL = "lost+found"


def paths_of(name: str, source: TextSource) -> list[Path]:
    """List the paths of a partition or held-out domain. An existing path is a name, never a pattern.

    Raises `CorpusError` for a pattern without a match.
    """
    paths: list[Path] = []
    for file in source.files:
        if os.path.lexists(file) or not glob.has_magic(str(file)):
            paths.append(file)
            continue
        found = [path for path in _matches(name, file) if path.is_dir() == (source.format == "saved")]
        if not found:
            raise CorpusError(f"{name}: no file matches {file}; correct `files` in the pool file")
        paths += found
    return list(dict.fromkeys(paths))


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
