"""Documents of a source, one at a time: JSON Lines line by line, all else through `datasets`, without any pickle.

Local files are streamed, without a copy in a cache.

`datasets` never sees the hub: it would look for loading scripts, and offline it reads any cached commit. Here it sees
an outline of the repository, its card and empty files by their names, and assigns files to splits. Those files are
downloaded at the named commit and streamed.
"""

import datetime
import glob
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import datasets
from huggingface_hub import DatasetCard

from pool.config.sources import CHUNK_BYTES, TextSource
from pool.corpus.files import check_path, paths_of
from pool.corpus.json_lines import Row, json_rows
from pool.errors import CorpusError, HubError, first_line
from pool.files.hub import Snapshot, fetch, find_snapshot
from pool.progress import silent

_SAMPLES = {"paragraph": "paragraph", "line": "line", "file": "document"}
_READER = "datasets.packaged_modules"
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")
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

    Raises `CorpusError` as `read_documents`, and for a missing column or a value of several parts.
    """
    for where, rows in _sources(name, source):
        count, row, has_field = 0, Row(), field is None
        for number, row in rows:
            text = _text_of(row, source.text_column, f"{where}, row {number}")
            has_field = has_field or field in row
            if text.strip():
                count += 1
                yield text, "" if field is None else _label(row, field, f"{where}, row {number}")
        if count == 0:
            raise CorpusError(f"{where} holds no text; remove it from the pool file or fill it")
        if not has_field:
            raise CorpusError(f"{where} has no column {field!r}; it has {', '.join(sorted(row))}: set `partition_by`")


def _sources(name: str, source: TextSource) -> Iterator[tuple[str, Iterator[tuple[int, Row]]]]:
    if source.hub is not None:
        yield f"{name}: hub data set {source.hub!r}", enumerate(_hub_rows(name, source), start=1)
    for path in paths_of(name, source):
        check_path(name, path, source)
        yield f"{name}: {path}", _file_rows(name, path, source)


def _text_of(row: Row, column: str, where: str) -> str:
    if column not in row:
        raise CorpusError(
            f"{where} has no column {column!r}; it has {', '.join(sorted(row))}: set `column`, or give the row a text"
        )
    text = row[column]
    if text is None:
        raise CorpusError(f'{where}: column {column!r} is null; remove the row, or make it "", which is left out')
    if not isinstance(text, str):
        raise CorpusError(f"{where}: column {column!r} holds {type(text).__name__}, not text")
    if not text.isascii() and _HALF_A_PAIR.search(text):
        raise CorpusError(f"{where}: column {column!r} holds half a surrogate pair, which is no character; correct it")
    return text


def _label(row: Row, field: str, where: str) -> str:
    value = row.get(field)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if value is not None and not isinstance(value, str | int | float):
        raise CorpusError(f"{where}: column {field!r} holds {type(value).__name__}, which names no partition")
    return "" if value is None else str(value).strip()


def _file_rows(name: str, path: Path, source: TextSource) -> Iterator[tuple[int, Row]]:
    try:
        with silent(_READER):
            yield from json_rows(path) if source.format == "jsonl" else enumerate(_open(path, source), start=1)
    except CorpusError as error:
        raise CorpusError(f"{name}: {path} {error}") from None
    except Exception as error:  # datasets raises many types for bad files; all mean the same to a user
        raise CorpusError(f"{name}: {path} cannot be read as {source.format}: {first_line(error)}") from error


def _open(path: Path, source: TextSource) -> Iterable[Row]:
    rows: Iterable[Row]
    if source.format == "saved":
        rows = datasets.load_from_disk(str(path))
        if isinstance(rows, datasets.DatasetDict):
            if source.split not in rows:
                raise CorpusError(f"has no split {source.split!r}; it has {', '.join(rows)}: set `split`")
            rows = rows[source.split]
        return rows
    options: dict[str, object] = {}
    if source.format == "text":
        options = {"chunksize": CHUNK_BYTES, "sample_by": _SAMPLES[source.document]}
    rows = datasets.load_dataset(
        source.format, data_files=glob.escape(str(path)), split="train", streaming=True, **options
    )
    return rows


def _hub_rows(name: str, source: TextSource) -> Iterator[Row]:
    where = f"{name}: hub data set {source.hub!r} at {source.revision}"
    try:
        with silent(_READER):
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
    names = [Path(file).relative_to(outline).as_posix() for file in files[source.split]]
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
    try:
        return datasets.load_dataset_builder(str(outline), subset, cache_dir=str(outline.parent / "cache"))
    except ValueError:
        subsets = datasets.get_dataset_config_names(str(outline))
        if len(subsets) == 1 and subset in (None, *subsets):
            raise
        raise CorpusError(f"has the subsets {', '.join(subsets)}: set `subset` to one of them") from None
