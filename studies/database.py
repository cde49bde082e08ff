"""One SQLite database per root: Optuna's tables and ours. Its troubles become one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy import Engine, create_engine
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        url = f"sqlite:///{path}"
        engine = _engine(url, timeout_seconds)
        TABLES.create_all(engine)
        storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": timeout_seconds}})
        try:
            yield Database(path, storage, EvaluationStore(engine))
        finally:
            storage.remove_session()
            storage.engine.dispose()
            engine.dispose()
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        raise _explained(path, error) from error


def _engine(url: str, timeout_seconds: float) -> Engine:
    return create_engine(url, connect_args={"timeout": timeout_seconds})


def _explained(path: Path, error: Exception) -> StorageError:
    causes = [str(cause) for cause in (error, error.__cause__, error.__cause__ and error.__cause__.__cause__) if cause]
    text = " ".join(causes)
    if "locked" in text:
        return StorageError(
            f"database {path} is locked by another process; nothing was lost: stop that process, or raise "
            "database_timeout_seconds, and run the same command again"
        )
    if "readonly" in text or "unable to open" in text or isinstance(error, OSError):
        return StorageError(
            f"database {path} cannot be written; give the file and its folder write permission, or set `database` "
            "in the study file to another place"
        )
    if "not a database" in text or "malformed" in text:
        return StorageError(f"{path} is not a database that can be read; set `database` to another file")
    return StorageError(f"database {path}: {causes[0].splitlines()[0]}")
