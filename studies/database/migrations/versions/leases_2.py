"""The table of leases: what which worker is busy with, and until when."""

from alembic import op
from sqlalchemy import Column, Double, PrimaryKeyConstraint, String

revision = "leases_2"
down_revision = "evaluations_1"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "leases",
        Column("scope", String(64), nullable=False),
        Column("item", String(64), nullable=False),
        Column("holder", String(128), nullable=False),
        Column("expires_unix", Double, nullable=False),
        PrimaryKeyConstraint("scope", "item"),
    )
