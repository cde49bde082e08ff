"""What a build says when the system refuses a write: the true reason, and the remedy for that alone."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from pool.errors import PoolError
from pool.files.records import read_record
from pool.parts import layout
from pool.parts.layout import Exchange, building, discard_leftovers

ROOM, LEAVE = "make room there, and run the same command again", "give write permission, and run the same command again"
AGAIN = "; run the same command again"
TORCH = "[enforce fail at inline_container.cc:664] . unexpected pos 576 vs 470"


def _said(folder: Path, error: Exception) -> str:
    with pytest.raises(PoolError) as caught, building(folder):
        raise error
    return str(caught.value)


@pytest.mark.parametrize(
    ("number", "begins", "ends"),
    [
        (errno.ENOSPC, "cannot write F: the disk is full (No space left on device)", ROOM),
        (errno.EDQUOT, "cannot write F: the disk is full (Disk quota exceeded)", ROOM),
        (errno.EFBIG, "cannot write F: the disk is full, or a limit on the size of files is reached", ROOM),
        (errno.EACCES, "cannot write F: Permission denied", LEAVE),
        (errno.EROFS, "cannot write F: Read-only file system", LEAVE),
        (errno.ENOENT, "F: No such file or directory", AGAIN),
        (errno.EIO, "F: Input/output error", AGAIN),
    ],
)
def test_only_a_full_disk_or_quota_asks_for_room(tmp_path: Path, number: int, begins: str, ends: str) -> None:
    said = _said(tmp_path / "p", OSError(number, os.strerror(number), "F"))
    assert said.startswith(f"pool 'p': {begins}") and said.endswith(ends)
    assert ("make room" in said) == (ends == ROOM) and ("permission, and" in said) == (ends == LEAVE)


def test_a_part_that_may_not_be_read_asks_for_read_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "weights"
    part.write_text("x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said = _said(tmp_path / "p", PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(part)))
    assert said.startswith(f"pool 'p': cannot read {part}: Permission denied; give read permission, and run")


def test_a_record_that_may_not_be_read_asks_for_permission_and_no_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, encoding: str) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(PoolError, match="pool.json: Permission denied; give this user permission to read") as caught:
        read_record(tmp_path / "pool.json", Exchange)
    assert "pool build" not in str(caught.value)


def test_safetensors_says_the_number_of_a_failed_write_and_none_of_a_failed_read(tmp_path: Path) -> None:
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert _said(tmp_path / "p", full).endswith(ROOM)
    cut = SafetensorError("Error while deserializing header: incomplete metadata, file not fully covered")
    said = _said(tmp_path / "p", cut)
    assert "incomplete metadata" in said and "make room" not in said and "cannot write" not in said


@pytest.mark.parametrize("is_full", [True, False])
def test_torch_says_no_reason_so_a_little_is_written(
    tmp_path: Path, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    if is_full:
        monkeypatch.setattr(layout.Path, "write_bytes", refuse)
    said = _said(tmp_path, RuntimeError(TORCH))
    assert ("make room" in said) == is_full and (is_full or "unexpected pos" in said)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="something else"), building(tmp_path):
        raise RuntimeError("something else")


def test_temporary_names_of_killed_commands_go_and_checkpoints_on_the_way_stay(tmp_path: Path) -> None:
    for name in (
        "members/.a.tmp/model.safetensors",
        "members/.a.old/config.json",
        "seed/.fisher.tmp",
        ".pool.json.tmp",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    kept = tmp_path / "members" / ".a.0123.scratch"
    kept.mkdir()
    discard_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob(".*")) == [kept.name]
