"""Brings Mixscout's own tables to this version's revision, through Alembic; several workers may start at once.

What the classes of Mixscout's own tables have in common. The tables themselves are made by studies.database.migrations.
"""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.orm import DeclarativeBase

from pool.errors import StorageError
from studies.database.address import Address
from studies.database.migrations import versions

VERSION_TABLE = "mixscout_version"  # Optuna's migrations have `alembic_version` in the same database


def revision_of(engine: Engine) -> str | None:
    """Return the revision that a database's tables are at; None where there are none, or unversioned ones."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return context.get_current_revision()


def is_current(engine: Engine, address: Address) -> bool:
    """Tell whether nothing is to be done. Raises `StorageError` for a revision that this version does not know."""
    revision = revision_of(engine)
    script = _scripts()
    known = {one.revision for one in script.walk_revisions()}
    if revision is not None and revision not in known:
        raise StorageError(
            f"database {address} was upgraded by a newer Mixscout, to revision {revision!r}; upgrade Mixscout, or set "
            "`database` in the study file to another one"
        )
    return revision == script.get_current_head()


def upgrade(engine: Engine) -> None:
    """Apply every revision that is missing, in one transaction where the database can."""
    script = _scripts()
    with EnvironmentContext(Config(), script) as environment, engine.begin() as connection:
        _run(environment, script, connection)


def _run(environment: EnvironmentContext, script: ScriptDirectory, connection: Connection) -> None:
    environment.configure(
        connection=connection,
        version_table=VERSION_TABLE,
        fn=lambda revision, context: script._upgrade_revs("head", revision),
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with environment.begin_transaction():
        environment.run_migrations()


def _scripts() -> ScriptDirectory:
    folder = Path(versions.__path__[0])
    return ScriptDirectory(str(folder.parent), version_locations=[str(folder)])


TABLES = MetaData()


class Row(DeclarativeBase):
    """A row of one of Mixscout's own tables."""

    metadata = TABLES
