"""One SQLite database per root: Optuna's tables and ours. Its troubles become one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import URL, create_engine
from sqlalchemy.exc import SQLAlchemyError

from pool.errors import StorageError
from studies.evaluations import TABLES, EvaluationStore


@dataclass(frozen=True)
class Database:
    """The study database: Optuna's storage and the evaluations, in one file."""

    path: Path
    optuna: RDBStorage
    evaluations: EvaluationStore


@contextmanager
def open_database(path: Path, *, timeout_seconds: float) -> Iterator[Database]:
    """Open the database, making it where there is none, and translate its errors while the block runs.

    Raises `StorageError` when it is locked for longer than the timeout, not writable, or not a database.
    """
    _check_path(path)
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": timeout_seconds})
    try:
        TABLES.create_all(engine)
        storage = _optuna_storage(path, timeout_seconds)
        try:
            yield Database(path, storage, EvaluationStore(engine))
        finally:
            storage.remove_session()
            storage.engine.dispose()
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _explained(path, error) from error
    finally:
        engine.dispose()


def _check_path(path: Path) -> None:
    odd = sorted(set(str(path)) & set("{}?#%"))
    if odd:
        raise StorageError(f"database {path}: a path with {' '.join(odd)} cannot be opened; set `database` to another")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"database {path} cannot be written: {error.strerror}; set `database` in the study file to another place"
        ) from None


def _optuna_storage(path: Path, timeout_seconds: float) -> RDBStorage:
    try:
        return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": timeout_seconds}})
    except RuntimeError as error:  # what Optuna raises for tables of another version of itself
        reason = str(error).splitlines()[0]
        raise StorageError(f"database {path}: {reason}; set `database` in the study file to another file") from None


def _explained(path: Path, error: Exception) -> StorageError:
    causes = [str(cause) for cause in (error, error.__cause__, error.__cause__ and error.__cause__.__cause__) if cause]
    text = " ".join(causes)
    if "database is locked" in text:
        return StorageError(
            f"database {path} is locked by another process; nothing was lost: stop that process, or raise "
            "database_timeout_seconds, and run the same command again"
        )
    if "readonly database" in text or "unable to open database" in text or "disk is full" in text:
        return StorageError(
            f"database {path} cannot be written; give the file and its folder write permission and room, or set "
            "`database` in the study file to another place"
        )
    if "not a database" in text or "malformed" in text:
        return StorageError(f"{path} is not a database that can be read; set `database` to another file")
    return StorageError(f"database {path}: {causes[0].splitlines()[0]}")
