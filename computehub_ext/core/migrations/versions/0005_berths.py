"""places that were asked for ahead of a booking."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from computehub_ext.core.tables import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "berths",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("booking_id", sa.String(length=40), nullable=False),
        sa.Column("backend", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=80), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("kept_until", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=False),
        sa.Column("ready_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["booking_id"], ["bookings.id"], name=op.f("fk_berths_booking_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_berths")),
    )
    with op.batch_alter_table("berths", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_berths_booking_id"), ["booking_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_berths_state"), ["state"], unique=False)
