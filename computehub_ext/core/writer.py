"""SQLite's single writer: the requests of many threads in one durable commit.

SQLite lets one transaction write at a time, and with full durability a commit waits for the disk. Twenty threads that
commit for themselves queue up at the lock (99th percentile: most of a second). Here they queue up for one thread, which
takes whatever waits and commits once for all of them.

A savepoint for each request would cost a booking a twelfth of its time, though few requests fail. So a group begins
without; at the first failure all of it is taken back and served again with savepoints, and so is the next group.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from computehub_ext.core.errors import Unavailable
from computehub_ext.core.unit import Unit

GROUP_MAX = 200
GROUP_SECONDS = 0.025
"""A group stops taking requests after this long, so that the first of it does not wait for the last. Twenty bookings
take 6 ms, and three times that on a busy machine: cut in two, they would wait for two commits."""

Work = Callable[[Unit], Any]
Tell = Callable[["Request"], Callable[[], None] | None]


class Request:
    """One caller's work on its way through the writer, which calls ``tell`` when it is on the disk or has failed.

    What ``tell`` returns is called once for all requests of a commit that return the same.
    """

    __slots__ = ("error", "read_only", "result", "tell", "unit", "work")

    def __init__(self, work: Work, tell: Tell, *, read_only: bool = False) -> None:
        self.work = work
        self.tell = tell
        self.read_only = read_only
        self.unit: Unit | None = None
        self.result: Any = None
        self.error: BaseException | None = None


class GroupWriter:
    """Runs work in shared transactions, in one thread and in the order of asking; maybe twice.

    Parameters
    ----------
    engine:
        Its connections must be in AUTOCOMMIT, which leaves transactions to us.
    make_unit:
        Builds the unit for one request; what the requests of a transaction have ``seen`` is theirs in common.
    """

    def __init__(self, engine: Engine, make_unit: Callable[[Connection, bool, dict[Any, Any]], Unit]) -> None:
        self._engine = engine
        self._make_unit = make_unit
        self._queue: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._is_careful = False
        """Whether each request gets a savepoint, since one of the last group failed."""
        self._closing = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="computehub-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Work, *, read_only: bool = False) -> tuple[Unit, Any]:
        """Run ``work`` and return its unit and result once they are on the disk; raise what it raised."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("a unit of work can't open another: the single writer would wait for itself")
        done = threading.Lock()  # bare: an Event costs four times as much
        done.acquire()
        request = Request(work, lambda _: done.release(), read_only=read_only)
        self._put(request)
        done.acquire()
        if request.error is not None:
            raise request.error
        assert request.unit is not None
        return request.unit, request.result

    @property
    def waiting(self) -> int:
        """How many requests nobody has begun to serve."""
        return self._queue.qsize()

    def submit_soon(self, requests: Iterable[Request]) -> None:
        """Serve ``requests`` while the caller goes on; each one's ``tell`` is called from the writer's thread."""
        self._put(*requests)

    def _put(self, *requests: Request) -> None:
        with self._gate:  # so that no request slips in behind the one that closes
            if self._closing:
                raise Unavailable("The database is closed.")
            for request in requests:
                self._queue.put(request)

    def close(self) -> None:
        """Finish what was asked for, then end the thread."""
        with self._gate:
            if self._closing:
                return
            self._closing = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        connection: Connection | None = None
        try:
            while not closing:
                request = self._queue.get()
                if request is None:
                    return
                # One connection for good; a new one only after a failure that may have been the connection's own.
                try:
                    connection = connection or self._engine.connect()
                except Exception as error:
                    self._lost([request], error)
                    continue
                closing, failed = self._serve_group(connection, request)
                if failed:
                    connection.invalidate()
                    connection.close()
                    connection = None
        finally:
            if connection is not None:
                connection.close()

    def _serve_group(self, connection: Connection, first: Request) -> tuple[bool, bool]:
        """Serve ``first`` and those behind it with one commit; say whether we are to close, and whether it failed."""
        served: list[Request] = []
        closing = failed = False
        seen: dict[Any, Any] = {}  # no other process writes between BEGIN IMMEDIATE and COMMIT
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        try:
            # Transactions and savepoints go past SQLAlchemy, whose own would cost more than many a request.
            driver.execute("BEGIN IMMEDIATE")
            until = time.monotonic() + GROUP_SECONDS
            request: Request | None = first
            while request is not None:
                served.append(request)
                if self._is_careful or request.read_only:
                    self._serve_apart(connection, driver, request, seen)
                elif not self._serve(connection, driver, request, seen):
                    self._is_careful = True
                    self._serve_again(connection, driver, served, seen)
                if len(served) >= GROUP_MAX or time.monotonic() > until:
                    break
                try:
                    request = self._queue.get_nowait()
                    closing = request is None
                except queue.Empty:
                    break
            stored = any(request.error is None and not request.read_only for request in served)
            self._is_careful = any(request.error is not None for request in served)
            driver.execute("COMMIT" if stored else "ROLLBACK")
        except Exception as error:
            failed = True
            self._lost(served or [first], error)
        else:
            _tell(served)
        return closing, failed

    def _serve(
        self, connection: Connection, driver: sqlite3.Connection, request: Request, seen: dict[Any, Any]
    ) -> bool:
        """Run its work, and say whether what it did may stay."""
        unit = request.unit = self._make_unit(connection, request.read_only, seen)
        try:
            request.result = request.work(unit)
        except BaseException as error:
            request.error = error
        if request.error is None and not driver.in_transaction:
            # SQLite itself rolled everything back (disk full, I/O error), though the work said nothing of it.
            request.error = Unavailable("The database lost its transaction.")
        return request.error is None and not request.read_only

    def _serve_apart(
        self, connection: Connection, driver: sqlite3.Connection, request: Request, seen: dict[Any, Any]
    ) -> None:
        driver.execute("SAVEPOINT request")
        if not self._serve(connection, driver, request, seen):
            _undo(request)
            if not driver.in_transaction:
                # The earlier requests with it.
                raise Unavailable("The database lost its transaction.") from request.error
            driver.execute("ROLLBACK TO request")
            seen.clear()  # it may have seen what it wrote itself
        driver.execute("RELEASE request")

    def _serve_again(
        self, connection: Connection, driver: sqlite3.Connection, served: list[Request], seen: dict[Any, Any]
    ) -> None:
        """Take everything back for the last one's sake; serve each on its own, the last one too: it saw the others."""
        for request in reversed(served):
            _undo(request)
        if driver.in_transaction:
            driver.execute("ROLLBACK")
        seen.clear()
        again = served if len(served) > 1 else []
        for request in again:
            request.error = None
        driver.execute("BEGIN IMMEDIATE")
        for request in again:
            self._serve_apart(connection, driver, request, seen)

    def _lost(self, served: list[Request], error: Exception) -> None:
        """Nothing of this group is stored: take back what it did in memory, and tell each caller."""
        for request in reversed(served):
            _undo(request)
            if request.error is None or request.unit is None:
                request.error = _unavailable(error)
        _tell(served)


def _undo(request: Request) -> None:
    if request.unit is not None:
        request.unit.rolled_back()


def _tell(served: list[Request]) -> None:
    for wake in {request.tell(request) for request in served}:
        if wake is not None:
            wake()


def _unavailable(error: Exception) -> BaseException:
    message = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    failure = Unavailable(f"Nothing was stored: {message}")
    failure.__cause__ = error
    return failure
