"""What the classes of Mixscout's own tables have in common. The tables themselves are made by studies.migrations."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

TABLES = MetaData()


class Row(DeclarativeBase):
    """A row of one of Mixscout's own tables."""

    metadata = TABLES
