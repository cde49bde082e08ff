"""A SQLite file that is removed, replaced or damaged while it is in use: an error in one line, and no new file."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from pool.errors import StorageError
from studies.database.database import open_database

PAGE = 4096


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


FATES: dict[str, tuple[Callable[[Path], object], str]] = {
    "removed": (_remove, "was removed or moved"),
    "moved": (lambda path: path.rename(path.with_name("elsewhere")), "was removed or moved"),
    "folder removed": (lambda path: shutil.rmtree(path.parent), "was removed or moved"),
    "replaced": (_replace, "was replaced by another file"),
    "emptied": (lambda path: path.write_bytes(b""), "was cut short"),
    "cut": (lambda path: os.truncate(path, 3 * PAGE), "was cut short"),
}


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("used", [True, False], ids=["used", "at the end"])
def test_a_file_that_is_not_the_one_written_to_ends_the_command(fate: str, used: bool, tmp_path: Path) -> None:
    happen, said = FATES[fate]
    path = tmp_path / "runs" / "study.db"
    with open_database(path, timeout_seconds=1):
        pass
    with pytest.raises(StorageError) as caught, open_database(path, timeout_seconds=1) as opened:
        opened.leases.take("s", "1")
        happen(path)
        if used:
            opened.leases.take("s", "2")
    assert f"database {path} {said} while it was in use: what it held is lost" in str(caught.value)
    assert "\n" not in str(caught.value)
    if said == "was removed or moved":
        assert not path.exists(), "nothing new is made in its place"


def test_a_file_overwritten_in_place_is_seen_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with (
        pytest.raises(StorageError, match="was overwritten while it was in use"),
        open_database(path, timeout_seconds=1),
    ):
        path.write_bytes(os.urandom(path.stat().st_size))


def test_a_file_that_shrinks_by_vacuum_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with open_database(path, timeout_seconds=1), sqlite3.connect(path) as other:
        other.execute("CREATE TABLE t (x BLOB)")
        other.execute("INSERT INTO t VALUES (zeroblob(1000000))")
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open_database(path, timeout_seconds=1) as opened, sqlite3.connect(path, isolation_level=None) as other:
        before = path.stat().st_size
        other.execute("DROP TABLE t")
        other.execute("VACUUM")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size < before
        assert opened.leases.take("s", "1")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with (
        pytest.raises(StorageError, match=r"study.db cannot be written; give it .* room"),
        open_database(path, timeout_seconds=1) as opened,
        opened.engine.begin() as connection,
    ):
        connection.execute(text("PRAGMA max_page_count = 1"))
        connection.execute(text("CREATE TABLE t (x BLOB)"))
        connection.execute(text("INSERT INTO t VALUES (zeroblob(10000000))"))


@pytest.mark.parametrize("writes", [True, False])
def test_a_file_of_one_byte_is_no_empty_database(tmp_path: Path, writes: bool) -> None:
    path = tmp_path / "mixscout.db"
    path.write_bytes(b"F")
    with (
        pytest.raises(StorageError, match="mixscout.db is not a database that can be read"),
        open_database(path, timeout_seconds=1, writes=writes),
    ):
        pass
    assert path.read_bytes() == b"F"
