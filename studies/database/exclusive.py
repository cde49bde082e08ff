"""One process at a time, through the database itself: gone with its holder's connection, however that ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

from filelock import FileLock
from sqlalchemy import Engine, text

from studies.database.address import Address

POLL_SECONDS = 0.005


@contextmanager
def exclusively(engine: Engine, address: Address, name: str) -> Iterator[None]:
    """Hold the lock of a name while the block runs, waiting for it first.

    An advisory lock of the server; for SQLite, whose only lock its own writes need, a lock file beside it.
    """
    if address.file:
        with FileLock(address.file.with_name(f".{address.file.name}.{name}.lock"), poll_interval=POLL_SECONDS):
            yield
        return
    with engine.connect() as connection:
        if address.kind == "postgresql":
            key = int.from_bytes(sha256(f"mixscout:{name}".encode()).digest()[:8], "big", signed=True)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield
            connection.commit()
            return
        names = {"name": f"mixscout:{sha256(f'{address.url.database}:{name}'.encode()).hexdigest()[:40]}"}
        while connection.scalar(text("SELECT GET_LOCK(:name, 3600)"), names) != 1:
            pass
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), names)
