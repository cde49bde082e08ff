"""Leases: what a worker is busy with is a row that it renews while it lives, so that others leave it alone.

The clock is the database's: workers' own clocks may differ. A lease is a row under a unique key, so two workers never
have the same one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import (
    ColumnElement,
    CursorResult,
    Double,
    Engine,
    String,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Mapped, Session, mapped_column

from studies.holder import is_dead, this_process
from studies.rows import Row

RENEWALS = 4
"""Times a lease is renewed before it would end: a missed one does not lose it."""


class LeaseRow(Row):
    """One thing that a worker is busy with; `expires_unix` in seconds by the database's clock."""

    __tablename__ = "leases"

    scope: Mapped[str] = mapped_column(String(64), primary_key=True)
    item: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(128))
    expires_unix: Mapped[float] = mapped_column(Double)


class Leases:
    """The leases of one database, as one worker sees them."""

    def __init__(self, engine: Engine, *, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self.holder = this_process()

    def take(self, scope: str, item: str) -> bool:
        """Take a lease, or keep it; False when another worker has it. One of a dead holder is free."""
        key, now = {"scope": scope, "item": item}, self._now()
        mine = {"holder": self.holder, "expires_unix": now + self._seconds}
        try:
            with Session(self._engine) as session, session.begin():
                session.execute(insert(LeaseRow).values(**key, **mine))
            return True
        except IntegrityError:
            pass  # somebody has it, or had it
        with Session(self._engine) as session, session.begin():
            before = session.scalar(select(LeaseRow.holder).filter_by(**key)) or self.holder
            free = or_(LeaseRow.expires_unix < now, literal(is_dead(before)), LeaseRow.holder == self.holder)
            taken = update(LeaseRow).filter_by(**key, holder=before).where(free).values(**mine)
            result = session.execute(taken)
            assert isinstance(result, CursorResult)
            return result.rowcount == 1

    def give_back(self, scope: str, item: str) -> None:
        """End a lease; does nothing to another worker's."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(LeaseRow).filter_by(scope=scope, item=item, holder=self.holder))

    def held_by_others(self, scope: str) -> set[str]:
        """List the items of a scope that other living workers are busy with."""
        alive = LeaseRow.expires_unix >= self._now()
        query = select(LeaseRow.item, LeaseRow.holder).where(
            LeaseRow.scope == scope, LeaseRow.holder != self.holder, alive
        )
        with Session(self._engine) as session:
            return {item for item, holder in session.execute(query) if not is_dead(holder)}

    def wait_for(self, scope: str, item: str) -> Iterator[None]:
        """Yield as long as another worker has the lease, with growing pauses; then this one has it."""
        pause = 0.02
        while not self.take(scope, item):
            yield
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)

    def renew(self) -> None:
        """Renew all leases of this worker."""
        with Session(self._engine) as session, session.begin():
            mine = update(LeaseRow).where(LeaseRow.holder == self.holder)
            session.execute(mine.values(expires_unix=self._now() + self._seconds))

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew all leases of this worker from a thread while the block runs; give them all back at its end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep_renewing, args=(ended,), name="leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with suppress(SQLAlchemyError), Session(self._engine) as session, session.begin():
                session.execute(delete(LeaseRow).where(LeaseRow.holder == self.holder))

    def _keep_renewing(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / RENEWALS):
            with suppress(SQLAlchemyError):  # the server may be back before the lease is over
                self.renew()

    def _now(self) -> ColumnElement[float]:
        kind = self._engine.dialect.name
        if kind == "postgresql":
            return cast(func.extract("epoch", func.clock_timestamp()), Double)
        if kind == "sqlite":
            return cast(text("(julianday('now') - 2440587.5) * 86400.0"), Double)
        return cast(func.unix_timestamp(func.now(6)), Double)
