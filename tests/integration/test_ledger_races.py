"""Many at once, and the process killed in between: on real files and on a real PostgreSQL."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database
from computehub_ext.core.errors import ComputeHubError
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import HoldState, Origin
from tests.support.databases import REAL_DATABASES

ADA = "person:ada"
CREDIT = 1_000_000
THREADS = 20


@pytest.fixture
def ada(in_unit: Callable[..., Any], clock: ManualClock) -> str:
    in_unit(
        ledger.grant,
        account_id=ADA,
        amount_microcredits=10 * CREDIT,
        origin=Origin.GRANTED,
        key="start",
        memo="",
        now=clock.now(),
    )
    return ADA


def race(calls: list[Callable[[], Any]]) -> list[Any]:
    """Make all calls at one moment from a thread each; their answers, or the refusals' codes."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        together.wait(30)
        try:
            return call()
        except ComputeHubError as refusal:
            return refusal.code

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


@REAL_DATABASES
def test_twenty_threads_hold_no_more_than_there_is(database: Database, ada: str, clock: ManualClock) -> None:
    def hold(number: int) -> Callable[[], Any]:
        return lambda: database.write(
            lambda unit: ledger.open_hold(
                unit, account_id=ada, amount_microcredits=CREDIT, key=f"h{number}", memo="", now=clock.now()
            )
        )

    answers = race([hold(number) for number in range(THREADS)])
    assert answers.count("insufficient_credits") == THREADS - 10
    assert database.read(lambda unit: ledger.balance(unit, ada)).available_microcredits == 0
    assert database.read(ledger.verify) == []


@REAL_DATABASES
def test_twenty_threads_with_one_key_make_one_hold(database: Database, ada: str, clock: ManualClock) -> None:
    def hold() -> Any:
        return database.write(
            lambda unit: ledger.open_hold(
                unit, account_id=ada, amount_microcredits=CREDIT, key="same", memo="", now=clock.now()
            )
        )

    answers = race([hold] * THREADS)
    assert len({answer.id for answer in answers}) == 1
    assert database.read(lambda unit: ledger.balance(unit, ada)).held_microcredits == CREDIT


@REAL_DATABASES
def test_twenty_threads_draw_no_more_than_was_held_and_close_once(
    database: Database, ada: str, clock: ManualClock
) -> None:
    hold = database.write(
        lambda unit: ledger.open_hold(unit, account_id=ada, amount_microcredits=7, key="h", memo="", now=clock.now())
    )

    def draw(number: int) -> Callable[[], Any]:
        return lambda: database.write(
            lambda unit: ledger.draw(
                unit, hold_id=hold.id, amount_microcredits=1, key=f"d{number}", memo="", now=clock.now()
            )
        )

    assert race([draw(number) for number in range(THREADS)]).count("invalid") == THREADS - 7

    def close() -> Any:
        return database.write(lambda unit: ledger.close_hold(unit, hold_id=hold.id, now=clock.now()))

    answers = race([close] * THREADS)
    assert answers.count("illegal_move") == THREADS - 1
    assert [answer.state for answer in answers if answer != "illegal_move"] == [HoldState.CLOSED]
    assert database.read(ledger.verify) == []


@REAL_DATABASES
def test_the_same_draw_twice_at_once_is_charged_once(database: Database, ada: str, clock: ManualClock) -> None:
    """Two settlements that race, as after a crash: one key, one charge."""
    hold = database.write(
        lambda unit: ledger.open_hold(
            unit, account_id=ada, amount_microcredits=CREDIT, key="h", memo="", now=clock.now()
        )
    )

    def settle() -> Any:
        return database.write(
            lambda unit: ledger.draw(
                unit, hold_id=hold.id, amount_microcredits=400_000, key="settle", memo="", now=clock.now()
            )
        )

    assert len({answer.id for answer in race([settle] * 8)}) == 1
    assert database.read(lambda unit: ledger.find_hold(unit, hold.id)).drawn_microcredits == 400_000


@REAL_DATABASES
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE accounts SET held_microcredits = posted_microcredits + 1",
        "UPDATE accounts SET posted_microcredits = -1, held_microcredits = 0",
        "UPDATE accounts SET held_microcredits = -1",
        "UPDATE holds SET drawn_microcredits = amount_microcredits + 1",
        "UPDATE holds SET drawn_microcredits = -1",
        "UPDATE holds SET state = 'closed'",
        "UPDATE postings SET amount_microcredits = 0",
    ],
)
def test_the_database_itself_refuses_what_no_code_should_write(
    statement: str, database: Database, ada: str, clock: ManualClock
) -> None:
    database.write(
        lambda unit: ledger.open_hold(unit, account_id=ada, amount_microcredits=5, key="h", memo="", now=clock.now())
    )
    only = "" if "accounts" not in statement else " WHERE id = 'person:ada'"
    with pytest.raises(IntegrityError, match=r"(?i)check constraint"):
        database.write(lambda unit: unit.connection.exec_driver_sql(statement + only))
    assert database.read(ledger.verify) == []


@REAL_DATABASES
def test_a_day_metered_second_by_second_costs_a_day(database: Database, ada: str, clock: ManualClock) -> None:
    """An odd rate, each second rounded down by itself, would lose or gain many microcredits by the evening."""
    rate, start = 333_333, clock.now()
    hold = database.write(
        lambda unit: ledger.open_hold(unit, account_id=ada, amount_microcredits=8 * CREDIT, key="h", memo="", now=start)
    )
    posted = 0
    for _ in range(200):
        now = clock.advance(seconds=random.Random(posted).uniform(0.3, 700))
        due = rated(rate, now - start) - posted
        if due:
            posted += due
            database.write(
                lambda unit, due=due, posted=posted, now=now: ledger.draw(
                    unit, hold_id=hold.id, amount_microcredits=due, key=f"meter:{posted}", memo="", now=now
                )
            )
    closed = database.write(lambda unit: ledger.close_hold(unit, hold_id=hold.id, now=clock.now()))
    assert closed.drawn_microcredits == rated(rate, clock.now() - start)
    balance = database.read(lambda unit: ledger.balance(unit, ada))
    assert (balance.posted_microcredits, balance.held_microcredits) == (10 * CREDIT - closed.drawn_microcredits, 0)
    assert database.read(ledger.verify) == []


WRITER = Path(__file__).parent / "ledger_writer.py"


@pytest.mark.parametrize("database", ["file"], indirect=True)
@pytest.mark.parametrize("acknowledged", [1, 25, 90, 160])
def test_a_killed_writer_loses_nothing_that_it_said_and_leaves_nothing_half(
    acknowledged: int, database: Database, ada: str
) -> None:
    """SIGKILL in the middle of writing: the file opens, every answer given is in it, and the books agree."""
    url = str(database.url)
    database.close()
    root = Path(__file__).parents[2]
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), url, ada], stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": "."}
    )
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(acknowledged)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.readlines()
    assert writer.wait(30) == -signal.SIGKILL
    writer.stdout.close()
    kept = [line.decode().strip() for line in said if line.endswith(b"\n")]
    assert len(kept) >= acknowledged
    with Database(url) as reopened:
        assert reopened.read(ledger.verify) == []
        found = {line.entry_id for line in reopened.read(lambda unit: ledger.statement(unit, ada, limit=100_000))}
        assert set(kept) <= found
        balance = reopened.read(lambda unit: ledger.balance(unit, ada))
        draws = len(found) - 1
        assert balance.posted_microcredits == 10 * CREDIT - 3 * draws
        # Each step holds 5, then draws 3 and closes: a hold is open only where the kill came between the two.
        assert balance.held_microcredits % 5 == 0
        assert balance.held_microcredits <= 5 * THREADS
        assert reopened.write(lambda unit: ledger.verify(unit)) == [], "and it can be written again"
