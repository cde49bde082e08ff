"""Source files that are as they were are not read by every command; what changed is."""

import os
import shutil
from pathlib import Path

import pytest
from tiny import write_sources

from pool.building import material
from pool.building.build import build_pool
from pool.config.pool_file import PoolFile, read_pool_file
from pool.errors import CorpusError, PoolMismatchError
from pool.files.digests import SEEN, Watcher, digest_file, read_seen
from pool.parts.store import open_pool
from pool.tokens.preparing import read_text

HOUR_NS = 3600 * 10**9


def _written(path: Path, text: str, age_ns: int = HOUR_NS) -> Path:
    path.write_text(text)
    now = path.stat().st_mtime_ns
    os.utime(path, ns=(now - age_ns, now - age_ns))
    return path


def test_a_file_is_read_again_only_where_its_size_or_time_changed(tmp_path: Path) -> None:
    file = _written(tmp_path / "a.txt", "first")
    watcher = Watcher()
    first = watcher.digest_of(file)
    watcher.write(tmp_path)
    seen, before = read_seen(tmp_path), file.stat().st_mtime_ns
    file.write_text("other")
    assert seen.digest_of(file) != first, "another time"
    os.utime(file, ns=(before, before))
    assert seen.digest_of(file) == first, "the same size and time are taken for the same file"
    _written(file, "longer")
    os.utime(file, ns=(before, before))
    assert seen.digest_of(file) != first, "another size"
    assert str(tmp_path) not in (tmp_path / SEEN).read_text()


def test_what_was_written_a_moment_before_is_not_kept(tmp_path: Path) -> None:
    file = _written(tmp_path / "a.txt", "first", age_ns=0)
    watcher = Watcher()
    first = watcher.digest_of(file)
    watcher.write(tmp_path)
    before = file.stat().st_mtime_ns
    file.write_text("other")
    os.utime(file, ns=(before, before))
    assert read_seen(tmp_path).digest_of(file) != first


def test_a_broken_record_is_done_without(tmp_path: Path) -> None:
    (tmp_path / SEEN).write_text("{")
    assert read_seen(tmp_path).files == read_seen(tmp_path / "nowhere").files == {}


@pytest.fixture(scope="module")
def old_pool(tmp_path_factory: pytest.TempPathFactory) -> PoolFile:
    folder = tmp_path_factory.mktemp("old")
    write_sources(folder)
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(path.stat().st_mtime_ns - HOUR_NS,) * 2)
    config = read_pool_file(folder / "pool.toml")
    build_pool(config)
    return config


def test_opening_a_pool_reads_no_text_that_is_as_it_was(
    old_pool: PoolFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} is read")

    monkeypatch.setattr("pool.files.digests.digest_file", refuse)
    open_pool(old_pool)
    monkeypatch.undo()
    shutil.copytree(old_pool.root, tmp_path / "copy")  # with its times, elsewhere: all text is read, and is the same
    open_pool(read_pool_file(tmp_path / "copy" / "pool.toml"))
    sources = sorted(file for table in old_pool.corpus.partitions.values() for file in table.files)
    changed = tmp_path / "copy" / sources[0].resolve().relative_to(old_pool.root.resolve())
    changed.write_text(changed.read_text() + "\nOne more paragraph that nobody saw.\n")
    with pytest.raises(PoolMismatchError, match="has changed since it was built"):
        open_pool(read_pool_file(tmp_path / "copy" / "pool.toml"))


@pytest.fixture
def old_sources(tmp_path: Path) -> PoolFile:
    """Sources that were written an hour ago, and nothing built."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    write_sources(folder)
    for path in folder.iterdir():
        os.utime(path, ns=(path.stat().st_mtime_ns - HOUR_NS,) * 2)
    return read_pool_file(folder / "pool.toml")


def test_a_build_digests_every_source_file_once(old_sources: PoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[str] = []

    def counted(path: Path) -> str:
        digested.append(path.name)
        return digest_file(path)

    monkeypatch.setattr("pool.files.digests.digest_file", counted)
    build_pool(old_sources)
    assert sorted(digested) == ["code.jsonl", "docs.parquet", "licences.jsonl", "prose.txt"]


@pytest.mark.parametrize("age_ns", [0, HOUR_NS])
def test_text_that_changes_while_it_is_read_is_refused_by_its_table(
    old_sources: PoolFile, age_ns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prose = old_sources.corpus.partitions["prose"].files[0]

    def changed_after(*arguments: object) -> object:
        read = read_text(*arguments)
        _written(prose, prose.read_text() + "\n\nOne more paragraph.", age_ns)
        return read

    with monkeypatch.context() as patch, pytest.raises(CorpusError) as caught:
        patch.setattr(material, "read_text", changed_after)
        build_pool(old_sources)
    assert str(caught.value) == (
        "[corpus.partitions.prose]: its text changed while it was read; run the same command again when nothing writes "
        "to it"
    )
    assert not old_sources.folder.exists()
    build_pool(old_sources)
    open_pool(old_sources)
