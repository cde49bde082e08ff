"""Documents of a source, one at a time, without any pickle.

Local files are streamed by the room `reading`, without a copy in a cache.

`datasets` reads data sets of the hub, and never sees the hub itself: it would look for loading scripts, and offline it
reads any cached commit. Here it sees an outline of the repository, its card and empty files by their names, and assigns
files to splits. Those files are downloaded at the named commit and streamed.
"""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pool.config.sources import CHUNK_BYTES, TextSource
from pool.corpus.reading.json_lines import Row, has_column, json_rows, text_of, value_of
from pool.corpus.reading.rows import READER, file_rows, folder_value
from pool.corpus.reading.source_files import SourceFiles, check_path, files_of, is_blank, passed_over
from pool.errors import CorpusError, HubError, first_line
from pool.files.hub import Snapshot, fetch, find_snapshot
from pool.files.kinds import shown_names
from pool.progress import say, silent

if TYPE_CHECKING:
    import datasets

_BATCH_ROWS = 256
_BYTE_ORDER_MARK = "\ufeff"
_CARD = "README.md"
_ABOUT = (_CARD, "dataset_infos.json")
"""The files of a repository that assign its files to subsets and splits, and name their columns."""
_ENDINGS = {".parquet", ".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".arrow", ".txt"}
_COMPRESSED = {".gz", ".zst", ".bz2", ".xz", ".lz4"}


def read_documents(name: str, source: TextSource) -> Iterator[str]:
    """Yield the documents of a source, without empty ones.

    Raises `CorpusError` naming a file or data set: missing, empty, unreadable, or without the text column.
    """
    return (text for text, _ in read_labelled_documents(name, source, None))


def read_labelled_documents(name: str, source: TextSource, field: str | None) -> Iterator[tuple[str, str]]:
    """Yield documents, each with its value in column `field` as text; empty for a missing value or no `field`.

    A column that the rows of a file lack may be named by its folder, as in `lang=de/part-0.parquet`. A file of no rows
    is passed over if there are others; one that a pattern found is, also if it is empty or has no text in its rows.
    Raises `CorpusError` as `read_documents`, and for a missing column or a value of several parts.
    """
    files, some, without_text = files_of(name, source), False, list[_Place]()
    for place in _places(name, source, files, field):
        count, row, has_field = 0, None, field is None or place.folder is not None
        for number, row in place.rows:
            where = f"{place.where}, row {number}"
            text = text_of(row, source.text_column, where).removeprefix(_BYTE_ORDER_MARK)
            has_field = has_field or (field is not None and has_column(row, field))
            if text.strip():
                count += 1
                yield text, "" if field is None else _label(row, field, place.folder, where)
        if count == 0:
            if row is not None and not place.is_found:
                raise _no_text(place)
            without_text.append(place)
            continue
        if not has_field:
            raise CorpusError(
                f"{place.where} has no column {field!r}; it has {shown_names(sorted(row or ()))}: set `partition_by`"
            )
        some = True
    if without_text and not some:
        raise _no_text(without_text[0])
    if passed := [*files.empty, *(place.path for place in without_text if place.path)]:
        say(passed_over(name, passed))


@dataclass(frozen=True)
class _Place:
    """A file, or a data set of the hub.

    rows: its rows, each with its number
    folder: the value of the wanted column that its folder gives to all rows
    is_found: whether a pattern found it
    """

    where: str
    rows: Iterator[tuple[int, Row]]
    path: Path | None = None
    folder: str | None = None
    is_found: bool = False


def _no_text(place: _Place) -> CorpusError:
    return CorpusError(f"{place.where} holds no text; remove it from the pool file or fill it")


def _places(name: str, source: TextSource, files: SourceFiles, field: str | None) -> Iterator[_Place]:
    if source.hub is not None:
        yield _Place(f"{name}: hub data set {source.hub!r}", enumerate(_hub_rows(name, source), start=1))
    for path in files.paths:
        check_path(name, path, source)
        is_found = path not in files.named
        if is_found and is_blank(path):
            yield _Place(f"{name}: {path}", iter(()), path, None, is_found)
            continue
        folder = None if field is None else folder_value(name, path, source, field)
        own = [field] if field is not None and folder is None else []
        wanted = {column.split(".")[0] for column in [source.text_column, *own]}
        yield _Place(f"{name}: {path}", file_rows(name, path, source, wanted), path, folder, is_found)


def _label(row: Row, field: str, folder: str | None, where: str) -> str:
    value = value_of(row, field) if folder is None or has_column(row, field) else folder
    if isinstance(value, datetime.date):
        return value.isoformat()
    if value is not None and not isinstance(value, str | int | float):
        raise CorpusError(f"{where}: column {field!r} holds {type(value).__name__}, which names no partition")
    return "" if value is None else str(value).strip()


def _hub_rows(name: str, source: TextSource) -> Iterator[Row]:
    where = f"{name}: hub data set {source.hub!r} at {source.revision}"
    try:
        with silent(READER):
            found = find_snapshot("dataset", source.hub or "", source.revision or "")
            with tempfile.TemporaryDirectory() as scratch:
                yield from _snapshot_rows(found, source, (Path(scratch) / "outline").resolve())
    except HubError as error:
        raise CorpusError(f"{where} {error}, or name local `files`") from None
    except CorpusError as error:
        raise CorpusError(f"{where} {error}") from None


def _snapshot_rows(found: Snapshot, source: TextSource, outline: Path) -> Iterator[Row]:
    try:
        with silent("huggingface_hub"):
            _draw(outline, found)
            yield from _split_rows(found, source, outline)
    except (CorpusError, HubError):
        raise
    except Exception as error:  # datasets raises many types for one fact: not readable
        reason = first_line(error).replace(f"{outline}/", "").partition(" with any supported extension")[0]
        raise CorpusError(f"cannot be read: {reason}; correct it in the pool file") from error


def _split_rows(found: Snapshot, source: TextSource, outline: Path) -> Iterator[Row]:
    builder = _builder(outline, source.subset)
    files = builder.config.data_files
    if source.split not in files:
        raise CorpusError(f"has no split {source.split!r}; it has {', '.join(map(str, files))}: set `split`")
    every = [Path(file).relative_to(outline).as_posix() for file in files[source.split]]
    names = [name for name in every if found.files[name]] or every
    if len(names) < len(every):
        say(passed_over(f"hub data set {found.name!r}", [name for name in every if not found.files[name]]))
    fetch(found, names)
    if builder.name == "json" and builder.config.field is None and builder.info.features is None:
        for name in names:
            try:
                yield from (row for _, row in json_rows(found.folder / name))
            except CorpusError as error:
                raise CorpusError(f"{name} {error}, in local `files`") from None
        return
    builder.config.data_files = {source.split: [str(found.folder / name) for name in names]}
    if builder.name in ("json", "text"):
        builder.config.chunksize = CHUNK_BYTES
    if builder.name == "parquet":
        builder.config.batch_size = _BATCH_ROWS  # else as many as the first group of rows has, which may be none
    yield from builder.as_streaming_dataset(split=source.split)


def _draw(outline: Path, found: Snapshot) -> None:
    """Write the card of a repository, and an empty file for each document file."""
    outline.mkdir()
    names = [name for name in found.files if _is_inside(name) and _holds_documents(name)]
    if not names:
        raise CorpusError(
            f"has no files that are read ({', '.join(sorted(_ENDINGS))}); a data set that a script makes is often "
            "there as Parquet too: give the commit of its branch refs/convert/parquet"
        )
    for name in names:
        (outline / name).parent.mkdir(parents=True, exist_ok=True)
        (outline / name).touch()
    about = [name for name in _ABOUT if name in found.files]
    fetch(found, about)
    for name in about:
        shutil.copy(found.folder / name, outline / name)
    _check_card(outline / _CARD)


def _holds_documents(name: str) -> bool:
    path = PurePosixPath(name.lower())
    return name not in _ABOUT and (path.with_suffix("") if path.suffix in _COMPRESSED else path).suffix in _ENDINGS


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and "://" not in path and ".." not in PurePosixPath(path).parts


def _check_card(card: Path) -> None:
    """Refuse a card naming files elsewhere, on this machine or on the network."""
    from huggingface_hub import DatasetCard  # for data sets of the hub alone, as datasets

    told = DatasetCard.load(card).data.to_dict() if card.is_file() else {}
    for subset in told.get("configs") or []:
        own = [subset.get("data_files"), subset.get("data_dir")] if isinstance(subset, dict) else []
        for path in _strings(own):
            if not _is_inside(path):
                raise CorpusError(f"names {path!r} in its {_CARD}, which is not one of its own files; take another one")


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _builder(outline: Path, subset: str | None) -> datasets.DatasetBuilder:
    import datasets

    try:
        return datasets.load_dataset_builder(str(outline), subset, cache_dir=str(outline.parent / "cache"))
    except ValueError:
        subsets = datasets.get_dataset_config_names(str(outline))
        if len(subsets) == 1 and subset in (None, *subsets):
            raise
        raise CorpusError(f"has the subsets {', '.join(subsets)}: set `subset` to one of them") from None
