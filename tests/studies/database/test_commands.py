"""A study's ledger of commands: a table of any database, which older databases get, and which stops no command."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from servers import Postgres
from sqlalchemy import text

from pool.parts.commands import Command
from studies.database.address import Address, parse
from studies.database.commands import keep_in_study, kept_in_study
from studies.database.database import Database, open_database, revision_of

SEARCH = Command("search", 1e9 + 1 / 3, 20.25, 1 / 7)
KINDS = ("sqlite", "postgres", "mariadb")
BEFORE = "foundations_3"


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, new_address: Callable[[str], str]) -> Address:
    return parse(new_address(request.param), "address")


def _make_older(opened: Database) -> None:
    """Take away what the ledger's revision made."""
    with opened.engine.begin() as connection:
        connection.execute(text("DROP TABLE commands"))
        connection.execute(text("ALTER TABLE evaluations DROP COLUMN processor_seconds"))
        connection.execute(text(f"UPDATE mixscout_version SET version_num = '{BEFORE}'"))


def test_a_study_s_commands_come_back_in_order(address: Address) -> None:
    with open_database(address, timeout_seconds=2):
        pass
    for study, command in (("mine", SEARCH), ("other", SEARCH), ("mine", replace(SEARCH, verb="best"))):
        keep_in_study(address, study, command)
    with open_database(address, timeout_seconds=2) as opened:
        assert kept_in_study(opened.engine, "mine") == [SEARCH, replace(SEARCH, verb="best")]


def test_a_database_of_the_revision_before_is_upgraded_and_keeps_its_rows(address: Address) -> None:
    with open_database(address, timeout_seconds=2) as opened:
        assert opened.leases.take("s", "1")
        with opened.engine.begin() as connection:
            connection.execute(text("UPDATE leases SET holder = 'somebody:1:1'"))
        _make_older(opened)
    with open_database(address, timeout_seconds=2) as opened:
        assert revision_of(opened.engine) == "commands_4"
        assert opened.leases.held_by_others("s") == {"1"}
        assert kept_in_study(opened.engine, "mine") == []
    keep_in_study(address, "mine", SEARCH)
    with open_database(address, timeout_seconds=2) as opened:
        assert kept_in_study(opened.engine, "mine") == [SEARCH]


def test_a_server_s_reader_copies_a_database_of_the_revision_before(
    postgres: Postgres, new_address: Callable[[str], str]
) -> None:
    address = parse(new_address("postgres"), "address")
    with open_database(address, timeout_seconds=2) as opened:
        _make_older(opened)
    reader = parse(postgres.reader_url(str(address.url.database)), "address")
    with open_database(reader, timeout_seconds=2, writes=False) as copy:
        assert kept_in_study(copy.engine, "mine") == [] and revision_of(copy.engine) == "commands_4"
    keep_in_study(reader, "mine", SEARCH)
    with open_database(address, timeout_seconds=2) as opened:
        assert kept_in_study(opened.engine, "mine") == [], "a reader writes nothing"


def test_what_is_in_the_way_of_a_ledger_stops_no_command(tmp_path: Path) -> None:
    keep_in_study(Address.of_file(tmp_path / "absent.db"), "mine", SEARCH)
    assert not (tmp_path / "absent.db").exists()
    (tmp_path / "other.db").write_text("not a database, and long enough to be read as one" * 100)
    before = (tmp_path / "other.db").read_bytes()
    keep_in_study(Address.of_file(tmp_path / "other.db"), "mine", SEARCH)
    assert (tmp_path / "other.db").read_bytes() == before
    keep_in_study(parse("postgresql://nobody@/none?host=/nowhere", "address"), "mine", SEARCH)
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("CREATE TABLE commands (id INTEGER)")
    keep_in_study(Address.of_file(tmp_path / "empty.db"), "mine", SEARCH)


def test_a_full_disk_stops_no_command(tmp_path: Path) -> None:
    with open_database(tmp_path / "full.db", timeout_seconds=2) as opened, opened.engine.begin() as connection:
        connection.execute(text("PRAGMA journal_mode=DELETE"))
    with closing(sqlite3.connect(tmp_path / "full.db")) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON commands BEGIN SELECT RAISE(FAIL, 'disk is full'); END"
        )
    keep_in_study(Address.of_file(tmp_path / "full.db"), "mine", SEARCH)
    with open_database(tmp_path / "full.db", timeout_seconds=2) as opened:
        assert kept_in_study(opened.engine, "mine") == []
