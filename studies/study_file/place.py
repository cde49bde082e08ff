"""The place of a study's database, from its file alone: before the study is opened, and after it is closed."""

from __future__ import annotations

from pool.config.pool_file import read_pool_file
from studies.database.address import DATABASE_FILE, Address, address_of
from studies.study_file.study_file import StudyFile


def address_of_study(config: StudyFile) -> Address:
    """Return the address of a study's database; by default a file beside its pool file or table."""
    if config.pool is not None:
        root = read_pool_file(config.pool).root
    else:
        assert config.table is not None, "a study stands on a pool or on a table"
        root = config.table.parent
    return address_of(config.database, root / DATABASE_FILE)
