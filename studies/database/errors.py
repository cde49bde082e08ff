"""Errors of a database: one clear line for each, and patience with those that pass by themselves."""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from pool.errors import StorageError, first_line
from pool.files.names import as_typed
from pool.files.secrets import without_secrets
from pool.progress import say
from studies.database.address import VARIABLE, Address, said_by

_START_BYTES = 64
PAUSE_SECONDS = 0.5
PAUSE_TO_SAY_SECONDS = 5.0

Answer = TypeVar("Answer")

_PASSING = (
    "database is locked",
    "server closed the connection",
    "terminating connection",
    "connection refused",
    "connection reset",
    "broken pipe",
    "connection is closed",
    "connection is lost",
    "lost connection",
    "gone away",
    "is the server running",
    "[errno 2] no such file",
    "timed out",
    "timeout expired",
    "no route to host",
    "network is unreachable",
    "temporary failure in name resolution",
    "starting up",
    "shutting down",
    "shutdown in progress",
    "not yet accepting connections",
    "deadlock",
    "could not serialize",
    "lock wait timeout",
)
_NO_PLACE = ("too many clients", "too many connections", "connection slots", "max_user_connections")
_LASTING = ("password authentication", "access denied", "does not exist", "unknown database", "no password supplied")
_NO_ROOM = (
    "disk is full",
    "no space left",
    "disk full",
    "is full",
    "readonly database",
    "unable to open database",
    "disk i/o error",
    "read-only transaction",
    "read-only option",
)
_REMEDIES = {
    "not support ssl": "leave sslmode out of the URL or write sslmode=prefer, or turn encryption on at the server",
    "insecure transport": "the server takes encrypted connections alone: add ssl_ca=FILE to the URL's options",
    "pg_hba.conf": "add a line for this user, database and host to the server's pg_hba.conf",
    "certificate": "give the file of the server's authority in the URL: sslrootcert of PostgreSQL, ssl_ca of MySQL",
    "not currently accepting": "let the database be connected to: ALTER DATABASE ... ALLOW_CONNECTIONS true",
    "permission denied": "let the user make tables: GRANT CREATE ON SCHEMA public TO ...",
    "to database": "give the user rights on it: GRANT ALL ON ... TO ...",
    "command denied": "let the user make tables: GRANT ALL ON ... TO ...",
    "not allowed to connect": "let the user in from this machine",
    "cryptography": "pip install cryptography",
    "name or service not known": "correct the host in the URL",
    "resolve host": "correct the host in the URL",
}
"""By words of a server's refusal."""
_ATTEMPT = re.compile("^- ", re.MULTILINE)
_REASON = re.compile(r"(?:.*\bfailed: |connection is bad: )?(?:(?:FATAL|ERROR):\s+)?(?P<reason>.*)")
_OF_MYSQL = re.compile(r"\(\d+, (?P<quote>['\"])(?P<reason>.*)(?P=quote)\)")


def outlasting(
    work: Callable[[], Answer], *, patience_seconds: float, progress: Callable[[], object] = lambda: None
) -> Answer:
    """Do resumable work, and begin it again where the database was away.

    Patience counts from the first error after `progress()` last changed. Raises the database's error after that, and
    a lasting error at once.
    """
    failing_since, last, said = None, progress(), -math.inf
    while True:
        try:
            return work()
        except (SQLAlchemyError, StorageInternalError) as error:
            now, here = time.monotonic(), progress()
            if failing_since is None or here != last:
                failing_since, last = now, here
            if not _is_passing(error) or now - failing_since > patience_seconds:
                raise
            if now >= said + PAUSE_TO_SAY_SECONDS:
                said = now
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
    if address.file and address.file.is_dir():
        return StorageError(f"{found} is a folder; set {said_by()} to a file in it")
    if any(words in text for words in _NO_ROOM):
        return StorageError(
            f"{found} cannot be written; give it (the file and its folder, or the server) write permission and room, "
            f"or set {said_by()} to another place"
        )
    if "not a database" in text or "malformed" in text:
        return unreadable(address)
    if address.file:
        return StorageError(f"{found}: {first_line(_of_driver(error))}")
    return StorageError(f"{found}{_of_server(address, text, _reason(address, error), passing=_is_passing(error))}")


def unreadable(address: Address) -> StorageError:
    """Say that a database is damaged, or that a file is none, and the way on."""
    told = f"{address} is not a database that can be read"
    if address.file is None:
        return StorageError(f"{told}; have the server's tables repaired, or name another")
    if _is_text(address.file):
        return StorageError(f"{told}, but text; set {said_by()} to another file, or put a copy of the database back")
    file, aside = (as_typed(address.file.with_name(address.file.name + end)) for end in ("", ".damaged"))
    return StorageError(
        f"{told}: it is damaged, or another program's; restore a copy, or put it aside with `mv {file} {aside}`; "
        "searches then start anew, and trained models are kept"
    )


def _is_text(file: Path) -> bool:
    """Tell whether a file is text, such as a pool file or a Git LFS pointer in the place of a database."""
    with file.open("rb") as stream:
        start = stream.read(_START_BYTES)
    return start.isascii() and all(one >= ord(" ") or one in b"\t\r\n" for one in start)


def _of_server(address: Address, text: str, reason: str, *, passing: bool) -> str:
    user, name = address.url.username, without_secrets(repr(address.url.database), address.secrets)
    refused = "access denied" in text and "to database" not in text
    if refused or any(words in text for words in ("password authentication", "no password supplied")):
        return (
            f": the server refuses user {user!r} with this password; set {VARIABLE} in the environment to the URL with "
            "the right one, its @ : / ? # % and spaces percent-encoded"
        )
    if ('database "' in text and "does not exist" in text) or "unknown database" in text:
        return f": the server has no database {name}; create it, or name another"
    if 'role "' in text and "does not exist" in text:
        return f": the server has no user {user!r}; create it, or name another"
    if any(words in text for words in _NO_PLACE):
        return (
            f": {reason}; nothing was lost: end other workers or raise the server's limit, and run the same command "
            "again"
        )
    if passing:
        return (
            f" cannot be reached; nothing was lost: see that the server runs, and run the same command again ({reason})"
        )
    remedy = next((remedy for words, remedy in _REMEDIES.items() if words in text), "put it right")
    return f": {reason}; {remedy}, and run the same command again"


def _reason(address: Address, error: BaseException) -> str:
    """Return what the driver says, as one line without secrets: of several attempts, the first that will not pass."""
    own = _of_driver(error)
    attempts = _attempts(str(own))
    found = next((one for one in attempts if not _passes(one)), attempts[0])
    line = (found.strip().splitlines() or [type(own).__name__])[0]
    of_mysql = _OF_MYSQL.fullmatch(line) or _REASON.fullmatch(line)
    return without_secrets(of_mysql["reason"] if of_mysql else line, address.secrets)


def _is_passing(error: BaseException) -> bool:
    """Tell whether a second try is likely to succeed: the server restarts, or a lock is held."""
    text = _text(error)
    if any(words in text for words in _LASTING):
        return False
    causes = _causes(error)
    lost = any(isinstance(cause, DBAPIError) and cause.connection_invalidated for cause in causes)
    raced = any(isinstance(cause, IntegrityError) for cause in causes)
    return lost or raced or all(map(_passes, _attempts(str(_of_driver(error)))))


def _passes(text: str) -> bool:
    return any(words in text.lower() for words in (*_PASSING, *_NO_PLACE))


def _attempts(text: str) -> list[str]:
    """Divide a message into those of the attempts at a server with several addresses."""
    return _ATTEMPT.split(text)[1:] or [text]


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found:
        found.append(current)
        current = current.__cause__ or current.__context__
    return found


def _of_driver(error: BaseException) -> BaseException:
    """Return the driver's own error, without the statement that SQLAlchemy adds, or else the first cause."""
    causes = _causes(error)
    return next((one.orig for one in causes if isinstance(one, DBAPIError) and one.orig is not None), causes[-1])


def _text(error: BaseException) -> str:
    causes = _causes(error)
    own = [one.orig if isinstance(one, DBAPIError) and one.orig is not None else one for one in causes]
    return " ".join(map(str, own)).lower()
