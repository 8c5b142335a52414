"""What every test can ask for.

clock           a ManualClock at 2026-03-02 09:00 UTC; ``clock.advance(hours=2)`` moves it
database        an empty Database with every wing's tables, on SQLite in memory. Elsewhere:
                ``@EVERY_DATABASE`` from tests.support.databases, or parametrize it yourself, indirectly
in_unit         ``in_unit(grant, account_id=..., now=...)`` runs a service function in a transaction of its own
postgres        the session's private PostgreSQL server (computehub_ext.testing.postgres)
postgres_url    the address of a new, empty database on it; ``postgres_filled_url``: one with every wing's tables
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
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
            url = request.getfixturevalue("postgres_filled_url")
        case other:
            raise ValueError(f"no such database: {other}")
    with Database(url, clock=clock) as database:
        if database.url.get_backend_name() == "sqlite":
            database.create_all()
        yield database


@pytest.fixture
def in_unit(database: Database) -> Callable[..., Any]:
    def run(service: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return database.write(lambda unit: service(unit, *arguments, **named))

    return run


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresCluster]:
    # Nobody pulls this machine's plug in a test; without waiting for the disk they take a third of the time.
    with postgres_cluster(durable=False) as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: PostgresCluster) -> Iterator[str]:
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresCluster) -> str:
    """A database with every wing's tables, to be copied: creating them anew for each test would take half a second."""
    import_every_store()
    url = postgres.new_database()
    with Database(url) as database:
        database.create_all()
    return url


@pytest.fixture
def postgres_filled_url(postgres: PostgresCluster, postgres_template: str) -> Iterator[str]:
    url = postgres.new_database(template=postgres_template)
    yield url
    postgres.drop_database(url)
