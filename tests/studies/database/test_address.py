"""Addresses of databases: what cannot be divided with certainty is refused or hidden, and no secret is shown."""

from __future__ import annotations

import random
import string
from pathlib import Path
from urllib.parse import quote

import pytest

from pool.errors import ConfigError, StorageError
from pool.files.secrets import PIECE
from studies.database.address import VARIABLE, Address, address_of, check_written, parse
from studies.database.database import open_database

SECRET = "p@ss/w#rd%"


def shared(text: str, secret: str) -> set[str]:
    """The parts of a secret in a text, of a length that is not there by chance."""
    return {secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)} & {
        text[at : at + PIECE] for at in range(len(text) - PIECE + 1)
    }


def passwords(count: int, seed: int = 7) -> list[str]:
    """Draw passwords over the printable characters, each with a run that no message of ours holds."""
    rng = random.Random(seed)
    return ["".join(rng.choices(string.printable[:95], k=rng.randint(6, 30))) + "Zq9!" for _ in range(count)]


def test_a_password_with_an_at_sign_is_refused_and_how_to_write_it_is_said() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"postgresql://me:{SECRET}@127.0.0.1:1/mix", VARIABLE)
    assert str(caught.value).startswith("MIXSCOUT_STORAGE: postgresql://me:*** has more than one @")
    assert "percent-encoded, as this prints it: python3 -c" in str(caught.value)


def test_an_encoded_password_is_taken_as_it_is() -> None:
    for secret in [SECRET, *passwords(20)]:
        address = parse(f"postgresql://me:{quote(secret, safe='')}@127.0.0.1:1/mix", VARIABLE)
        assert (address.url.password, address.url.host, address.url.port) == (secret, "127.0.0.1", 1)
        assert parse(address.full, VARIABLE).url == address.url, "workers read it so"
        assert str(address) == "postgresql+psycopg://me:***@127.0.0.1:1/mix"


@pytest.mark.parametrize("sign", "/?#")
def test_what_follows_a_dividing_sign_is_hidden(sign: str) -> None:
    address = parse(f"postgresql://me:ab{sign}cdefgh@host.example/mix", VARIABLE)
    assert str(address) == "postgresql+psycopg://me:***"
    assert address.url.password == f"ab{sign}cdefgh", "and it works as before"


@pytest.mark.parametrize(
    "form",
    [
        "postgresql://me:{}@127.0.0.1:1/mix",
        "mysql://me:{}@127.0.0.1:1/mix",
        "postgresql://me:{}",
        "postgresql://127.0.0.1:1/mix?user=me&password={}",
        "postgresql://127.0.0.1:1/mix?password={}&sslmode=require",
        "mysql://127.0.0.1/mix?passwd={}&ssl_key_password={}",
        "postgresql:me:{}@127.0.0.1/mix",
        "me:{}@127.0.0.1/mix",
        "host=127.0.0.1 user=me password={}",
    ],
)
def test_no_part_of_a_password_is_in_an_address_or_its_error(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in passwords(40):
        written = form.replace("{}", secret)
        monkeypatch.setenv(VARIABLE, written)
        try:
            shown = f"{address_of(None, Path('default.db'))!r}"
        except ConfigError as error:
            shown = str(error)
        assert not shared(shown, secret) - shared(form, secret), (written, shown)
        with pytest.raises(ConfigError) as caught:
            check_written(written, Path("study.toml"))
        assert not shared(str(caught.value), secret), (written, caught.value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("postgresql://h/db?sslmod=require", "psycopg knows no option 'sslmod'"),
        ("postgresql://h/db?password=ab&cdef=ghij", "psycopg knows no option number 2 behind its ?"),
        ("mysql://me:geheim@h/d?bogus=/x", "pymysql knows no option number 1 behind its ?"),
        ("sqlite://runs/mix.db", "names no file; write sqlite:///FILE, with four slashes before an absolute path"),
        ("sqlite:///mix.db?mode=ro", "a SQLite file takes no options"),
        ("sqlite:///a?b.db", "a SQLite file takes no options"),
    ],
)
def test_what_a_url_cannot_say_is_refused(written: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(written, VARIABLE)
    assert message in str(caught.value) and "geheim" not in str(caught.value)


@pytest.mark.parametrize("written", ["{}/a b[1].db", "sqlite:///{}/a b[1].db", "sqlite:///{}/a%20b[1].db"])
def test_spaces_and_brackets_name_a_file(written: str, tmp_path: Path) -> None:
    address = parse(written.format(tmp_path), VARIABLE)
    assert address.file == tmp_path / "a b[1].db" == parse(address.full, VARIABLE).file
    with open_database(address, timeout_seconds=1):
        assert address.file.exists()


@pytest.mark.parametrize("path", ["/runs/10:30@night/mix.db", "./10:30@night.db", "runs/me@home.db", "C:\\me@home.db"])
def test_a_path_may_hold_an_at_sign(path: str) -> None:
    assert parse(path, VARIABLE).kind == "sqlite"


def test_a_line_read_from_a_file_may_end_in_a_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "postgresql://me@host/db\n")
    assert address_of(None, Path("default.db")).url.database == "db"


def test_a_folder_or_a_text_in_the_place_of_a_database_is_named_with_the_place_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = tmp_path / "mixscout.db"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n" * 20)
    for there, fault in (
        (tmp_path, "is a folder; set {} to a file in it"),
        (pointer, "is not a database that can be read, but text; set {}"),
    ):
        with pytest.raises(StorageError, match=f"{there} {fault.format('`database` in the study file')}"):
            _open(address_of(str(there), tmp_path))
        monkeypatch.setenv(VARIABLE, str(there))
        with pytest.raises(StorageError, match=f"{there} {fault.format(f'{VARIABLE} in the environment')}"):
            _open(address_of(None, tmp_path))
        monkeypatch.delenv(VARIABLE)


def _open(address: Address) -> None:
    with open_database(address, timeout_seconds=1, lease_seconds=2):
        pass


@pytest.mark.parametrize("password", ["%E2%82x4711secret", "%00x4711secret"])
@pytest.mark.parametrize("kind", ["mysql", "postgresql"])
def test_a_password_that_the_driver_cannot_send_is_refused_without_showing_it(kind: str, password: str) -> None:
    for url in (f"{kind}://me:{password}@127.0.0.1/mix", f"{kind}://127.0.0.1/mix?user=me&password={password}"):
        if kind == "postgresql" and "%00" not in password:
            assert parse(url, VARIABLE).kind == kind
            continue
        with pytest.raises(
            ConfigError, match=f"{VARIABLE}: the password has a character that .* cannot send"
        ) as refused:
            parse(url, VARIABLE)
        assert "4711" not in str(refused.value)
