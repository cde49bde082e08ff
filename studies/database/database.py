"""A study's database: Optuna's tables and Mixscout's, in a SQLite file or on a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Engine, create_engine, event, insert, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from pool.errors import StorageError, first_line
from pool.progress import say
from search.optuna_private import StudyStorage, TrialStorage
from studies.database.address import Address, said_by
from studies.database.errors import explained, outlasting, unreadable
from studies.database.evaluations import EvaluationRow, EvaluationStore
from studies.database.kept_file import KeptFile, copy_rows, is_other_file, may_only_read, writable_or_copied
from studies.database.leases import Leases, exclusively
from studies.database.migrations import versions

LEASE_SECONDS = 60.0
"""Time after which the trial of another machine's dead worker is free."""
LONGEST_WAIT_TO_OPEN_SECONDS = 10.0
"""A worker may start while the server restarts; a wrong address should not take long to say so."""
VERSION_TABLE = "mixscout_version"
"""Optuna's migrations have `alembic_version` in the same database."""
_UNRELEASED = ("evaluations_1", "leases_2")


@dataclass(frozen=True)
class Database:
    """An opened database: Optuna's storage, the evaluations, and the workers' leases.

    address: as written by people; `engine` may be on a private copy.
    """

    address: Address
    engine: Engine
    optuna: StudyStorage
    evaluations: EvaluationStore
    leases: Leases


@contextmanager
def open_database(
    where: Address | Path, *, timeout_seconds: float, lease_seconds: float = LEASE_SECONDS, writes: bool = True
) -> Iterator[Database]:
    """Open the database, make its tables, renew this process's leases, and translate errors.

    Without `writes`, a database that may only be read is opened as a private copy. Raises `StorageError` for a
    database locked beyond the timeout, not writable, out of reach, or of another version;
    and for a SQLite file removed, replaced or cut while the block runs, at the next use or at the block's end.
    """
    address = where if isinstance(where, Address) else Address.of_file(where)
    if address.file is not None and is_other_file(address.file):
        raise unreadable(address)
    if not writes:
        with (
            _own_copy(address, timeout_seconds) as place,
            open_database(place, timeout_seconds=timeout_seconds, lease_seconds=lease_seconds) as database,
        ):
            yield replace(database, address=address)
        return
    _check_file(address)
    options = _options(address, timeout_seconds)
    engine = create_engine(address.url, **options)
    _tune(engine, address)
    kept: KeptFile | None = None
    try:
        wait = min(timeout_seconds, LONGEST_WAIT_TO_OPEN_SECONDS)
        storage = outlasting(lambda: _with_tables(engine, address, options), patience_seconds=wait)
        kept = _watched(address, engine, storage.trials.engine)
        try:
            leases = Leases(engine, seconds=lease_seconds)
            with leases.renewed():
                yield Database(address, engine, storage, EvaluationStore(engine, leases), leases)
            if kept is not None:
                kept.check_at_the_end()
        finally:
            storage.remove_session()
            storage.trials.engine.dispose()
    except (SQLAlchemyError, StorageInternalError) as error:
        if kept is not None:
            kept.check()  # the better reason
        raise explained(address, error) from (error if address.file else None)  # a driver's may quote a password
    finally:
        engine.dispose()


def copy_study(name: str, source: Database, target: Database) -> None:
    """Copy a study, if there is one, and all evaluations into an empty database."""
    if name in optuna.get_all_study_names(source.optuna):
        optuna.copy_study(from_study_name=name, from_storage=source.optuna, to_storage=target.optuna)
    columns = EvaluationRow.__table__.columns
    with source.engine.connect() as connection, target.engine.begin() as copy:
        if found := [dict(row) for row in connection.execute(select(*columns)).mappings()]:
            copy.execute(insert(EvaluationRow), found)


@contextmanager
def _own_copy(address: Address, timeout_seconds: float) -> Iterator[Address]:
    """Yield the address, or that of a private copy where this user may only read, with a line that says so."""
    if address.file is not None:
        with writable_or_copied(address, timeout_seconds) as place:
            yield place
        return
    engine = create_engine(address.url, **_options(address, timeout_seconds))
    try:
        with ExitStack() as stack:
            place = address
            if may_only_read(engine) and _known_revision(engine, address):
                place = Address.of_file(Path(stack.enter_context(TemporaryDirectory(prefix="mixscout-"))) / "study.db")
                with open_database(place, timeout_seconds=timeout_seconds) as copy:
                    copy_rows(engine, copy.engine, VERSION_TABLE)
                say(f"database {address} is read-only for this user; what this command computes anew is not kept")
            yield place
    except SQLAlchemyError as error:
        raise explained(address, error) from None  # a driver's may quote a password
    finally:
        engine.dispose()


@contextmanager
def storage_for_threads(database: Database, timeout_seconds: float) -> Iterator[RDBStorage]:
    """Open Optuna's own storage on the same database, for a server's threads."""
    address = Address(database.engine.url)
    options = _options(address, timeout_seconds)
    url = address.full.replace("{", "{{").replace("}", "}}")
    storage = RDBStorage(url, options, skip_table_creation=True)
    _tune(storage.engine, address)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _watched(address: Address, *engines: Engine) -> KeptFile | None:
    if address.file is None:
        return None
    kept = KeptFile(address.file)
    for engine in engines:
        kept.watch(engine)
    return kept


def _check_file(address: Address) -> None:
    path = address.file
    if path is None:
        return
    odd = sorted(set(str(path)) & set("{}?#%"))
    if odd:
        raise StorageError(f"database {path}: a path with {' '.join(odd)} cannot be opened; set {said_by()} to another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"database {path} cannot be written: {error.strerror}; set {said_by()} to another place"
        ) from None


def _options(address: Address, timeout_seconds: float) -> dict[str, Any]:
    if address.file:
        return {"connect_args": {"timeout": timeout_seconds}}
    wait = {"connect_timeout": max(2, min(10, round(timeout_seconds)))}
    if address.kind == "postgresql":
        return {"connect_args": {**wait, "options": "-c synchronous_commit=off"}}
    return {"connect_args": wait, "isolation_level": "READ COMMITTED"}


def _tune(engine: Engine, address: Address) -> None:
    """Let SQLite write ahead: readers do not stop writers, and a commit does not wait for the disk."""
    if not address.file:
        return

    @event.listens_for(engine, "connect")
    def pragmas(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


def _with_tables(engine: Engine, address: Address, options: dict[str, Any]) -> StudyStorage:
    try:
        if _is_current(engine, address):  # Optuna's tables are made before ours
            return _optuna_storage(engine, address, options)
        with exclusively(engine, address, "upgrade"):  # several workers may start at once
            revision = _known_revision(engine, address)
            if revision is None and inspect(engine).has_table("evaluations"):  # outside the lock: tables in the making
                raise _unreleased(address)
            storage = _optuna_storage(engine, address, options)
            if revision != _revisions().get_current_head():
                _upgrade(engine)
            return storage
    except (OSError, Timeout) as error:
        raise explained(address, StorageError("readonly database")) from error
    except UnicodeDecodeError:  # SQLite's message quotes damaged bytes of a table's name
        raise unreadable(address) from None
    except RuntimeError as error:  # PyMySQL's for a missing library
        raise explained(address, error) from None


def _optuna_storage(engine: Engine, address: Address, options: dict[str, Any]) -> StudyStorage:
    try:
        storage = TrialStorage(address.full, dict(options))
    except RuntimeError as error:  # what Optuna raises for tables of another version of itself
        raise StorageError(f"database {address}: {first_line(error)}; set {said_by()} to another one") from None
    _tune(storage.engine, address)
    storage.engine.dispose()  # the connections that made the tables
    return StudyStorage(storage)


def revision_of(engine: Engine) -> str | None:
    """Return the recorded revision of Mixscout's tables."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision()


def _is_current(engine: Engine, address: Address) -> bool:
    return _known_revision(engine, address) == _revisions().get_current_head()


def _known_revision(engine: Engine, address: Address) -> str | None:
    """Return the revision of the tables, None without tables. Raises `StorageError` for one that is not known."""
    revision = revision_of(engine)
    if revision in _UNRELEASED:
        raise _unreleased(address)
    if revision not in (None, *(one.revision for one in _revisions().walk_revisions())):
        raise StorageError(
            f"database {address} was upgraded by a newer Mixscout, to revision {revision!r}; upgrade Mixscout, or set "
            f"{said_by()} to another one"
        )
    return revision


def _unreleased(address: Address) -> StorageError:
    return StorageError(
        f"database {address} was made by a Mixscout before 0.1.0 and cannot be upgraded; set "
        f"{said_by()} to another one, and search again"
    )


def _upgrade(engine: Engine) -> None:
    """Apply every missing revision, in one transaction where the database can."""
    script = _revisions()
    with EnvironmentContext(Config(), script) as environment, engine.begin() as connection:
        environment.configure(
            connection=connection,
            version_table=VERSION_TABLE,
            fn=lambda revision, context: script._upgrade_revs("head", revision),
            render_as_batch=connection.dialect.name == "sqlite",
        )
        with environment.begin_transaction():
            environment.run_migrations()


def _revisions() -> ScriptDirectory:
    folder = Path(versions.__path__[0])
    return ScriptDirectory(str(folder.parent), version_locations=[str(folder)])
