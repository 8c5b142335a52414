"""The database: one way to write, one way to read, over SQLite or PostgreSQL.

    database.write(lambda unit: ledger.grant(unit, ...))

Services get a ``Unit`` and never open a transaction. On SQLite one thread writes for everybody (see ``writer``) and
a few connections read; on PostgreSQL each write is a serializable transaction, tried again when it lost a race.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool, StaticPool

from computehub_ext.core import outbox
from computehub_ext.core.clock import Clock, SystemClock
from computehub_ext.core.errors import Invalid, Unavailable
from computehub_ext.core.outbox import Event, Listener
from computehub_ext.core.tables import UtcDateTime, metadata
from computehub_ext.core.turns import Turns
from computehub_ext.core.unit import Unit
from computehub_ext.core.writer import GroupWriter

__all__ = ["Database", "Event", "MetaData", "Unit", "UtcDateTime", "metadata"]

T = TypeVar("T")

READERS_MAX = 4
BUSY_TIMEOUT_MILLISECONDS = 5_000
"""How long a SQLite write waits for another process, such as ``computehub grant``."""
POSTGRES_CONNECTIONS_MAX = 10
WRITE_ATTEMPTS_MAX = 12
# serialization_failure, deadlock_detected, and unique_violation: two that inserted the same row at the same moment;
# tried again, the loser sees the winner's.
_LOST_RACES = {"40001", "40P01", "23505"}


class Database:
    """Where everything that must not be lost is kept.

    Parameters
    ----------
    url:
        ``sqlite:////path/to/file``, ``sqlite://`` (in memory, for tests) or ``postgresql+psycopg://...``.
    clock:
        Dates the events of the outbox.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.url = make_url(url)
        self._clock = clock or SystemClock()
        self._writer: GroupWriter | None = None
        self._turns: Turns | None = None
        self._write_engine: Engine
        self._read_engine: Engine
        self._closed = False
        self._slow_lane = threading.Lock()
        match self.url.get_backend_name():
            case "sqlite":
                self._open_sqlite()
            case "postgresql":
                # One engine with two faces: the isolation of a transaction is set when it starts.
                engine = create_engine(self.url, pool_size=POSTGRES_CONNECTIONS_MAX, max_overflow=0, pool_pre_ping=True)
                self._write_engine = engine.execution_options(isolation_level="SERIALIZABLE")
                self._read_engine = engine.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
            case other:
                raise Invalid(f"ComputeHub keeps its data in sqlite or postgresql, not in {other}.", field="url")
        self._deliverer = outbox.Deliverer(self._load_events, self._mark_events)

    # -- the two ways in -----------------------------------------------------------------------------------------------

    def write(self, work: Callable[[Unit], T]) -> T:
        """Run ``work`` in one transaction; return its result once that is durable, or store nothing and raise.

        ``work`` may run more than once (after a lost race on PostgreSQL, after another's failure on SQLite), so what it
        does besides the database is registered with ``unit.on_rollback`` or ``unit.after_commit``.
        """
        unit, result = self._writer.submit(work) if self._writer else self._write_with_retries(work)
        self._committed(unit)
        return result

    @property
    def has_writer(self) -> bool:
        """Whether one thread writes for everybody, so that another need not wait for it: see ``write_soon``."""
        return self._writer is not None

    async def write_soon(self, work: Callable[[Unit], T]) -> T:
        """``write`` for a coroutine, where the database has a writer: no thread is held up meanwhile.

        A caller that is cancelled stops waiting, but ``work`` runs to its end: a transaction has no half.
        """
        assert self._writer is not None, "asked before"
        loop, turns = asyncio.get_running_loop(), self._turns
        if turns is None or turns.loop is not loop:
            turns = self._turns = Turns(loop, self._writer, self._committed)
        result: T = await turns.ask(work)
        return result

    def read(self, work: Callable[[Unit], T]) -> T:
        """Run ``work`` on one unchanging view of what is committed."""
        if self._closed:
            raise Unavailable("The database is closed.")
        if self._is_memory:  # its only connection belongs to the writer
            assert self._writer is not None
            return self._writer.submit(work, read_only=True)[1]
        with self._read_engine.connect() as connection, connection.begin():
            return work(Unit(connection, self._clock, read_only=True))

    # -- events --------------------------------------------------------------------------------------------------------

    def listen(self, listener: Listener, *, in_background: bool = True) -> None:
        """Tell ``listener`` each event after its commit, from a thread of ours, or only in ``deliver``."""
        self._deliverer.listen(listener, in_background=in_background)

    def deliver(self) -> int:
        """Tell now what waits in the outbox; return how many events that was."""
        return self._deliverer.deliver()

    # -- the schema ----------------------------------------------------------------------------------------------------

    def create_all(self) -> None:
        """Create the tables of every wing imported so far: for tests. A real database comes from ``migrate``."""
        self.write(lambda unit: metadata.create_all(unit.connection))

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema to ``revision``, all of it or nothing."""
        from computehub_ext.core.migrations import upgrade

        self.write(lambda unit: upgrade(unit.connection, revision))

    def revision(self) -> str | None:
        """The revision that the schema is at, or None for a database that was never migrated."""
        from computehub_ext.core.migrations import current

        return self.read(lambda unit: current(unit.connection))

    # -- ending --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish the writes that were asked for, then let go of threads and files. A second close does nothing."""
        if self._closed:
            return
        self._deliverer.close()
        self._closed = True
        if self._writer is not None:
            self._writer.close()
        self._read_engine.dispose()
        self._write_engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _committed(self, unit: Unit) -> None:
        if unit.emitted:
            self._deliverer.wake()
        unit.committed()

    @property
    def _is_memory(self) -> bool:
        return self._writer is not None and self.url.database in (None, "", ":memory:")

    def _open_sqlite(self) -> None:
        if self.url.database in (None, "", ":memory:"):
            self._write_engine = self._read_engine = _sqlite_engine(self.url, None, StaticPool)
        else:
            path = Path(str(self.url.database))
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The owner's alone, wherever it lies; SQLite gives its log the same mode.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._write_engine = _sqlite_engine(self.url, None, QueuePool, pool_size=1, max_overflow=0)
            self._read_engine = _sqlite_engine(
                self.url, "BEGIN", QueuePool, read_only=True, pool_size=READERS_MAX, max_overflow=0
            )
        self._writer = GroupWriter(
            self._write_engine,
            lambda connection, read_only, seen: Unit(connection, self._clock, read_only=read_only, seen=seen),
        )

    def _write_with_retries(self, work: Callable[[Unit], T]) -> tuple[Unit, T]:
        """Try ``work`` until it loses no race, from the third attempt on one after another within this process."""
        if self._closed:
            raise Unavailable("The database is closed.")
        for attempt in range(1, WRITE_ATTEMPTS_MAX + 1):
            try:
                with self._slow_lane if attempt > 2 else contextlib.nullcontext():
                    return self._write_once(work)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _LOST_RACES:
                    raise
                lost = error
                time.sleep(random.uniform(0, 0.001 * 2 ** min(attempt, 6)))
        if getattr(lost.orig, "sqlstate", None) == "23505":
            raise lost
        raise Unavailable(f"The database was too busy: {WRITE_ATTEMPTS_MAX} attempts lost a race.") from lost

    def _write_once(self, work: Callable[[Unit], T]) -> tuple[Unit, T]:
        with _connected(self._write_engine) as connection:
            unit = Unit(connection, self._clock)
            try:
                with connection.begin():
                    result = work(unit)
            except BaseException:
                unit.rolled_back()
                raise
            return unit, result

    def _load_events(self) -> list[Event]:
        return self.read(outbox.undelivered)

    def _mark_events(self, events: list[Event]) -> None:
        self.write(lambda unit: outbox.mark(unit, events, self._clock.now()))


@contextlib.contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise Unavailable(f"The database can't be reached: {error.orig}") from error
    with connection:
        yield connection


def _sqlite_engine(
    url: URL,
    begin: str | None,
    poolclass: type[QueuePool] | type[StaticPool],
    *,
    read_only: bool = False,
    **options: Any,
) -> Engine:
    """An engine that begins each transaction with ``begin``, or with None leaves transactions to whoever uses it."""
    # The driver's own BEGIN comes late, and not before every statement; AUTOCOMMIT turns it off.
    engine = create_engine(
        url, poolclass=poolclass, connect_args={"check_same_thread": False}, isolation_level="AUTOCOMMIT", **options
    )

    @event.listens_for(engine, "connect")
    def _configure(driver: Any, _record: object) -> None:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}")
        driver.execute("PRAGMA foreign_keys = ON")
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute("PRAGMA synchronous = FULL")
        # What a savepoint may have to take back, which is nothing that a crash could want: not into a file of its own.
        driver.execute("PRAGMA temp_store = MEMORY")
        if read_only:
            driver.execute("PRAGMA query_only = ON")

    if begin is not None:

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine
