"""What every test can ask for.

clock           a ManualClock at 2026-03-02 09:00 UTC; ``clock.advance(hours=2)`` moves it
database        an empty Database with every wing's tables, on SQLite in memory. Elsewhere:
                ``@EVERY_DATABASE`` from tests.support.databases, or parametrize it yourself, indirectly
in_unit         ``in_unit(grant, account_id=..., now=...)`` runs a service function in a transaction of its own
postgres        the session's private PostgreSQL server (computehub_ext.testing.postgres)
postgres_url    the address of a new, empty database on it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database, Unit, metadata
from computehub_ext.testing.postgres import PostgresCluster, postgres_cluster
from computehub_ext.testing.stores import import_every_store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(request: pytest.FixtureRequest, clock: ManualClock, tmp_path: Path) -> Iterator[Database]:
    import_every_store()
    match getattr(request, "param", "memory"):
        case "memory":
            url = "sqlite://"
        case "file":
            url = f"sqlite:///{tmp_path / 'computehub.db'}"
        case "postgres":
            url = request.getfixturevalue("postgres_url")
        case other:
            raise ValueError(f"no such database: {other}")
    with Database(url, clock=clock) as database:
        # What can be created: a wing that is being built may name tables that are not there yet.
        database.write(create_resolvable)
        yield database


def create_resolvable(unit: Unit) -> None:
    tables = metadata.tables
    wanted = set(tables)
    while lost := {n for n in wanted for f in tables[n].foreign_keys if f._column_tokens[1] not in wanted}:
        wanted -= lost
    for name in wanted:  # sorted by hand: metadata's own sorting stops at the first unknown table
        _create(unit, name)


def _create(unit: Unit, name: str) -> None:
    table = metadata.tables[name]
    for needed in sorted(key._column_tokens[1] for key in table.foreign_keys):
        if needed != name:
            _create(unit, needed)
    table.create(unit.connection, checkfirst=True)


@pytest.fixture
def in_unit(database: Database) -> Callable[..., Any]:
    def run(service: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return database.write(lambda unit: service(unit, *arguments, **named))

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    with postgres_cluster() as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: PostgresCluster) -> Iterator[str]:
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)
