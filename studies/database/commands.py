"""The ledger of a study's commands: one row for each that has ended, whatever its end."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from pool.parts.commands import Command
from studies.database.address import Address
from studies.database.kept_file import why_not_written
from studies.database.leases import TABLES

COMMANDS = sa.Table(
    "commands",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.String(512), nullable=False),
    sa.Column("verb", sa.String(64), nullable=False),
    sa.Column("began_unix", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("processor_seconds", sa.Double, nullable=False),
)
_PATIENCE_SECONDS = 10


def keep_in_study(address: Address, study: str, command: Command) -> None:
    """Add a command to a study's ledger.

    A database that is not there, not writable, full, out of reach or of another version keeps none, without a word.
    """
    file, limit = address.file, "timeout" if address.file else "connect_timeout"
    if file is not None and (not file.exists() or why_not_written(file)):
        return
    with suppress(SQLAlchemyError, OSError, RuntimeError):  # RuntimeError: PyMySQL's for a missing library
        engine = sa.create_engine(address.url, connect_args={limit: _PATIENCE_SECONDS})
        try:
            with engine.begin() as connection:
                connection.execute(sa.insert(COMMANDS).values(study=study, **asdict(command)))
        finally:
            engine.dispose()


def kept_in_study(engine: sa.Engine, study: str) -> list[Command]:
    """Read a study's ledger, the earliest row first."""
    columns = [COMMANDS.c[name] for name in ("verb", "began_unix", "seconds", "processor_seconds")]
    query = sa.select(*columns).where(COMMANDS.c.study == study).order_by(COMMANDS.c.id)
    with engine.connect() as connection:
        return [Command(**row) for row in connection.execute(query).mappings()]
