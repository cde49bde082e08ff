"""The ledger of a study's commands, and the processor time of evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "commands_4"
down_revision = "foundations_3"


def upgrade() -> None:
    """Make the table and the column; what was evaluated before has no processor time."""
    op.create_table(
        "commands",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study", sa.String(512), nullable=False),
        sa.Column("verb", sa.String(64), nullable=False),
        sa.Column("began_unix", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("processor_seconds", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.add_column("evaluations", sa.Column("processor_seconds", sa.Double))
