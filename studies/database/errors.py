"""What a database can have against us, in one clear line each; and which of it passes by itself."""

from sqlalchemy.exc import DBAPIError, IntegrityError

from pool.errors import StorageError, first_line
from studies.database.address import VARIABLE, Address

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


def is_passing(error: BaseException) -> bool:
    """Tell whether an error is likely gone when the same thing is tried again: the server restarts, a lock is held."""
    text = _text(error)
    if any(words in text for words in _LASTING):
        return False
    causes = _causes(error)
    lost = any(isinstance(cause, DBAPIError) and cause.connection_invalidated for cause in causes)
    raced = any(isinstance(cause, IntegrityError) for cause in causes)
    return lost or raced or any(words in text for words in _PASSING)


def explained(address: Address, error: BaseException) -> StorageError:
    """Say in one line what is the matter and what to do."""
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
    if not address.file and is_passing(error):
        return StorageError(
            f"{found} cannot be reached; nothing was lost: see that the server runs, and run the same command again"
        )
    line = first_line(_causes(error)[-1])
    return StorageError(f"{found}: {line.replace(address.url.password, '***') if address.url.password else line}")


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _text(error: BaseException) -> str:
    return " ".join(str(cause) for cause in _causes(error)).lower()
