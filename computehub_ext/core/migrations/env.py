"""What alembic runs for each command. It uses the connection that it is handed and leaves the commit to its owner."""

from __future__ import annotations

from alembic import context

from computehub_ext.core.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite alters a table by copying it. All of a migration, schema included, is one transaction on both databases.
    render_as_batch=True,
    transactional_ddl=True,
    compare_type=True,
)
context.run_migrations()
