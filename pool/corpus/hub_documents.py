"""Rows of a data set on the Hugging Face hub: the files of one subset and split at a commit, downloaded and read.

The surprising thing: `datasets` never sees the hub. By itself it asks for a data set's loading script, and without a
network reads whichever commit its cache has, not the one named. Here it is shown an outline, the card and empty files
under the repository's names, and says which of them make up the split; those are downloaded and streamed.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import datasets
from huggingface_hub import DatasetCard

from pool.config.sources import CHUNK_BYTES, TextSource
from pool.corpus.json_lines import Row, json_rows
from pool.errors import CorpusError, HubError, first_line
from pool.files.hub import Snapshot, fetch, find_snapshot
from pool.progress import silent

_CARD = "README.md"
_ABOUT = (_CARD, "dataset_infos.json")
"""What a repository says about its files: which are of which subset and split, and what their columns are."""
_ENDINGS = {".parquet", ".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".arrow", ".txt"}
_COMPRESSED = {".gz", ".zst", ".bz2", ".xz", ".lz4"}


def hub_rows(source: TextSource) -> Iterator[Row]:
    """Yield the rows of a source's data set, in the order of its files.

    Raises `HubError` for what is not to be had, and `CorpusError` for what cannot be read; both leave out which.
    """
    found = find_snapshot("dataset", source.hub or "", source.revision or "")
    with tempfile.TemporaryDirectory() as scratch:
        outline = (Path(scratch) / "outline").resolve()
        try:
            with silent("huggingface_hub"):
                _draw(outline, found)
                yield from _rows(found, source, outline)
        except (CorpusError, HubError):
            raise
        except Exception as error:  # datasets raises many types for one fact: not readable
            reason = first_line(error).replace(f"{outline}/", "").partition(" with any supported extension")[0]
            raise CorpusError(f"cannot be read: {reason}; correct it in the pool file") from error


def _rows(found: Snapshot, source: TextSource, outline: Path) -> Iterator[Row]:
    builder = _builder(outline, source.subset)
    files = builder.config.data_files
    if source.split not in files:
        raise CorpusError(f"has no split {source.split!r}; it has {', '.join(map(str, files))}: set `split`")
    names = [Path(file).relative_to(outline).as_posix() for file in files[source.split]]
    fetch(found, names)
    if builder.name == "json" and builder.config.field is None and builder.info.features is None:
        for name in names:
            yield from _json_rows(found.folder / name, name)
        return
    builder.config.data_files = {source.split: [str(found.folder / name) for name in names]}
    if builder.name in ("json", "text"):
        builder.config.chunksize = CHUNK_BYTES
    yield from builder.as_streaming_dataset(split=source.split)


def _json_rows(path: Path, name: str) -> Iterator[Row]:
    try:
        yield from (row for _, row in json_rows(path))
    except CorpusError as error:
        raise CorpusError(f"{name} {error}, in local `files`") from None


def _draw(outline: Path, found: Snapshot) -> None:
    """Write what a repository says about its files, and an empty file for each that can hold documents."""
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
    """Refuse a card that names files elsewhere: on this machine, or on the network."""
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
