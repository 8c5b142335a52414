"""series of bookings, and the lease that a line of the history paid for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from computehub_ext.core.tables import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "booking_series",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("person_id", sa.String(length=40), nullable=False),
        sa.Column("rrule", sa.String(length=300), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("remarks", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_booking_series_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_booking_series")),
    )
    with op.batch_alter_table("booking_series", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_booking_series_person_id"), ["person_id"], unique=False)
    # Neither a new column without a constraint nor an index makes SQLite copy the table.
    op.add_column("bookings", sa.Column("series_id", sa.String(length=40), nullable=True))
    with op.batch_alter_table("bookings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bookings_series_id_start_at"), ["series_id", "start_at"], unique=False)
    with op.batch_alter_table("leases", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_leases_hold_id"), ["hold_id"], unique=False)
