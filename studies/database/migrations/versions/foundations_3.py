"""Mixscout's own tables: evaluations, and leases on work."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    UniqueConstraint,
)

revision = "foundations_3"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "evaluations",
        Column("id", Integer, nullable=False),
        Column("objective_digest", String(64), nullable=False),
        Column("mixture_digest", String(64), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("mixture", JSON, nullable=False),
        Column("value", Double, nullable=False),
        Column("standard_error", Double),
        Column("objective_values", JSON, nullable=False),
        Column("violation", Double, nullable=False),
        Column("domains", JSON, nullable=False),
        Column("windows", LargeBinary(2**31)),
        Column("gradient", JSON),
        Column("jacobian", JSON),
        Column("seconds", Double, nullable=False),
        Column("tokens_read", BigInteger, nullable=False),
        Column("created_unix", Double, nullable=False),
        Column("foundation", String(64)),
        PrimaryKeyConstraint("id"),
        UniqueConstraint("objective_digest", "mixture_digest", name="one_evaluation_a_mixture"),
    )
    op.create_index("evaluations_by_foundation", "evaluations", ["foundation"])
    op.create_table(
        "leases",
        Column("scope", String(64), nullable=False),
        Column("item", String(64), nullable=False),
        Column("holder", String(128), nullable=False),
        Column("expires_unix", Double, nullable=False),
        PrimaryKeyConstraint("scope", "item"),
    )
