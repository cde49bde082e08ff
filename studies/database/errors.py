"""Errors of a database: one clear line for each, and patience with those that pass by themselves."""

import time
from collections.abc import Callable
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from pool.errors import StorageError, first_line
from pool.progress import say
from studies.database.address import VARIABLE, Address

PAUSE_SECONDS = 0.5

Answer = TypeVar("Answer")

_PASSING = (
    "database is locked",
    "server closed the connection",
    "terminating connection",
    "connection refused",
    "connection failed",
    "connection is closed",
    "connection is lost",
    "lost connection",
    "gone away",
    "can't connect",
    "starting up",
    "shutting down",
    "deadlock",
    "could not serialize",
    "no such file or directory",
    "lock wait timeout",
)
_LASTING = ("password authentication", "access denied", "does not exist", "unknown database", "no password supplied")
_NO_ROOM = ("disk is full", "no space left", "disk full", "is full", "readonly database", "unable to open database")


def outlasting(
    work: Callable[[], Answer], *, patience_seconds: float, progress: Callable[[], object] = lambda: None
) -> Answer:
    """Do resumable work, and begin it again where the database was away.

    Patience counts from the first error after `progress()` last changed. Raises the database's error after that, and
    a lasting error at once.
    """
    failing_since, last = None, progress()
    while True:
        try:
            return work()
        except (SQLAlchemyError, StorageInternalError) as error:
            now, here = time.monotonic(), progress()
            if failing_since is None or here != last:
                failing_since, last = now, here
            if not _is_passing(error) or now - failing_since > patience_seconds:
                raise
            say("the database is away or busy; waiting for it")
            time.sleep(PAUSE_SECONDS)


def explained(address: Address, error: BaseException) -> StorageError:
    """Say in one line the trouble and its remedy."""
    text, found = _text(error), f"database {address}"
    if "database is locked" in text:
        return StorageError(
            f"{found} is locked by another process; nothing was lost: stop that process, or raise "
            "database_timeout_seconds, and run the same command again"
        )
    if any(words in text for words in _NO_ROOM):
        return StorageError(
            f"{found} cannot be written; give it (the file and its folder, or the server) write permission and room, "
            "or set `database` in the study file to another place"
        )
    if "not a database" in text or "malformed" in text:
        return StorageError(f"{address} is not a database that can be read; set `database` to another file")
    if "password authentication" in text or "access denied" in text or "no password supplied" in text:
        return StorageError(
            f"{found}: the server refuses user {address.url.username!r} with this password; set {VARIABLE} in the "
            "environment to the URL with the right one"
        )
    if ('database "' in text and "does not exist" in text) or "unknown database" in text:
        return StorageError(f"{found}: the server has no database {address.url.database!r}; create it, or name another")
    if 'role "' in text and "does not exist" in text:
        return StorageError(f"{found}: the server has no user {address.url.username!r}; create it, or name another")
    if not address.file and _is_passing(error):
        return StorageError(
            f"{found} cannot be reached; nothing was lost: see that the server runs, and run the same command again"
        )
    line = first_line(_causes(error)[-1])
    return StorageError(f"{found}: {line.replace(address.url.password, '***') if address.url.password else line}")


def _is_passing(error: BaseException) -> bool:
    """Tell whether a second try is likely to succeed: the server restarts, or a lock is held."""
    text = _text(error)
    if any(words in text for words in _LASTING):
        return False
    causes = _causes(error)
    lost = any(isinstance(cause, DBAPIError) and cause.connection_invalidated for cause in causes)
    raced = any(isinstance(cause, IntegrityError) for cause in causes)
    return lost or raced or any(words in text for words in _PASSING)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _text(error: BaseException) -> str:
    return " ".join(str(cause) for cause in _causes(error)).lower()
