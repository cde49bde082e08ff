"""A study's database is a file or a real server: the same promises hold in each, and no password is ever shown."""

from __future__ import annotations

import math
import socketserver
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import optuna
import pytest
from servers import Postgres
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from objectives.evaluation import Evaluation
from objectives.held_out import HeldOutLoss
from pool.errors import ConfigError, StorageError
from pool.mixture import Mixture
from studies.database.address import VARIABLE, Address, address_of, check_written, parse
from studies.database.database import Database, open_database, revision_of
from studies.database.errors import outlasting
from studies.database.evaluations import EvaluationRow
from studies.database.leases import exclusively

KINDS = ("sqlite", "postgresql", "mariadb")
HEAD = "commands_4"
MIXTURE = Mixture.of({"a": 0.1 + 0.2, "b": 0.7 - 1e-17, "c": 0.0})


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, new_address: Callable[[str], str]) -> str:
    kind = {"postgresql": "postgres"}.get(request.param, request.param)
    return new_address(kind)


def _open(address: str):
    return open_database(parse(address, "address"), timeout_seconds=2)


def _evaluation(value: float) -> Evaluation:
    loss = HeldOutLoss(value * 30, 30, 90, 9, 2, 1, 0.1, 0.2, 0.3, 0.4, 0.5)
    windows = {"d": np.array([1 / 3, math.pi])}
    parts = {"domains": {"d": loss}, "kind": "merged", "objective_digest": "o" * 64, "windows": windows}
    return Evaluation(
        MIXTURE,
        value,
        float("inf"),
        seconds=0.1,
        tokens_read=2**40,
        values=(value,),
        gradient=(1e-300, 0.1, -3.0),
        **parts,
    )


def test_what_is_kept_comes_back_to_the_last_bit(address: str) -> None:
    value = 1 / 3 + 1e-16
    with _open(address) as opened:
        opened.evaluations.keep(_evaluation(value), "f" * 64)
    with _open(address) as opened:
        found = opened.evaluations.find("o" * 64, MIXTURE)
        carried = opened.evaluations.find("another", MIXTURE, "f" * 64)
        assert opened.evaluations.find("another", MIXTURE, "g" * 64) is None
    assert found and found.value == value and found.gradient == (1e-300, 0.1, -3.0)
    assert found.windows and found.windows["d"].tolist() == [1 / 3, math.pi]
    assert found.cached and found.tokens_read == 0 and found.standard_error == float("inf")
    assert carried and carried.objective_digest == "another" and carried.value == value


def test_several_workers_may_make_the_tables_at_once(address: str) -> None:
    def use(number: int) -> str | None:
        with _open(address) as opened:
            optuna.create_study(storage=opened.optuna, study_name=f"s{number}")
            return revision_of(opened.engine)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(use, range(4))) == [HEAD] * 4


def test_a_worker_waits_for_tables_that_another_is_making(tmp_path: Path) -> None:
    def use() -> str | None:
        with open_database(tmp_path / "new.db", timeout_seconds=2) as opened:
            return revision_of(opened.engine)

    address = Address.of_file(tmp_path / "new.db")
    engine = create_engine(address.url)
    with ThreadPoolExecutor(1) as threads:
        with exclusively(engine, address, "upgrade"):
            with engine.begin() as connection:
                connection.execute(text("CREATE TABLE evaluations (id INTEGER)"))
            other = threads.submit(use)
            assert not wait([other], timeout=0.5).done
            with engine.begin() as connection:
                connection.execute(text("DROP TABLE evaluations"))
        assert other.result() == HEAD


def test_a_trial_reads_the_same_from_the_database_and_in_hand(address: str) -> None:
    with _open(address) as opened:
        study = optuna.create_study(storage=opened.optuna, study_name="s")
        trial = study.ask()
        for name in ("a", "b"):
            trial.suggest_float(name, 0, 1)
        trial.set_user_attr("before", [1, "two"])
        opened.optuna.send()
        trial.set_user_attr("before", None)
        trial.set_user_attr("after", 0.1)
        told = study.tell(trial, 1 / 3)
    engine = parse(address, "address")
    storage = optuna.storages.RDBStorage(engine.full)
    (read,) = optuna.load_study(storage=storage, study_name="s").trials
    assert (read.params, read.values, read.user_attrs) == (told.params, [1 / 3], {"before": None, "after": 0.1})
    assert read.state is told.state and read.datetime_complete and read.datetime_complete >= read.datetime_start


def test_a_lease_is_one_worker_s_until_it_ends(address: str) -> None:
    with _open(address) as opened:
        mine, other = opened.leases, _other_worker(opened, "elsewhere:1:1")
        assert mine.take("s", "1") and mine.take("s", "1"), "one's own lease is kept"
        assert not other.take("s", "1")
        assert other.held_by_others("s") == {"1"} and mine.held_by_others("s") == set()
        other.give_back("s", "1")
        assert not other.take("s", "1"), "nobody gives back what is not his"
        mine.give_back("s", "1")
        assert other.take("s", "1") and not mine.take("s", "1")
        _expire(opened)
        assert mine.held_by_others("s") == set()
        assert mine.take("s", "1") and not other.take("s", "1")


def test_a_renewed_lease_does_not_end(address: str) -> None:
    with _open(address) as opened:
        other = _other_worker(opened, "elsewhere:1:1")
        assert other.take("s", "1")
        _expire(opened)
        other.renew()
        assert not opened.leases.take("s", "1")


def test_a_dead_process_of_this_machine_is_not_waited_for(address: str) -> None:
    with _open(address) as opened:
        place, number, began = opened.leases.holder.split(":")
        dead = _other_worker(opened, f"{place}:{number}:{int(began) - 1}")
        assert dead.take("s", "1")
        assert opened.leases.held_by_others("s") == set()
        assert opened.leases.take("s", "1")


def _other_worker(opened: Database, holder: str):
    from studies.database.leases import Leases

    other = Leases(opened.engine, seconds=30)
    other.holder = holder
    return other


def _expire(opened: Database) -> None:
    with opened.engine.begin() as connection:
        connection.execute(text("UPDATE leases SET expires_unix = expires_unix - 100"))


@pytest.mark.parametrize("revision", [None, "evaluations_1", "leases_2"])
def test_a_database_of_before_the_first_release_is_refused_by_name(tmp_path: Path, revision: str | None) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE evaluations (id INTEGER NOT NULL PRIMARY KEY, value FLOAT NOT NULL)")
    connection.execute("INSERT INTO evaluations VALUES (1, 4.25)")
    if revision:
        connection.execute("CREATE TABLE mixscout_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.execute("INSERT INTO mixscout_version VALUES (?)", [revision])
    connection.commit()
    with (
        pytest.raises(StorageError, match="old.db was made by a Mixscout before 0.1.0 .*; set `database`"),
        open_database(path, timeout_seconds=2),
    ):
        pass
    assert connection.execute("SELECT * FROM evaluations").fetchall() == [(1, 4.25)]
    connection.close()


def test_a_database_at_the_one_revision_opens_as_it_is(address: str) -> None:
    with _open(address) as opened:
        tables = {"evaluations", "leases", "mixscout_version"}
        assert revision_of(opened.engine) == HEAD
        assert tables <= set(inspect(opened.engine).get_table_names())
        columns = [column["name"] for column in inspect(opened.engine).get_columns("evaluations")]
        assert columns == [column.name for column in EvaluationRow.__table__.columns]


def test_a_database_of_a_newer_version_is_refused_by_name(address: str) -> None:
    with _open(address) as opened, opened.engine.begin() as connection:
        connection.execute(text("UPDATE mixscout_version SET version_num = 'wonders_9'"))
    with pytest.raises(StorageError, match="newer Mixscout, to revision 'wonders_9'; upgrade Mixscout"), _open(address):
        pass


def test_a_password_stands_in_the_environment_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:s3cret@host/db?sslpassword=s3cret"
    for written in (url, "mysql://me:s3cret@host/db", "postgresql://me@host/db?password=s3cret"):
        with pytest.raises(ConfigError, match=f"holds a password.*set {VARIABLE} in the environment") as caught:
            check_written(written, Path("study.toml"))
        assert "s3cret" not in str(caught.value)
    check_written("postgresql://me@host/db", Path("study.toml"))
    monkeypatch.setenv(VARIABLE, url)
    address = address_of("elsewhere.db", Path("default.db"))
    assert str(address) == "postgresql+psycopg://me:***@host/db"
    assert "s3cret" not in repr(address) and "s3cret" in address.full
    monkeypatch.delenv(VARIABLE)
    assert address_of(None, Path("/default.db")).file == Path("/default.db")


def test_a_wrong_url_says_what_is_wrong() -> None:
    for written, message in {
        "oracle://me@host/db": "names a 'oracle' database; there are sqlite, postgresql, mysql, mariadb",
        "postgresql://me@host": "names no database; write postgresql://user@host/database",
        "postgresql+asyncpg://me@host/db": "names the driver 'asyncpg'; postgresql is spoken to through psycopg",
        "://": "is no database URL",
    }.items():
        with pytest.raises(ConfigError, match=message):
            parse(written, "`database`")


def test_a_study_file_with_a_password_is_one_line(root: Path, mixscout) -> None:
    study = root / "study.toml"
    study.write_text('database = "postgresql://me:s3cret@host/db"\n' + study.read_text())
    answer = mixscout("search", study)
    assert answer.code == 1 and "the URL holds a password" in answer.err and "s3cret" not in answer.err


def test_what_a_server_has_against_us_is_one_line_each(postgres: Postgres, new_address: Callable[[str], str]) -> None:
    address = new_address("postgres")
    postgres.run("CREATE ROLE careful LOGIN PASSWORD 'right'")
    rules = postgres.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all careful scram-sha-256\n" + before)
    postgres.run("SELECT pg_reload_conf()")
    wrong = address.replace("postgres@", "careful:wr0ng@")
    try:
        _wait_until_refused(wrong)
        _fails(wrong, "refuses user 'careful' with this password; set MIXSCOUT_STORAGE", never="wr0ng")
    finally:
        rules.write_text(before)
        postgres.run("SELECT pg_reload_conf()")
    _fails(postgres.url("nowhere"), "the server has no database 'nowhere'; create it")
    _fails(postgres.url("postgres", user="nobody"), "the server has no user 'nobody'")
    postgres.run("CREATE ROLE many LOGIN CONNECTION LIMIT 0")
    _fails(postgres.url("postgres", user="many"), 'too many connections for role "many"; nothing was lost')
    postgres.stop()
    try:
        _fails(address, "cannot be reached; nothing was lost: see that the server runs")
    finally:
        postgres.start()


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], int]]:
    """A server on loopback with one answer to whoever calls; returns its port."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def start(answer: bytes) -> int:
        class Answer(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if not answer.startswith(b"N"):  # MySQL speaks first
                    self.request.sendall(answer)
                self.request.recv(1000)
                self.request.sendall(answer)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return int(server.server_address[1])

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_that_refuses_is_not_waited_for(
    answering: Callable[[bytes], int], capsys: pytest.CaptureFixture[str]
) -> None:
    text = b"#HY000Connections using insecure transport are prohibited"
    refusal = b"\xff" + (3159).to_bytes(2, "little") + text
    mysql = len(refusal).to_bytes(3, "little") + b"\0" + refusal
    for address, message in {
        f"postgresql://me:geheim@127.0.0.1:{answering(b'N')}/mix?sslmode=require": (
            "server does not support SSL, but SSL was required; leave sslmode out of the URL or write sslmode=prefer"
        ),
        f"mysql://me:geheim@127.0.0.1:{answering(mysql)}/mix": "insecure transport are prohibited; the server takes",
        "postgresql://me:geheim@no.invalid/mix": "correct the host in the URL",
        "mysql://me:geheim@no.invalid/mix": "correct the host in the URL",
        "postgresql://me:geheim@127.0.0.1:1/mix?sslmode=requir": "invalid sslmode value",
    }.items():
        _fails(address, message, never="geheim")
        assert "waiting" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ('connection failed: connection to server at "::1", port 5 failed: Connection refused', True),
        ("connection failed: FATAL:  the database system is starting up", True),
        ("connection failed: FATAL:  sorry, too many clients already", True),
        ("connection failed: FATAL:  remaining connection slots are reserved", True),
        ("connection timeout expired", True),
        ("(1040, 'Too many connections')", True),
        ("(2003, \"Can't connect to MySQL server on 'h' (timed out)\")", True),
        ("(2003, \"Can't connect to MySQL server on 'h' ([Errno -2] Name or service not known)\")", False),
        ("(1045, \"Access denied for user 'me'@'h' (using password: YES)\")", False),
        ("(1130, \"Host 'h' is not allowed to connect to this MariaDB server\")", False),
        ('connection failed: FATAL:  no pg_hba.conf entry for host "h", user "me", no encryption', False),
        ("connection failed: FATAL:  Passwort-Authentifizierung fehlgeschlagen", False),
        (
            'connection failed: connection to server at "::1" failed: Connection refused\n'
            "Multiple connection attempts failed. All failures were:\n"
            "- host: 'h', hostaddr: '::1': Connection refused\n"
            "- host: 'h', hostaddr: '127.0.0.1': FATAL:  something else",
            False,
        ),
    ],
)
def test_only_what_passes_by_itself_is_waited_for(said: str, passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.database.errors.PAUSE_SECONDS", 0.01)
    tries = []

    def work() -> None:
        tries.append(1)
        raise OperationalError("SELECT 1", {}, Exception(said))

    with pytest.raises(OperationalError):
        outlasting(work, patience_seconds=0.05)
    assert (len(tries) > 1) == passes


def _wait_until_refused(url: str) -> None:
    """Wait until the server has read its new rules."""
    engine = create_engine(url)
    with pytest.raises(OperationalError):
        for _ in range(200):
            engine.connect().close()
            engine.dispose()
            time.sleep(0.05)


def _fails(address: str, message: str, never: str = "?") -> None:
    with pytest.raises(StorageError) as caught, _open(address):
        pass
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert never not in str(caught.value) and caught.value.__cause__ is None


def test_a_read_only_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        open_database(tmp_path / "folder" / "x.db", timeout_seconds=1).__enter__()
