"""Statements compiled once say on each database what SQLAlchemy says there."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError

from computehub_ext.core.database import Database, Unit
from computehub_ext.core.errors import Invalid, Unavailable
from computehub_ext.core.prepared import Prepared
from computehub_ext.core.turns import WAITING_MAX
from computehub_ext.pools.store import devices, pools

NOW = datetime(2026, 3, 2, 9, 0, 0, 123_456, tzinfo=UTC)
ADD = Prepared(pools.insert())
BY_ID = Prepared(select(pools).where(pools.c.id == bindparam("pool_id"), pools.c.model.in_(["T4", "V100"])))
CHANGE = Prepared(pools.update().where(pools.c.id == bindparam("pool_id")))
POOL: dict[str, Any] = {
    "id": "p", "name": "T4", "backend": "local", "model": "T4", "count": 2, "rate_microcredits_per_hour": 10**12,
    "simulated": True, "memory_mib": 16_384, "created_at": NOW,
}  # fmt: skip


on_each_database = pytest.mark.parametrize("database", ["memory", "file", "postgres"], indirect=True)


def add(unit: Unit) -> None:
    ADD.run(unit, **POOL)


@on_each_database
def test_rows_are_as_sqlalchemy_gives_them(database: Database) -> None:
    def compare(unit: Unit) -> None:
        add(unit)
        plain = unit.connection.execute(select(pools)).one()
        row = BY_ID.first(unit, pool_id="p")
        assert row is not None
        assert tuple(row) == tuple(plain)
        assert row._asdict() == {**POOL, "retired_at": None}
        assert (row.simulated, row.created_at) == (True, NOW)
        assert CHANGE.run(unit, pool_id="p", count=3, retired_at=NOW) == 1
        [changed] = BY_ID.all(unit, pool_id="p")
        assert changed._asdict() == {**POOL, "count": 3, "retired_at": NOW}
        assert BY_ID.first(unit, pool_id="other") is None
        assert CHANGE.run(unit, pool_id="other", count=3) == 0

    database.write(compare)


@on_each_database
def test_a_constraint_refuses_and_nothing_stays(database: Database) -> None:
    def work(unit: Unit) -> None:
        add(unit)
        CHANGE.run(unit, pool_id="p", count=-1)

    with pytest.raises(IntegrityError, match=r"(?i)check constraint"):
        database.write(work)
    assert database.read(lambda unit: BY_ID.first(unit, pool_id="p")) is None


@on_each_database
def test_many_at_once_and_none_at_all(database: Database) -> None:
    add_device = Prepared(devices.insert())
    own = Prepared(select(devices.c["index"]).order_by(devices.c["index"]))
    row = {"pool_id": "p", "name": "T4", "healthy": True}

    def work(unit: Unit) -> list[int]:
        add(unit)
        add_device.run_many(unit, [])
        add_device.run_many(unit, [{"id": f"d{n}", "index": n, "uuid": f"u{n}", **row} for n in range(3)])
        return [found[0] for found in own.all(unit)]

    assert database.write(work) == [0, 1, 2]


@pytest.mark.parametrize("values", [{}, {"pool": "p"}, {"pool_id": "p", "more": 1}])
def test_other_parameters_than_the_statements_are_a_bug(values: dict[str, Any]) -> None:
    with Database("sqlite://") as database, pytest.raises(AssertionError, match="the statement has"):
        database.create_all()
        database.write(lambda unit: BY_ID.all(unit, **values))


class TestSoon:
    """A coroutine's write, without a thread that waits."""

    def test_it_is_stored_when_it_returns(self) -> None:
        done: list[str] = []

        def work(unit: Unit) -> str:
            add(unit)
            unit.after_commit(lambda: done.append("committed"))
            return "result"

        with Database("sqlite://") as database:
            database.create_all()
            assert asyncio.run(database.write_soon(work)) == "result"
            assert done == ["committed"]
            assert database.read(lambda unit: BY_ID.first(unit, pool_id="p")) is not None

    def test_a_refusal_is_raised_and_undone(self) -> None:
        def work(unit: Unit) -> None:
            add(unit)
            raise Invalid("no")

        with Database("sqlite://") as database:
            database.create_all()
            with pytest.raises(Invalid):
                asyncio.run(database.write_soon(work))
            assert database.read(lambda unit: BY_ID.first(unit, pool_id="p")) is None

    def test_who_is_cancelled_leaves_no_half(self) -> None:
        done: list[str] = []

        def work(unit: Unit) -> None:
            add(unit)
            unit.after_commit(lambda: done.append("committed"))

        async def give_up(database: Database) -> None:
            task = asyncio.ensure_future(database.write_soon(work))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await database.write_soon(lambda unit: None)  # behind it in the queue

        with Database("sqlite://") as database:
            database.create_all()
            asyncio.run(give_up(database))
            assert done == ["committed"]
            assert database.read(lambda unit: BY_ID.first(unit, pool_id="p")) is not None

    def test_what_a_turn_asks_for_shares_its_commits(self, tmp_path: Path) -> None:
        said: list[str] = []

        def work(unit: Unit) -> None:
            assert unit.driver is not None
            unit.driver.set_trace_callback(said.append)
            unit.driver.execute("SELECT 'mine'")

        async def all_at_once(database: Database) -> None:
            await asyncio.gather(*(database.write_soon(work) for _ in range(100)))

        with Database(f"sqlite:///{tmp_path / 'computehub.sqlite'}") as database:
            asyncio.run(all_at_once(database))
        assert said.count("SELECT 'mine'") == 100
        assert said.count("COMMIT") <= 10

    def test_who_comes_a_little_later_shares_the_commit_too(self, tmp_path: Path) -> None:
        """Of those that ask in different rounds of the loop, and of those that ask while the writer works."""
        said: list[str] = []
        begun, go = threading.Event(), threading.Event()

        def work(unit: Unit) -> None:
            assert unit.driver is not None
            unit.driver.set_trace_callback(said.append)
            unit.driver.execute("SELECT 'mine'")

        def first(unit: Unit) -> None:
            work(unit)
            begun.set()
            assert go.wait(60)

        async def after(rounds: int, database: Database) -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)
            await database.write_soon(work)

        async def one_by_one(database: Database) -> None:
            writing = asyncio.ensure_future(database.write_soon(first))
            await asyncio.to_thread(begun.wait, 60)
            others = [asyncio.ensure_future(after(3 * place, database)) for place in range(20)]
            for _ in range(100):
                await asyncio.sleep(0)
            go.set()
            await asyncio.gather(writing, *others)

        with Database(f"sqlite:///{tmp_path / 'computehub.sqlite'}") as database:
            asyncio.run(one_by_one(database))
        assert said.count("SELECT 'mine'") == 21
        assert said.count("COMMIT") == 2

    def test_a_turn_that_takes_many_commits_ends_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each commit wakes the loop, which may by then have heard of the next one as well."""
        monkeypatch.setattr("computehub_ext.core.writer.GROUP_MAX", 1)

        async def client(database: Database) -> int:
            return sum([await database.write_soon(lambda unit: 1) for _ in range(20)])

        async def clients(database: Database) -> list[int]:
            return await asyncio.wait_for(asyncio.gather(*(client(database) for _ in range(20))), 60)

        with Database(f"sqlite:///{tmp_path / 'computehub.sqlite'}") as database:
            assert asyncio.run(clients(database)) == [20] * 20

    def test_what_fails_after_a_commit_is_told_to_its_own_alone(self) -> None:
        def failing(unit: Unit) -> None:
            unit.after_commit(lambda: [].pop())

        async def beside(database: Database) -> list[object]:
            work = [database.write_soon(failing), database.write_soon(lambda unit: "mine")]
            return list(await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 30))

        with Database("sqlite://") as database:
            failed, mine = asyncio.run(beside(database))
        assert (type(failed), mine) == (IndexError, "mine")

    def test_a_closed_database_tells_each(self) -> None:
        async def two(database: Database) -> list[object]:
            work = [database.write_soon(lambda unit: None) for _ in range(2)]
            return list(await asyncio.gather(*work, return_exceptions=True))

        with Database("sqlite://") as database:
            pass
        assert [type(answer) for answer in asyncio.run(two(database))] == [Unavailable, Unavailable]

    def test_too_many_are_told_to_come_back(self) -> None:
        go = threading.Event()

        async def crowd(database: Database) -> list[object]:
            work = [
                asyncio.ensure_future(database.write_soon(lambda unit: go.wait(60))) for _ in range(WAITING_MAX + 9)
            ]
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            go.set()
            return list(await asyncio.gather(*work, return_exceptions=True))

        with Database("sqlite://") as database:
            answers = asyncio.run(crowd(database))
        refused = [answer for answer in answers if answer is not True]
        assert [type(answer) for answer in refused] == [Unavailable] * 9
