"""The chain of migrations leads to the tables that the code uses, on both kinds of database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database, Unit, metadata
from computehub_ext.core.errors import Unavailable
from computehub_ext.core.migrations import configured
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.testing.stores import import_every_store
from tests.support.databases import REAL_DATABASES


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Opens an empty database of the kind that ``database`` is of."""
    import_every_store()
    opened: list[Database] = []

    def open_new(database: Database) -> Database:
        sqlite = database.url.get_backend_name() == "sqlite"
        url = f"sqlite:///{tmp_path}/new/{len(opened)}.db" if sqlite else request.getfixturevalue("postgres_url")
        opened.append(Database(url))
        return opened[-1]

    yield open_new
    for database in opened:
        database.close()


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in sorted(value.items())}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else str(value)


def shape(unit: Unit) -> dict[str, Any]:
    """All that a database says of its tables, in an order that does not depend on how they were made."""
    look = inspect(unit.connection)
    parts = ("columns", "foreign_keys", "unique_constraints", "check_constraints", "indexes")
    found: dict[str, Any] = {}
    for table in look.get_table_names():
        if table != "alembic_version":
            found[table] = {
                part: sorted(repr(plain(item)) for item in getattr(look, f"get_{part}")(table)) for part in parts
            }
            found[table]["primary_key"] = repr(look.get_pk_constraint(table)["constrained_columns"])
    return found


@REAL_DATABASES
def test_migrating_gives_what_the_code_declares(
    database: Database, new_database: Callable[[Database], Database]
) -> None:
    migrated = new_database(database)
    migrated.migrate()
    made, declared = migrated.read(shape), database.read(shape)
    assert made.keys() == declared.keys() == metadata.tables.keys()
    for table in declared:
        assert made[table] == declared[table], table
    assert migrated.read(lambda unit: compare_metadata(MigrationContext.configure(unit.connection), metadata)) == []


@REAL_DATABASES
def test_migrating_twice_is_fine_and_the_books_work_on_it(
    database: Database, new_database: Callable[[Database], Database], clock: ManualClock
) -> None:
    migrated = new_database(database)
    assert migrated.revision() is None
    migrated.migrate()
    migrated.migrate()
    head = migrated.read(lambda unit: ScriptDirectory.from_config(configured(unit.connection)).get_current_head())
    assert migrated.revision() == head
    person = migrated.write(
        lambda unit: people.ensure_person(unit, username="ada", display_name="Ada", now=clock.now())
    )
    balance = migrated.read(lambda unit: ledger.balance(unit, person.account_id))
    assert balance.available_microcredits == 10_000_000
    assert migrated.read(ledger.verify) == []


@REAL_DATABASES
def test_a_migration_that_fails_leaves_nothing(
    database: Database, new_database: Callable[[Database], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    migrated = new_database(database)
    monkeypatch.setattr("alembic.operations.Operations.create_index", _fail)
    monkeypatch.setattr("alembic.operations.BatchOperations.create_index", _fail)
    with pytest.raises(RuntimeError, match="half way"):
        migrated.migrate()
    assert migrated.read(lambda unit: inspect(unit.connection).get_table_names()) == []


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_a_database_of_a_newer_version_is_left_alone(
    database: Database, new_database: Callable[[Database], Database]
) -> None:
    newer = new_database(database)
    newer.migrate()
    newer.write(lambda unit: unit.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unavailable, match="revision 9999, which this version of ComputeHub does not know"):
        newer.migrate()


def _fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("half way")
