"""What an evaluation rests on, so that one of a smaller pool is known to hold for a larger one."""

from alembic import op
from sqlalchemy import Column, String

revision = "foundations_3"
down_revision = "leases_2"


def upgrade() -> None:
    """Add the column; of older evaluations it is not known."""
    op.add_column("evaluations", Column("foundation", String(64)))
    op.create_index("evaluations_by_foundation", "evaluations", ["foundation"])
