"""what a person chose for moves and bookings that say nothing else."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from computehub_ext.core.tables import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # New columns without a constraint do not make SQLite copy the table.
    op.add_column("people", sa.Column("idle_timeout_seconds", sa.Integer(), nullable=True))
    op.add_column("people", sa.Column("duration_seconds", sa.Integer(), nullable=True))
    op.add_column("people", sa.Column("max_rate_microcredits_per_hour", sa.BigInteger(), nullable=True))
    op.add_column("people", sa.Column("defaults_changed_at", UtcDateTime(), nullable=True))
