"""Locks for a block of code, and leases for an evaluation: rows renewed by their living workers.

Optuna's heartbeats would fail a stale trial; a lease lets another worker go on with the same trial, so that a study has
exactly its budget.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pool.errors import StorageError
from studies.database.address import Address

POLL_SECONDS = 0.005
RENEWALS = 4
"""Renewals of a lease before it would end: a missed one loses nothing."""

TABLES = sa.MetaData()
"""Mixscout's own tables."""

LEASES = sa.Table(
    "leases",
    TABLES,
    sa.Column("scope", sa.String(64), primary_key=True),
    sa.Column("item", sa.String(64), primary_key=True),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("expires_unix", sa.Double, nullable=False),
)
"""Items under work: holder, and end in Unix seconds by the database's clock, as workers' own clocks may differ."""


@contextmanager
def exclusively(engine: sa.Engine, address: Address, name: str) -> Iterator[None]:
    """Wait for the lock of a name, and hold it while the block runs.

    SQLite's writes need its only lock, so a file beside the database is locked; servers have advisory locks.
    """
    if address.file:
        with FileLock(address.file.with_name(f".{address.file.name}.{name}.lock"), poll_interval=POLL_SECONDS):
            yield
        return
    with engine.connect() as connection:
        if address.kind == "postgresql":
            key = int.from_bytes(sha256(f"mixscout:{name}".encode()).digest()[:8], "big", signed=True)
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield
            connection.commit()
            return
        names = {"name": f"mixscout:{sha256(f'{address.url.database}:{name}'.encode()).hexdigest()[:40]}"}
        while connection.scalar(sa.text("SELECT GET_LOCK(:name, 3600)"), names) != 1:
            pass
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), names)


class Leases:
    """The leases of one database, as one worker sees them."""

    def __init__(self, engine: sa.Engine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self.holder = f"{_place()}:{os.getpid()}:{_began(os.getpid())}"

    def take(self, scope: str, item: str) -> bool:
        """Take a lease, or keep it; False when another living worker has it."""
        expires = self._now() + self._seconds
        try:
            with self._engine.begin() as connection:
                connection.execute(
                    sa.insert(LEASES).values(scope=scope, item=item, holder=self.holder, expires_unix=expires)
                )
            return True
        except IntegrityError:
            pass  # somebody has it, or had it
        this = (LEASES.c.scope == scope) & (LEASES.c.item == item)
        with self._engine.begin() as connection:
            before = connection.scalar(sa.select(LEASES.c.holder).where(this)) or self.holder
            dead = before == self.holder or is_dead(before)
            free = sa.true() if dead else LEASES.c.expires_unix < self._now()
            taken = sa.update(LEASES).where(this, LEASES.c.holder == before, free)
            return connection.execute(taken.values(holder=self.holder, expires_unix=expires)).rowcount == 1

    def give_back(self, scope: str, item: str) -> None:
        """End a lease of this worker; another worker's lease stays."""
        self._delete(LEASES.c.scope == scope, LEASES.c.item == item)

    def give_back_of_all(self, scope: str, items: Collection[str]) -> None:
        """End the leases of items that nobody works on any more: a lost worker's too."""
        there = sa.select(LEASES.c.item).where(LEASES.c.scope == scope)
        with self._engine.begin() as connection:
            for item in set(connection.scalars(there)).intersection(items):
                connection.execute(sa.delete(LEASES).where(LEASES.c.scope == scope, LEASES.c.item == item))

    def held_by_others(self, scope: str) -> set[str]:
        """List the items of other living workers in a scope."""
        alive = LEASES.c.expires_unix >= self._now()
        theirs = sa.select(LEASES.c.item, LEASES.c.holder).where(
            LEASES.c.scope == scope, LEASES.c.holder != self.holder, alive
        )
        with self._engine.connect() as connection:
            return {item for item, holder in connection.execute(theirs) if not is_dead(holder)}

    def wait_for(self, scope: str, item: str) -> None:
        """Take a lease, after growing pauses while another worker has it."""
        pause = 0.02
        while not self.take(scope, item):
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)

    def renew(self) -> None:
        """Renew all leases of this worker."""
        with self._engine.begin() as connection:
            mine = sa.update(LEASES).where(LEASES.c.holder == self.holder)
            connection.execute(mine.values(expires_unix=self._now() + self._seconds))

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew all leases of this worker from a thread while the block runs; give them back at its end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_renewing, args=(ended,), name="leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(SQLAlchemyError, StorageError):
                self._delete()

    def _keep_renewing(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / RENEWALS):
            with suppress(SQLAlchemyError, StorageError):  # the server may be back before the lease is over
                self.renew()

    def _delete(self, *which: sa.ColumnElement[bool]) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(LEASES).where(LEASES.c.holder == self.holder, *which))

    def _now(self) -> sa.ColumnElement[float]:
        kind = self._engine.dialect.name
        if kind == "postgresql":
            return sa.cast(sa.func.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        if kind == "sqlite":
            return sa.cast(sa.text("(julianday('now') - 2440587.5) * 86400.0"), sa.Double)
        return sa.cast(sa.func.unix_timestamp(sa.func.now(6)), sa.Double)


def is_dead(holder: str) -> bool:
    """Tell whether a holder (`PLACE:PID:BEGAN`) is a process of this machine, and gone or a zombie."""
    place, number, began = holder.split(":")
    return place == _place() and _began(int(number)) != began


@cache
def _place() -> str:
    """Name the scope of process numbers: this boot of the kernel, and this process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return sha256(f"{boot}:{Path('/proc/self/ns/pid').readlink()}".encode()).hexdigest()[:16]
    except OSError:  # not Linux: nobody is known to be dead, and leases run out
        return uuid.uuid4().hex[:16]


def _began(number: int) -> str | None:
    """Return the start of a process in ticks since boot; None for a dead one. psutil's would move with the clock."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError:
        return "unknown"
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]
