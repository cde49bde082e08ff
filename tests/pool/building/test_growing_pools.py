"""Promises of a pool that a partition is added to: the text of the others is not read again, whatever comes between."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from counted import counted_documents
from tiny import edit, snapshot

from pool.building import job as training
from pool.building.adding import Source, add_member
from pool.building.build import build_pool
from pool.building.foresight import Request
from pool.building.material import Material, prepare_material
from pool.config.pool_file import read_pool_file
from pool.errors import PoolMismatchError
from pool.files.digests import SEEN
from pool.files.whole import scratch_folder
from pool.parts.store import Pool, open_pool

CORPUS = "pools/tiny/corpus"
DOCUMENTS = 400
AS_THEY_WERE = r"^corpus: (\d+ of \d+) sources as they were$"


def _add(root: Path, name: str) -> None:
    text = "\n\n".join(f"line {i} of {name}: {i * i} is the square of {i}, see {i % 7}" for i in range(DOCUMENTS))
    (root / f"{name}.txt").write_text(text)
    with (root / "pool.toml").open("a") as stream:
        stream.write(f'\n[corpus.partitions.{name}]\nfiles = ["{name}.txt"]\nformat = "text"\n')


def _build(root: Path, *rebuild: str) -> Pool:
    return build_pool(read_pool_file(root / "pool.toml"), rebuild)


def _material(root: Path, *rebuild: str) -> tuple[Material, dict[str, bytes]]:
    """Prepare what a build would train on, and read the new corpus before it goes."""
    config = read_pool_file(root / "pool.toml")
    with scratch_folder(root / "pools" / ".scratch") as scratch:
        material = prepare_material(Request(config, frozenset(rebuild)), scratch)
        return material, _files(scratch / "corpus")


def _files(corpus: Path) -> dict[str, bytes]:
    """All of a corpus but what says when its source files were changed."""
    return {name: content for name, content in snapshot(corpus).items() if name != SEEN}


def _from_scratch(root: Path, other: Path) -> dict[str, bytes]:
    """Prepare the corpus of a copy of a root that has forgotten what its corpus was made from."""
    shutil.copytree(root, other)
    for records in (other / "pools/tiny").rglob("tables.json"):
        records.unlink()
    with counted_documents() as read:
        files = _material(other)[1]
    assert len(read) > 2 * DOCUMENTS, "all text was read"
    return files


def test_a_partition_more_reads_its_own_text_alone_and_all_files_are_as_from_scratch(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _add(root, "squares")
    expected = _from_scratch(root, tmp_path / "scratch")
    capsys.readouterr()
    with counted_documents() as read:
        pool = _build(root)
    assert len(read) == DOCUMENTS and all("of squares" in text for text in read)
    said = capsys.readouterr().err
    assert re.findall(AS_THEY_WERE, said, re.MULTILINE) == ["4 of 5"]
    assert pool.names == ("code", "docs", "prose", "squares")
    assert _files(root / CORPUS) == expected

    edit(root / "pool.toml", '\n[corpus.partitions.squares]\nfiles = ["squares.txt"]\nformat = "text"\n', "")
    with counted_documents() as read:
        assert _build(root).names == ("code", "docs", "prose")
    assert read == [], "nothing is read where a partition goes that shared nothing"
    open_pool(read_pool_file(root / "pool.toml"))


def test_a_partition_that_changed_is_the_only_one_read(root: Path, tmp_path: Path) -> None:
    edit(root / "prose.txt", "the", "THE")
    expected = _from_scratch_of_changed(root, tmp_path / "scratch")
    with counted_documents() as read:
        material, files = _material(root, "prose")
    assert files == expected
    assert 0 < len(read) < len(_documents_of_all(root, tmp_path / "all")) / 2
    assert list(material.corpus.manifest.partitions) == ["code", "docs", "prose"]


def _from_scratch_of_changed(root: Path, other: Path) -> dict[str, bytes]:
    shutil.copytree(root, other)
    (other / CORPUS / "tables.json").unlink()
    return _material(other, "prose")[1]


def _documents_of_all(root: Path, other: Path) -> list[str]:
    shutil.copytree(root, other)
    shutil.rmtree(other / "pools")
    with counted_documents() as read:
        _material(other)
    return read


def test_a_pool_whose_corpus_says_nothing_of_its_tables_is_built_and_opened_as_before(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / CORPUS / "tables.json").unlink()
    shutil.rmtree(root / CORPUS / "documents")
    before = snapshot(root)
    with counted_documents() as read:
        _build(root)
    assert read == [] and snapshot(root) == before
    _add(root, "squares")
    capsys.readouterr()
    with counted_documents() as read:
        _build(root)
    assert len(read) > 2 * DOCUMENTS and not re.search(AS_THEY_WERE, capsys.readouterr().err, re.MULTILINE)
    _add(root, "cubes")
    assert _material(root)[0].corpus.manifest.partitions.keys() >= {"squares", "cubes"}
    assert re.findall(AS_THEY_WERE, capsys.readouterr().err, re.MULTILINE) == ["5 of 6"]


def test_what_is_taken_over_has_been_verified(root: Path, tmp_path: Path) -> None:
    _add(root, "squares")
    expected = _from_scratch(root, tmp_path / "scratch")
    stream = root / CORPUS / "train/docs.npy"
    stream.write_bytes(stream.read_bytes()[:-4] + b"\0\0\0\1")
    with counted_documents() as read:
        files = _material(root)[1]
    assert len(read) > DOCUMENTS and files == expected


def test_building_all_anew_takes_over_nothing(root: Path) -> None:
    with counted_documents() as read:
        material, _ = _material(root, "all")
    assert material.new is not None and read
    assert material.corpus.manifest.partitions.keys() == {"code", "docs", "prose"}


def test_a_refused_build_still_refuses_what_another_partition_takes(root: Path) -> None:
    first = (root / "prose.txt").read_text().split("\n\n")
    (root / "new.txt").write_text("\n\n".join(first[:60]))
    edit(
        root / "pool.toml",
        "[corpus.partitions.prose]",
        '[corpus.partitions.new]\nfiles = ["new.txt"]\nformat = "text"\n\n[corpus.partitions.prose]',
    )
    before = snapshot(root)
    with pytest.raises(PoolMismatchError, match="'new', which came before them, is theirs no longer"):
        _build(root)
    assert snapshot(root) == before


def test_a_member_trained_elsewhere_brings_its_partition_without_the_text_of_the_others(
    root: Path, tmp_path: Path
) -> None:
    _add(root, "squares")
    expected = _from_scratch(root, tmp_path / "scratch")
    shutil.copytree(root / "pools/tiny/members/docs", tmp_path / "member")
    (tmp_path / "member/manifest.json").unlink()
    with counted_documents() as read:
        added = add_member(read_pool_file(root / "pool.toml"), "squares", Source(tmp_path / "member"))
    assert added.missing == () and len(read) == DOCUMENTS
    assert _files(root / CORPUS) == expected
    assert open_pool(read_pool_file(root / "pool.toml")).names == ("code", "docs", "prose", "squares")


def test_what_waits_for_an_interrupted_build_is_taken_over_after_an_edit(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    _add(root, "squares")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "train", interrupted)
        _build(root)
    assert list((root / "pools/tiny").glob(".new-*/corpus/train/squares.npy"))
    _add(root, "cubes")
    expected = _from_scratch(root, tmp_path / "scratch")
    with counted_documents() as read:
        _build(root)
    assert len(read) == DOCUMENTS and all("of cubes" in text for text in read)
    assert _files(root / CORPUS) == expected
    assert not list((root / "pools/tiny").glob(".new-*"))


KILLED = """
import os, signal, sys
from pool.tokens import preparing
module, name, nth = {"link": (os, "link", 3), "stream": (preparing, "training_stream", 1),
                     "record": (preparing, "write_record", 2)}[sys.argv[1]]
original, calls = getattr(module, name), 0
def killed(*arguments, **options):
    global calls
    calls += 1
    if calls == nth:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(module, name, killed)
sys.argv = ["mixscout", "pool", "build", sys.argv[2]]
from studies.command_line.app import main
main()
"""


@pytest.mark.parametrize("place", ["link", "stream", "record"])
def test_killed_while_the_corpus_grows_the_old_pool_opens_and_the_same_command_goes_on(
    place: str, root: Path, tmp_path: Path
) -> None:
    old_file, old = (root / "pool.toml").read_text(), _files(root / CORPUS)
    _add(root, "squares")
    expected = _from_scratch(root, tmp_path / "scratch")
    command = [sys.executable, "-c", KILLED, place, root / "pool.toml"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    new_file = (root / "pool.toml").read_text()
    (root / "pool.toml").write_text(old_file)
    assert open_pool(read_pool_file(root / "pool.toml")).names == ("code", "docs", "prose")
    assert _files(root / CORPUS) == old
    (root / "pool.toml").write_text(new_file)
    with counted_documents() as read:
        _build(root)
    assert len(read) == DOCUMENTS
    assert _files(root / CORPUS) == expected
    assert not list((root / "pools").glob(".*scratch"))
