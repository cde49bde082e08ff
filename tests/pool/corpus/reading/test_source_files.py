"""Promises of checks: what is wrong with a place is said before text is read, with the way out."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from pool.config.sources import TextSource
from pool.corpus.documents import read_documents
from pool.corpus.reading.source_files import check_path, check_sources, check_start
from pool.errors import CorpusError


def _refused(path: Path, message: str, form: str = "jsonl") -> None:
    with pytest.raises(CorpusError, match=f"news: .*{message}") as caught:
        check_path("news", path, TextSource(files=(path,), format=form))
    assert "\n" not in str(caught.value)


def test_places_without_a_file_say_what_they_are(tmp_path: Path) -> None:
    _refused(tmp_path / "gone.jsonl", r"gone\.jsonl: No such file or directory; correct `files`")
    _refused(tmp_path, r'is not a file; for the files in this folder write a pattern, such as ".*/\*\*/\*\.csv"', "csv")
    (tmp_path / "data.jsonl.dvc").write_text("outs:\n")
    _refused(tmp_path / "data.jsonl", "DVC keeps it: fetch it with `dvc pull`")
    (tmp_path / "annex").symlink_to(".git/annex/objects/1/2/SHA256E-s5--4d7a/SHA256E-s5--4d7a")
    _refused(tmp_path / "annex", "a git-annex link to a file that is not here; fetch it with `git annex get`")
    (tmp_path / "broken").symlink_to("nowhere")
    _refused(tmp_path / "broken", "a symbolic link to nowhere, which cannot be followed: No such file")
    (tmp_path / "circle").symlink_to("circle")
    _refused(tmp_path / "circle", "a symbolic link to circle, which cannot be followed: Too many levels")
    (tmp_path / "dataset_info.json").write_text("{}")
    _refused(tmp_path, 'is a folder written by save_to_disk; set format = "saved"')


def test_pipes_and_sockets_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    _refused(tmp_path / "pipe", "is not a file; correct `files`")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        _refused(tmp_path / "s", "is not a file; correct `files`")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")

    def denied(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    _refused(tmp_path / "a", "a: Permission denied; give read permission, or correct `files`")


def test_all_sources_are_checked_and_pointers_in_saved_folders_are_found(tmp_path: Path) -> None:
    good, bad = tmp_path / "a.jsonl", tmp_path / "b"
    good.write_text('{"text": "x"}')
    bad.mkdir()
    (bad / "data-00000-of-00001.arrow").write_text("version https://git-lfs.github.com/spec/v1\n")
    sources = {"a": TextSource(files=(good,)), "b": TextSource(files=(bad,), format="saved")}
    check_sources({"a": sources["a"]})
    with pytest.raises(CorpusError, match=f"b: {bad} is a Git LFS pointer; fetch the real file: `git lfs pull`"):
        check_sources(sources)


@pytest.mark.parametrize("verb", ["build", "overlap"])
def test_the_command_line_says_so_before_anything_heavy_loads(tmp_path: Path, verb: str) -> None:
    (tmp_path / "a.txt").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "pool.toml").write_text('name = "x"\n[corpus.held_out.h]\nfiles = ["a.txt"]\nformat = "text"\n')
    with (tmp_path / "pool.toml").open("a") as stream:
        stream.write('[corpus.partitions.n]\nfiles = ["*.txt"]\nformat = "text"\n')
    code = (
        f"import sys; sys.argv = ['mixscout', 'pool', {verb!r}, 'pool.toml']\n"
        "from studies.command_line.app import main\n"
        "try: main()\nexcept SystemExit as stop: print(stop.code, {'torch', 'datasets'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.stdout == "1 set()\n"
    assert ran.stderr == f"mixscout: n: {tmp_path}/a.txt is a Git LFS pointer; fetch the real file: `git lfs pull`\n"


def _long_window(text: bytes, log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # of unknown size, as by `zstd -`
    return stream.compress(text) + stream.flush()


@pytest.mark.parametrize("log", [27, 28, 31])
def test_zstandard_files_with_long_windows_are_read(tmp_path: Path, log: int) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(_long_window(b'{"text": "long"}\n', log))
    assert zstandard.get_frame_parameters(path.read_bytes()).window_size == 2**log
    assert list(read_documents("news", TextSource(files=(path,)))) == ["long"]


def test_what_is_wrong_with_a_zstandard_file_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plain = tmp_path / "a.jsonl.zst", b"".join(b'{"text": "number %d"}\n' % number for number in range(2000))
    dictionary = zstandard.ZstdCompressionDict(plain, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    trained = zstandard.train_dictionary(1024, plain.splitlines())
    path.write_bytes(zstandard.ZstdCompressor(dict_data=trained).compress(plain))
    _refused(path, rf"it needs dictionary {trained.dict_id()}; unpack it with `zstd -d -D DICTIONARY`")
    path.write_bytes(zstandard.ZstdCompressor(dict_data=dictionary).compress(plain)[:-9])
    _refused(path, "cannot be read as Zstandard|ends in the middle of a Zstandard frame")
    path.write_bytes(_long_window(plain, 31))
    monkeypatch.setattr("pool.corpus.reading.unpacked.LARGEST_WINDOW", 2**20)
    _refused(path, r"its window takes 2,048 MB; compress it again with a smaller one, say `zstd --long=27`")


def test_the_start_of_a_broken_file_is_no_matter_until_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08 no such file")
    check_start("news", tmp_path / "a.gz", TextSource(files=(tmp_path / "a.gz",)))
