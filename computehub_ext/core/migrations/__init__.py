"""The one chain of migrations, driven in process: no ini file, no second way to name the database.

A new revision: change the tables in a wing's ``store.py``, run ``python scripts/migration.py "why"``, and read what it
wrote. Tests upgrade an empty database and compare it with ``metadata``, on both kinds of database.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, text

from computehub_ext.core.errors import Unavailable

# "ComputeHub" in the PostgreSQL lock that keeps two starting processes from migrating at once.
_ADVISORY_LOCK = 0x436F6D70757465


def configured(connection: Connection) -> Config:
    """Alembic's configuration over a connection that is already open, and whose transaction is ours."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the schema to ``revision`` inside the caller's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    try:
        command.upgrade(configured(connection), revision)
    except CommandError as error:
        raise Unavailable(
            f"The database is at revision {current(connection)}, which this version of ComputeHub does not know: "
            "it was used by a newer one. Upgrade ComputeHub, or restore the database's backup."
        ) from error


def current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
