"""A study of a colleague, or in an archive: verbs that read give the same answers and write nothing there."""

import ctypes
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url
from tiny import snapshot

from pool.errors import StorageError
from studies.database.address import VARIABLE, Address
from studies.database.database import open_database
from studies.database.errors import explained
from studies.database.kept_file import writable_or_copied

NOT_KEPT = "is read-only for this user; what this command computes anew is not kept"
OVERRIDE, READ_SEARCH = 1, 2
"""Linux capabilities: to write and to read whatever the permissions are."""


@contextmanager
def _bound_by_permissions(*without: int) -> Iterator[None]:
    """Act as a user whom permissions bind, also where this one is root: without capabilities of this thread."""
    if os.geteuid() != 0:
        yield
        return
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    all_of_them = sets[0]
    sets[0] &= ~sum(1 << one for one in without or (OVERRIDE,))
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = all_of_them
        assert libc.capset(header, sets) == 0


def _close(folder: Path, mode: int = 0o555) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(mode if path.is_dir() else mode & 0o444)


@pytest.fixture
def archive(built_root: Path, tmp_path: Path, mixscout) -> Iterator[Path]:
    """A study after five merges, to read alone."""
    root = tmp_path / "archive"
    shutil.copytree(built_root, root)
    assert mixscout("search", root / "study.toml", "--merges", 5).code == 0
    _close(root)
    yield root
    _close(root, 0o755)


def test_verbs_that_read_answer_as_before_and_write_where_they_are_told(
    archive: Path, tmp_path: Path, mixscout
) -> None:
    study = archive / "study.toml"
    shutil.copytree(archive, tmp_path / "own")
    _close(tmp_path / "own", 0o777)
    expected = json.loads(mixscout("best", tmp_path / "own" / "study.toml", "--json").out)
    before = snapshot(archive)
    with _bound_by_permissions():
        best = mixscout("best", study, "--json")
        check = mixscout("pool", "check", archive / "pool.toml", "--points", 1, "--pairs", 1)
        refused = mixscout("report", study)
        written = mixscout("report", study, "--output", tmp_path / "report", "--json")
        others = [mixscout(verb, study, tmp_path / verb) for verb in ("export", "table", "handover")]
        search = mixscout("search", study, "--merges", 6)
    assert json.loads(best.out) == expected and NOT_KEPT in best.err
    assert (check.code == 0 and "Nothing measured" in check.out) or "members" in check.out
    assert "no files are written; name another folder with --output" in check.err
    assert refused.code == 1 and "may not be written by this user; name another folder with --output" in refused.err
    assert [answer.code for answer in (written, *others)] == [0] * 4, written.err
    assert (tmp_path / "report" / "report.html").is_file() and (tmp_path / "export" / "model.safetensors").is_file()
    assert search.code == 1 and len(search.err.splitlines()) == 1 and "cannot be written" in search.err
    assert snapshot(archive) == before


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_a_server_s_user_with_select_alone_gets_the_same_answers(
    kind: str,
    root: Path,
    new_address: Callable[[str], str],
    mixscout,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    study, url = root / "study.toml", new_address(kind)
    monkeypatch.setenv(VARIABLE, url)
    assert mixscout("search", study, "--merges", 5).code == 0
    reader = request.getfixturevalue(kind).reader_url(make_url(url).database)
    monkeypatch.setenv(VARIABLE, reader)
    first = mixscout("best", study)  # baselines and the test split are merged anew, and not kept
    assert first.code == 0 and NOT_KEPT in first.err, first.err
    monkeypatch.setenv(VARIABLE, url)
    assert mixscout("best", study).out == first.out
    own = {verb: mixscout(verb, study, *words) for verb, words in _to(tmp_path / "owner").items()}
    monkeypatch.setenv(VARIABLE, reader)
    for verb, words in _to(tmp_path / "reader").items():
        answer = mixscout(verb, study, *words)
        assert answer.code == 0 and answer.out == own[verb].out.replace("/owner/", "/reader/"), verb
    for verb in ("table", "export"):
        assert snapshot(tmp_path / "reader" / verb) == snapshot(tmp_path / "owner" / verb)
    refused = mixscout("search", study, "--merges", 6)
    assert refused.code == 1 and len(refused.err.splitlines()) == 1 and "denied" in refused.err


def _to(folder: Path) -> dict[str, list[object]]:
    """Verbs with what follows the study file."""
    return {
        "best": ["--json"],
        "table": [folder / "table"],
        "export": [folder / "export"],
        "report": ["--output", folder / "report"],
    }


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "database"
    folder.mkdir()
    with open_database(folder / "study.db", timeout_seconds=1):
        pass
    yield folder / "study.db"
    _close(folder, 0o755)


def _insert(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO leases VALUES ('scope', 'item', 'holder', 0.0)")
    connection.commit()


def _rows(file: Path, *without: int) -> int:
    with _bound_by_permissions(*without), writable_or_copied(Address.of_file(file), 1) as copy:
        assert copy.file != file and copy.file is not None
        with closing(sqlite3.connect(copy.file)) as connection:
            return connection.execute("SELECT count(*) FROM leases").fetchone()[0]


def test_the_log_of_a_running_search_is_read_too(database: Path) -> None:
    with closing(sqlite3.connect(database)) as search:
        _insert(search)
        assert database.with_name("study.db-wal").stat().st_size > 0
        _close(database.parent)
        assert _rows(database) == 1
        _close(database.parent, 0o755)
        search.execute("DELETE FROM leases")
        search.commit()
        _close(database.parent)
        assert _rows(database) == 0


def test_the_log_of_a_killed_search_is_read_without_its_index(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as search:
        _insert(search)
        killed = tmp_path / "killed"
        killed.mkdir()
        for name in ("study.db", "study.db-wal"):
            shutil.copy(database.with_name(name), killed)
    _close(killed)
    assert _rows(killed / "study.db") == 1
    assert sorted(path.name for path in killed.iterdir()) == ["study.db", "study.db-wal"]
    _close(killed, 0o755)


def test_a_database_that_cannot_be_read_is_named(database: Path) -> None:
    _close(database.parent)
    database.chmod(0)
    with pytest.raises(StorageError, match=r"study.db cannot be copied into .*: Permission denied; ask its owner"):
        _rows(database, OVERRIDE, READ_SEARCH)


def test_a_full_disk_is_read_all_the_same(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr("studies.database.kept_file.shutil.disk_usage", lambda folder: full)
    with open_database(database, timeout_seconds=1, writes=False) as opened:
        assert opened.address.file == database and "study.db" not in str(opened.engine.url.database).replace(
            "/study", ""
        )


@pytest.mark.parametrize(
    ("variable", "said"), [("", "`database` in the study file"), ("x.db", "MIXSCOUT_STORAGE in the")]
)
def test_the_remedy_names_what_said_the_address(variable: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXSCOUT_STORAGE", variable)
    error = explained(Address.of_file(Path("x.db")), sqlite3.OperationalError("attempt to write a readonly database"))
    assert f"or set {said}" in str(error)
