"""The chain of migrations leads to the tables that the code uses, on both kinds of database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect

from computehub_ext.bookings import service as bookings
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database, Unit, metadata
from computehub_ext.core.errors import Unavailable
from computehub_ext.core.migrations import configured, upgrade
from computehub_ext.core.settings import Settings
from computehub_ext.leases import store as leases
from computehub_ext.leases.model import LeaseState
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import Defaults
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


@REAL_DATABASES
def test_what_an_earlier_version_wrote_is_still_there(
    database: Database, new_database: Callable[[Database], Database], clock: ManualClock
) -> None:
    """A booking with its hold and lease, written at revision 0002, whose rows point at each other."""
    older = new_database(database)
    older.write(lambda unit: upgrade(unit.connection, "0002"))
    times = dict.fromkeys(("created_at", "changed_at", "start_at", "opened_at"), clock.now())
    rows: dict[str, dict[str, Any]] = {
        "accounts": {"id": "person:p", "floor_microcredits": 0, "posted_microcredits": 0, "held_microcredits": 0},
        "people": {"id": "p", "username": "ada", "display_name": "Ada"},
        "holds": {"id": "h", "account_id": "person:p", "state": "open", "amount_microcredits": 0,
                  "drawn_microcredits": 0, "memo": ""},
        "pools": {"id": "pool", "name": "T4", "backend": "local", "model": "T4", "count": 1, "memory_mib": 1,
                  "rate_microcredits_per_hour": 1, "simulated": True},
        "bookings": {"id": "b", "person_id": "p", "pool_id": "pool", "model": "T4", "count": 1, "state": "active",
                     "hold_id": "h", "rate_microcredits_per_hour": 1, "amount_microcredits": 1, "key": "k",
                     "input_hash": "x", "end_at": clock.now() + timedelta(hours=1)},
        "leases": {"id": "l", "booking_id": "b", "hold_id": "h", "person_id": "p", "pool_id": "pool", "model": "T4",
                   "count": 1, "rate_microcredits_per_hour": 1, "kernel_id": "k", "state": "running",
                   "ends_at": clock.now() + timedelta(hours=1), "idle_timeout_seconds": 60, "on_the_spot": True,
                   "posted_microcredits": 0, "busy": False, "warned": ""},
    }  # fmt: skip

    def fill(unit: Unit) -> None:
        for name, row in rows.items():
            table = metadata.tables[name]
            unit.connection.execute(insert(table), {**{k: v for k, v in times.items() if k in table.c}, **row})

    older.write(fill)
    older.migrate()
    [lease] = older.read(lambda unit: leases.in_states(unit, [LeaseState.RUNNING]))
    booking = older.read(lambda unit: bookings.find(unit, lease.booking_id))
    assert (booking.id, booking.series_id) == ("b", None)
    ada = older.read(lambda unit: people.get_person(unit, "p"))
    assert ada.defaults == Defaults(), "who was there before follows the administrator"
    changes, settings = {"idle_timeout": timedelta(minutes=15)}, Settings()
    now = clock.now()
    older.write(lambda unit: people.set_defaults(unit, person=ada, changes=changes, settings=settings, now=now))
    assert older.read(lambda unit: people.get_person(unit, "p")).defaults == Defaults(**changes, changed_at=now)
