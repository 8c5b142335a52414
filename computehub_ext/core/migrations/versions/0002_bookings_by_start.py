"""a person's bookings by their start."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Each new booking is compared with the same person's at that time; without this, with all they ever made.
    with op.batch_alter_table("bookings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_bookings_person_id_start_at"), ["person_id", "start_at"], unique=False)
