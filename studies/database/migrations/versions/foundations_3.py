"""Mixscout's own tables: evaluations, and leases on work."""

import sqlalchemy as sa
from alembic import op

revision = "foundations_3"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("objective_digest", sa.String(64), nullable=False),
        sa.Column("mixture_digest", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("mixture", sa.JSON, nullable=False),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("standard_error", sa.Double),
        sa.Column("objective_values", sa.JSON, nullable=False),
        sa.Column("violation", sa.Double, nullable=False),
        sa.Column("domains", sa.JSON, nullable=False),
        sa.Column("windows", sa.LargeBinary(2**31)),
        sa.Column("gradient", sa.JSON),
        sa.Column("jacobian", sa.JSON),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("tokens_read", sa.BigInteger, nullable=False),
        sa.Column("created_unix", sa.Double, nullable=False),
        sa.Column("foundation", sa.String(64)),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("objective_digest", "mixture_digest", name="one_evaluation_a_mixture"),
    )
    op.create_index("evaluations_by_foundation", "evaluations", ["foundation"])
    op.create_table(
        "leases",
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("item", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(128), nullable=False),
        sa.Column("expires_unix", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("scope", "item"),
    )
