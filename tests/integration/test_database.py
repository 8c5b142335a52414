"""The database on each kind of store: transactions, groups, readers, events."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func, select

from computehub_ext.core import outbox
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database, Event, Unit, UtcDateTime
from computehub_ext.core.errors import Invalid, Unavailable
from computehub_ext.core.writer import Request
from tests.support.databases import EVERY_DATABASE, REAL_DATABASES

notes = Table(
    "notes",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("text", String, unique=True),
    Column("at", UtcDateTime),
)


@pytest.fixture(autouse=True)
def _table(database: Database) -> None:
    database.write(lambda unit: notes.create(unit.connection))


def add(unit: Unit, text: str) -> int:
    return int(unit.connection.execute(notes.insert().returning(notes.c.id), {"text": text}).scalar_one())


def texts(unit: Unit) -> list[str]:
    return sorted(unit.connection.execute(select(notes.c.text)).scalars())


def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@EVERY_DATABASE
def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    database.write(lambda unit: add(unit, "one"))
    assert database.read(texts) == ["one"]


@EVERY_DATABASE
def test_a_failing_write_leaves_nothing_and_runs_its_undos_newest_first(database: Database) -> None:
    undone = []

    def fail(unit: Unit) -> None:
        unit.on_rollback(lambda: undone.append("first"))
        unit.on_rollback(lambda: undone.append("second"))
        unit.after_commit(lambda: undone.append("never"))
        unit.emit("note", text="never")
        add(unit, "never")
        raise Invalid("no")

    with pytest.raises(Invalid, match="no"):
        database.write(fail)
    assert database.read(texts) == []
    assert undone == ["second", "first"]


@EVERY_DATABASE
def test_moments_come_back_aware_and_to_the_microsecond(database: Database, clock: ManualClock) -> None:
    moment = clock.advance(microseconds=1)
    database.write(lambda unit: unit.connection.execute(notes.insert(), {"text": "x", "at": moment}))
    assert database.read(lambda unit: unit.connection.execute(select(notes.c.at)).scalar_one()) == moment


@EVERY_DATABASE
def test_many_threads_write_and_only_the_failing_ones_fail(database: Database) -> None:
    def write(number: int) -> bool:
        def work(unit: Unit) -> None:
            add(unit, f"{number:03}")
            if number % 3 == 0:
                raise Invalid("a third of them fails")

        try:
            database.write(work)
        except Invalid:
            return False
        return True

    with ThreadPoolExecutor(20) as threads:
        outcome = list(threads.map(write, range(120)))
    assert outcome == [number % 3 != 0 for number in range(120)]
    assert database.read(texts) == [f"{number:03}" for number in range(120) if number % 3]


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_a_failure_among_many_costs_the_others_nothing_but_a_second_try(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group is served without savepoints until one fails; then each has its own, as if it had been so all along."""
    monkeypatch.setattr("computehub_ext.core.writer.GROUP_SECONDS", 60)
    said: list[str] = []
    ran: list[str] = []
    undone: list[str] = []

    def work(unit: Unit, text: str) -> list[str]:
        ran.append(text)
        unit.on_rollback(lambda: undone.append(text))
        add(unit, text)
        if text == "bad":
            raise Invalid(f"saw {texts(unit)}")
        return texts(unit)

    def group(*wanted: str) -> list[Request]:
        """Run them as one group, behind a request that waits until all have been asked for."""
        assert database._writer is not None
        entered, go_on = threading.Event(), threading.Event()

        def first(unit: Unit) -> None:
            assert unit.driver is not None
            unit.driver.set_trace_callback(said.append)
            entered.set()
            assert go_on.wait(10)

        done: list[Request] = []
        requests = [Request(first, done.append)]
        requests += [Request(lambda unit, text=text: work(unit, text), done.append) for text in wanted]
        for each in (said, ran, undone):
            each.clear()
        database._writer.submit_soon(requests)
        assert entered.wait(10)
        go_on.set()
        _until(lambda: len(done) == len(requests))
        assert done == requests
        return requests[1:]

    a, b, bad, c = group("a", "b", "bad", "c")
    assert (a.result, b.result, str(bad.error), c.result) == (
        ["a"],
        ["a", "b"],
        "saw ['a', 'b', 'bad']",
        ["a", "b", "c"],
    )
    assert (a.error, b.error, c.error) == (None, None, None)
    assert ran == ["a", "b", "bad", "a", "b", "bad", "c"]
    assert undone == ["bad", "b", "a", "bad"]
    assert (said.count("COMMIT"), said.count("BEGIN IMMEDIATE")) == (1, 1), "the first was before anybody listened"
    assert database.read(texts) == ["a", "b", "c"]

    [bad] = group("bad")
    assert (ran, undone) == (["bad"], ["bad"]), "the group after a failure marks where each request begins"
    assert "SAVEPOINT request" in said

    group("d"), group("e")
    assert "SAVEPOINT request" not in said
    assert database.read(texts) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("database", ["file"], indirect=True)
@pytest.mark.parametrize("others", [False, True])
def test_a_transaction_that_was_lost_in_silence_is_not_told_as_stored(database: Database, others: bool) -> None:
    all_there = threading.Event()

    def first(unit: Unit) -> None:
        assert all_there.wait(10)
        add(unit, "first")

    def loses(unit: Unit) -> None:
        add(unit, "lost")
        unit.connection.exec_driver_sql("ROLLBACK")  # as SQLite does itself when the disk is full

    done: list[Request] = []
    behind = lambda unit: add(unit, "behind")  # noqa: E731
    requests = [Request(work, done.append) for work in ((first, loses, behind) if others else (loses,))]
    assert database._writer is not None
    database._writer.submit_soon(requests)
    all_there.set()
    _until(lambda: len(done) == len(requests))
    told = [type(request.error) for request in done]
    assert told == ([Unavailable, Unavailable, type(None)] if others else [Unavailable])
    assert database.read(texts) == (["behind"] if others else [])
    database.write(lambda unit: add(unit, "later"))
    assert "later" in database.read(texts)


@EVERY_DATABASE
def test_counting_up_in_many_threads_loses_nothing(database: Database) -> None:
    """Read, then write: right only if no two writers see the same state."""

    def count_up(_: int) -> None:
        def work(unit: Unit) -> None:
            seen = unit.connection.execute(select(func.max(notes.c.id))).scalar() or 0
            unit.connection.execute(notes.insert(), {"id": seen + 1, "text": str(seen + 1)})

        database.write(work)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count_up, range(40)))
    assert database.read(lambda unit: unit.connection.execute(select(func.max(notes.c.id))).scalar()) == 40


@EVERY_DATABASE
def test_events_are_told_after_the_commit_in_order_and_once(database: Database, clock: ManualClock) -> None:
    heard: list[tuple[str, str]] = []
    database.write(lambda unit: unit.emit("early", text="before anybody listened"))
    database.listen(lambda event: heard.append((event.kind, event.payload["text"])), in_background=False)

    def work(unit: Unit) -> None:
        unit.emit("note", text="a")
        unit.emit("note", text="b")
        assert heard == []

    database.write(work)
    assert database.deliver() == 3
    assert database.deliver() == 0
    assert heard == [("early", "before anybody listened"), ("note", "a"), ("note", "b")]


@EVERY_DATABASE
def test_an_event_committed_after_a_later_one_is_told_too(database: Database, clock: ManualClock) -> None:
    heard: list[int] = []

    def append(unit: Unit, *numbers: int) -> None:
        for number in numbers:
            row = {"id": number, "kind": "note", "payload": "{}", "occurred_at": clock.now()}
            unit.connection.execute(outbox.outbox_table.insert(), row)

    def listen(event: Event) -> None:
        heard.append(event.id)
        if event.id == 9:
            database.write(lambda unit: append(unit, 8))

    database.listen(listen, in_background=False)
    database.write(lambda unit: append(unit, 6, 7, 9))
    assert (database.deliver(), database.deliver(), heard) == (4, 0, [6, 7, 9, 8])


@REAL_DATABASES
def test_events_are_told_again_by_the_next_process_when_the_first_died_before_marking(database: Database) -> None:
    heard = []
    database.write(lambda unit: unit.emit("note", text="a"))
    with Database(database.url.render_as_string(hide_password=False)) as first:
        first.listen(lambda event: heard.append(event), in_background=False)
        first._deliverer._mark = lambda events: (_ for _ in ()).throw(SystemExit)  # the process ends here
        with pytest.raises(SystemExit):
            first.deliver()
    with Database(database.url.render_as_string(hide_password=False)) as second:
        second.listen(lambda event: heard.append(event), in_background=False)
        second.deliver()
    assert [event.payload for event in heard] == [{"text": "a"}] * 2


def test_a_background_listener_hears_and_a_failing_one_does_not_stop_the_others(database: Database) -> None:
    heard = threading.Event()

    def fail(_: object) -> None:
        raise ValueError("a listener's own fault")

    database.listen(fail)
    database.listen(lambda event: heard.set())
    database.write(lambda unit: unit.emit("note"))
    assert heard.wait(10)


def test_a_unit_inside_a_unit_is_refused_instead_of_waiting_forever(database: Database) -> None:
    with pytest.raises(RuntimeError, match="wait for itself"):
        database.write(lambda unit: database.write(texts))


@EVERY_DATABASE
def test_a_closed_database_says_so(database: Database) -> None:
    database.close()
    with pytest.raises(Unavailable):
        database.write(texts)
    with pytest.raises(Unavailable):
        database.read(texts)


@REAL_DATABASES
def test_a_read_can_not_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"(?i)read.?only"):
        database.read(lambda unit: add(unit, "sneaked in"))


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_a_lost_commit_undoes_every_request_of_its_group(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[str] = []
    entered, go_on = threading.Event(), threading.Event()
    # Before the first group begins: a clock that runs out between two of the requests would part them.
    monkeypatch.setattr("computehub_ext.core.writer.GROUP_SECONDS", 60)

    def slow(unit: Unit) -> None:
        entered.set()
        assert go_on.wait(10)
        raise Invalid("its own fault")

    def work(unit: Unit, text: str) -> None:
        unit.on_rollback(lambda: undone.append(text))
        add(unit, text)
        if text == "b":
            unit.connection.exec_driver_sql("ROLLBACK")  # as SQLite does itself when the disk is full
            raise Invalid("disk full")

    def outcome(text: str) -> str:
        try:
            database.write(lambda unit: slow(unit) if text == "slow" else work(unit, text))
        except Exception as error:
            return type(error).__name__
        return "stored"

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(outcome, "slow")
        assert entered.wait(10)
        assert database._writer is not None
        waiting = database._writer._queue
        a = threads.submit(outcome, "a")
        _until(lambda: waiting.qsize() == 1)
        b = threads.submit(outcome, "b")
        _until(lambda: waiting.qsize() == 2)
        go_on.set()
        first.result(), b.result()
        assert (a.result(), undone, database.read(texts)) == ("Unavailable", ["b", "a"], [])
    assert outcome("later") == "stored"


@REAL_DATABASES
def test_a_read_sees_one_moment_however_long_it_looks(database: Database) -> None:
    database.write(lambda unit: add(unit, "before"))

    def look_twice(unit: Unit) -> tuple[list[str], list[str]]:
        first = texts(unit)
        threading.Thread(target=write_then_tell).start()
        assert written.wait(10)
        return first, texts(unit)

    def write_then_tell() -> None:
        database.write(lambda unit: add(unit, "meanwhile"))
        written.set()

    written = threading.Event()
    assert database.read(look_twice) == (["before"], ["before"])
    assert database.read(texts) == ["before", "meanwhile"]


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_a_file_is_written_with_full_durability(database: Database) -> None:
    def pragma(unit: Unit, name: str) -> object:
        return unit.connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    settings = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    got = database.write(lambda unit: [pragma(unit, name) for name in settings])
    assert got == ["wal", 2, 1, 5000]  # 2 is FULL


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_another_process_that_writes_is_waited_for(database: Database) -> None:
    other = sqlite3.connect(str(database.url.database), isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO notes (text) VALUES ('theirs')")
    threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
    database.write(lambda unit: add(unit, "ours"))
    assert database.read(texts) == ["ours", "theirs"]
    other.close()


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_a_database_that_stays_locked_is_unavailable_and_recovers(database: Database) -> None:
    database.write(lambda unit: unit.connection.exec_driver_sql("PRAGMA busy_timeout = 50"))
    other = sqlite3.connect(str(database.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        database.write(lambda unit: add(unit, "lost"))
    other.execute("ROLLBACK")
    other.close()
    database.write(lambda unit: add(unit, "kept"))
    assert database.read(texts) == ["kept"]


@pytest.mark.parametrize(("group_seconds", "expected"), [(60.0, 1), (-1.0, 20)])
def test_requests_that_wait_share_a_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch, group_seconds: float, expected: int
) -> None:
    """While one request is served nineteen queue up behind it; those within the group's time are stored with it."""
    # The real time of ten milliseconds is over sooner or later, as busy as the machine is.
    monkeypatch.setattr("computehub_ext.core.writer.GROUP_SECONDS", group_seconds)
    commits: list[int] = []
    entered, go_on = threading.Event(), threading.Event()
    assert database._writer is not None
    serve_group = database._writer._serve_group
    database._writer._serve_group = lambda *arguments: commits.append(1) or serve_group(*arguments)  # type: ignore[method-assign, func-returns-value]

    def hold_up(unit: Unit) -> None:
        entered.set()
        assert go_on.wait(10)

    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(database.write, hold_up)
        assert entered.wait(10)
        rest = [threads.submit(database.write, lambda unit, n=n: add(unit, str(n))) for n in range(19)]
        _until(lambda: database._writer._queue.qsize() == 19)  # type: ignore[union-attr]
        go_on.set()
        for answer in (first, *rest):
            answer.result(10)
    assert len(commits) == expected
    assert len(database.read(texts)) == 19


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_two_that_looked_before_either_wrote_do_not_both_act_on_it(database: Database) -> None:
    """Write skew, which no constraint sees: "insert the one row unless it is there", twice at the same moment."""
    both_looked = threading.Barrier(2)
    attempts: list[str] = []

    def once_only(unit: Unit, text: str) -> bool:
        attempts.append(text)
        there = texts(unit)
        if attempts.count(text) == 1:
            both_looked.wait(10)
        if there:
            return False
        add(unit, text)
        return True

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(database.write, lambda unit: once_only(unit, "a"))
        second = threads.submit(database.write, lambda unit: once_only(unit, "b"))
        assert sorted([first.result(30), second.result(30)]) == [False, True]
    assert len(database.read(texts)) == 1
    assert len(attempts) == 3, "the loser of the race looked again"


@pytest.mark.needs("postgresql")
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_write_that_loses_every_race_gives_up_and_undoes_each_try(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone: list[int] = []
    monkeypatch.setattr("computehub_ext.core.database.WRITE_ATTEMPTS_MAX", 3)

    def lose(unit: Unit) -> None:
        unit.on_rollback(lambda: undone.append(1))
        unit.connection.exec_driver_sql("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$")

    with pytest.raises(Unavailable, match="3 attempts lost a race"):
        database.write(lose)
    assert len(undone) == 3


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_an_event_survives_the_process_that_was_killed_while_telling_it(database: Database) -> None:
    database.write(lambda unit: unit.emit("note", text="a"))
    program = (
        "import os, signal, sys\n"
        "from computehub_ext.core.database import Database\n"
        "database = Database(sys.argv[1])\n"
        "database.listen(lambda event: os.kill(os.getpid(), signal.SIGKILL), in_background=False)\n"
        "database.deliver()\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(database.url)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    heard: list[object] = []
    database.listen(lambda event: heard.append(event.payload), in_background=False)
    database.deliver()
    assert heard == [{"text": "a"}]


def test_old_hints_are_swept_away_told_or_not(database: Database, clock: ManualClock) -> None:
    database.write(lambda unit: unit.emit("note", text="old"))
    database.deliver()
    clock.advance(days=2)
    heard: list[object] = []
    database.listen(lambda event: heard.append(event.payload["text"]), in_background=False)
    database.write(lambda unit: unit.emit("note", text="new"))
    database.deliver()
    rows = database.read(lambda unit: unit.connection.exec_driver_sql("SELECT payload FROM outbox").scalars().all())
    assert (heard, rows) == (["old", "new"], ['{"text": "new"}'])


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_nobody_else_on_the_machine_reads_the_file(database: Database) -> None:
    path = Path(str(database.url.database))
    modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.glob(path.name + "*")}
    assert modes == dict.fromkeys([path.name, f"{path.name}-shm", f"{path.name}-wal"], 0o600)
