"""A study's database: Optuna's tables and ours, in a SQLite file or on a server. Its troubles become one clear line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from pool.errors import StorageError, first_line
from studies.database.address import Address
from studies.database.errors import explained
from studies.database.evaluations import EvaluationStore
from studies.database.exclusive import exclusively
from studies.database.leases import Leases
from studies.database.optuna_storage import StudyStorage, TrialStorage
from studies.database.outage import outlasting
from studies.database.schema import is_current, upgrade

LEASE_SECONDS = 60.0
"""How long a worker of another machine that died without a word keeps its trial."""

LONGEST_WAIT_TO_OPEN_SECONDS = 10.0
"""A worker may start while the server restarts; an address that is wrong should not take long to say so."""


@dataclass(frozen=True)
class Database:
    """The study database, opened: Optuna's storage, the evaluations, and what which worker is busy with."""

    address: Address
    engine: Engine
    optuna: StudyStorage
    evaluations: EvaluationStore
    leases: Leases


@contextmanager
def open_database(
    where: Address | Path, *, timeout_seconds: float, lease_seconds: float = LEASE_SECONDS
) -> Iterator[Database]:
    """Open the database, making or upgrading its tables, and translate its errors while the block runs.

    While it is open, this process's leases are renewed. Raises `StorageError` when it is locked for longer than the
    timeout, not writable, out of reach, not a database, or of a newer version.
    """
    address = where if isinstance(where, Address) else Address.of_file(where)
    _check_file(address)
    options = _options(address, timeout_seconds)
    engine = create_engine(address.url, **options)
    _tune(engine, address)
    try:
        wait = min(timeout_seconds, LONGEST_WAIT_TO_OPEN_SECONDS)
        storage = outlasting(lambda: _with_tables(engine, address, options), patience_seconds=wait)
        try:
            leases = Leases(engine, seconds=lease_seconds)
            with leases.renewed():
                yield Database(address, engine, storage, EvaluationStore(engine, leases), leases)
        finally:
            storage.remove_session()
            storage.trials.engine.dispose()
    except (SQLAlchemyError, StorageInternalError) as error:
        raise explained(address, error) from error
    finally:
        engine.dispose()


@contextmanager
def storage_for_threads(database: Database, timeout_seconds: float) -> Iterator[RDBStorage]:
    """Open Optuna's own storage on the same database, for a server whose threads read it side by side."""
    options = _options(database.address, timeout_seconds)
    url = database.address.full.replace("{", "{{").replace("}", "}}")
    storage = RDBStorage(url, options, skip_table_creation=True)
    _tune(storage.engine, database.address)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _check_file(address: Address) -> None:
    path = address.file
    if path is None:
        return
    odd = sorted(set(str(path)) & set("{}?#%"))
    if odd:
        raise StorageError(f"database {path}: a path with {' '.join(odd)} cannot be opened; set `database` to another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"database {path} cannot be written: {error.strerror}; set `database` in the study file to another place"
        ) from None


def _options(address: Address, timeout_seconds: float) -> dict[str, Any]:
    if address.file:
        return {"connect_args": {"timeout": timeout_seconds}}
    wait = {"connect_timeout": max(2, min(10, round(timeout_seconds)))}
    if address.kind == "postgresql":
        return {"connect_args": {**wait, "options": "-c synchronous_commit=off"}}
    return {"connect_args": wait, "isolation_level": "READ COMMITTED"}


def _tune(engine: Engine, address: Address) -> None:
    """Let SQLite write ahead: readers then do not stop writers, and a commit need not wait for the disk."""
    if not address.file:
        return

    @event.listens_for(engine, "connect")
    def pragmas(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


def _with_tables(engine: Engine, address: Address, options: dict[str, Any]) -> StudyStorage:
    if is_current(engine, address):  # Optuna's tables are made before ours
        return _optuna_storage(engine, address, options)
    try:
        with exclusively(engine, address, "upgrade"):
            storage = _optuna_storage(engine, address, options)
            if not is_current(engine, address):
                upgrade(engine)
            return storage
    except (OSError, Timeout) as error:
        raise explained(address, StorageError("readonly database")) from error


def _optuna_storage(engine: Engine, address: Address, options: dict[str, Any]) -> StudyStorage:
    try:
        storage = TrialStorage(address.full, dict(options))
    except RuntimeError as error:  # what Optuna raises for tables of another version of itself
        raise StorageError(
            f"database {address}: {first_line(error)}; set `database` in the study file to another one"
        ) from None
    _tune(storage.engine, address)
    storage.engine.dispose()  # the connections that made the tables
    return StudyStorage(storage)
