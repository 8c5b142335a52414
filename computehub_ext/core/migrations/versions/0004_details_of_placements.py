"""what a place told of a placement: an image's digest, a job's number."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A new column without a constraint does not make SQLite copy the table.
    op.add_column("placements", sa.Column("details", sa.Text(), nullable=True))
