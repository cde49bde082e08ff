"""Files and folders are written whole or not at all, and a refusal names the place and the reason."""

import errno
import os
from pathlib import Path

import pytest

from pool.errors import OutputError
from pool.files.whole import check_place, may_write, new_folder, write_text, writing_to


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", refuse)


def test_a_full_disk_leaves_no_folder_and_is_named(tmp_path: Path, full_disk: None) -> None:
    report = tmp_path / "report"
    with pytest.raises(OutputError) as caught, writing_to(report), new_folder(report) as new:
        (new / "picture.png").write_bytes(b"much")
        write_text(new / "page.html", "more")
    reason = "cannot write there: No space left on device; make room or give write permission, or name another place"
    assert str(caught.value) == f"{report}: {reason}"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_file_of_before(tmp_path: Path, full_disk: None) -> None:
    path = tmp_path / "answer.json"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_text(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_no_folder_to_write_into(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert may_write(tmp_path / "new" / "deep" / "file") and may_write(tmp_path / "file")
    assert not may_write(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match="cannot write there: Not a directory"), writing_to(tmp_path / "file"):
        write_text(tmp_path / "file" / "below", "text")


def test_a_place_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    check_place(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="/proc/none: cannot write there: .*; make room or give write permission"):
        check_place(Path("/proc/none"))
