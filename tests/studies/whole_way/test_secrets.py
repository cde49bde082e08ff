"""No part of a database's password is in what a verb prints or writes, whatever the password and the server."""

from __future__ import annotations

import random
import socket
import string
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from servers import Postgres
from small_table import write_small_study
from tiny import edit

from pool.files.secrets import PIECE
from studies.database.address import VARIABLE

IN_FILES = 6
"""Shorter parts are in the base64 of a report's pictures by chance."""
VERBS = (("search",), ("worker",), ("best",), ("report",), ("best", "--json"))
REFUSED = (
    "postgresql://me:{}@127.0.0.1:1/mix",
    "mysql://me:{}@127.0.0.1:1/mix",
    "postgresql://127.0.0.1:1/mix?user=me&password={}",
)


def passwords(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(string.printable[:95], k=rng.randint(8, 30))) for _ in range(count)]


def shares(text: str, secret: str, size: int = PIECE) -> set[str]:
    return {secret[at : at + size] for at in range(len(secret) - size + 1) if secret[at : at + size] in text}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    written = write_small_study(tmp_path)
    edit(written, 'name = "small"', 'name = "small"\ndatabase_timeout_seconds = 0.01')
    return written


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []
        ended = threading.Event()

        def hold() -> None:
            while not ended.is_set():
                with_client, _ = server.accept()
                held.append(with_client)

        threading.Thread(target=hold, daemon=True).start()
        yield server.getsockname()[1]
        ended.set()
        for client in held:
            client.close()


def _check(mixscout: Callable, study: Path, secret: str, verb: tuple[str, ...], *, code: int | None) -> None:
    name, *options = verb
    answer = mixscout(name, study, *options)
    assert code is None or answer.code == code, answer.err
    assert not shares(answer.out + answer.err, secret), (secret, answer)
    assert "Traceback" not in answer.err
    for file in study.parent.rglob("*"):
        if file.is_file():
            assert not shares(file.read_bytes().decode("latin-1"), secret, IN_FILES), (secret, file)


def _away(
    mixscout: Callable, study: Path, monkeypatch: pytest.MonkeyPatch, count: int, port: int | None = None
) -> None:
    for number, secret in enumerate(passwords(count, seed=count)):
        for form in REFUSED:
            for written in (secret, quote(secret, safe="")):
                monkeypatch.setenv(VARIABLE, form.format(written))
                _check(mixscout, study, secret, VERBS[number % len(VERBS)], code=1)
        if port is not None:
            monkeypatch.setenv(VARIABLE, f"postgresql://me:{quote(secret, safe='')}@127.0.0.1:{port}/mix")
            _check(mixscout, study, secret, VERBS[number % len(VERBS)], code=1)


def _on_server(mixscout: Callable, study: Path, monkeypatch: pytest.MonkeyPatch, server: Postgres, count: int) -> None:
    server.run("DROP DATABASE IF EXISTS secrets")
    database = server.new_database("secrets")
    server.run("DROP ROLE IF EXISTS keeper")
    server.run("CREATE ROLE keeper SUPERUSER LOGIN")
    rules = server.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all keeper scram-sha-256\n" + before)
    server.run("SELECT pg_reload_conf()")
    try:
        for number, secret in enumerate(passwords(count, seed=count + 1)):
            doubled = secret.replace("'", "''")
            server.run(f"ALTER ROLE keeper PASSWORD '{doubled}'".replace(":", "\\:"))
            for password, code in ((secret, 0), (secret[::-1] + "x", 1)):
                url = database.replace("postgres@", f"keeper:{quote(password, safe='')}@")
                monkeypatch.setenv(VARIABLE, url)
                verb = VERBS[number % len(VERBS)] if number else VERBS[0]
                _check(mixscout, study, password, verb, code=code)
    finally:
        rules.write_text(before)
        server.run("SELECT pg_reload_conf()")


def test_a_server_that_is_away_is_told_no_secret(study: Path, mixscout, monkeypatch: pytest.MonkeyPatch) -> None:
    _away(mixscout, study, monkeypatch, 4)


def test_a_server_that_runs_is_told_no_secret_twice(
    study: Path, mixscout, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    _on_server(mixscout, study, monkeypatch, postgres, 2)


@pytest.mark.long
def test_two_hundred_passwords_are_shown_nowhere(
    study: Path, mixscout, monkeypatch: pytest.MonkeyPatch, postgres: Postgres, silent: int
) -> None:
    _away(mixscout, study, monkeypatch, 195)
    _away(mixscout, study, monkeypatch, 5, silent)
    _on_server(mixscout, study, monkeypatch, postgres, 200)
