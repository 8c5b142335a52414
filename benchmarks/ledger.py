"""Hold + capture through the service layer, beside a raw sqlite3 loop that stores the same rows as durably.

A pair is what one use of a GPU does to the books: a transaction that sets credits aside, and one that draws them and
closes the hold. The yardstick makes the same changes with statements written out by hand, in the same tables with the
same checks and indexes: write-ahead log, synchronous=FULL, foreign keys, a commit for each of the two transactions; no
thread, no object, no key looked up, nothing read back. Both write as many pages, to files on the same disk, in turns.
"""

from __future__ import annotations

import itertools
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from computehub_ext.core.clock import SystemClock
from computehub_ext.core.database import Database, Unit
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import SYSTEM_USAGE, Origin
from computehub_ext.testing.stores import import_every_store

ROUNDS = 5
PAIRS_PER_ROUND = 400
THREADS = 20
PAIRS_PER_THREAD = 100
ACCOUNT = "person:bench"
AMOUNT, DRAWN = 5_000, 3_000


def _prepared(path: Path) -> Database:
    import_every_store()
    database = Database(f"sqlite:///{path}")
    database.create_all()
    database.write(
        lambda unit: ledger.grant(
            unit,
            account_id=ACCOUNT,
            amount_microcredits=10**12,
            origin=Origin.GRANTED,
            key="start",
            memo="",
            now=SystemClock().now(),
        )
    )
    return database


def _pair(database: Database, name: str) -> tuple[float, float]:
    """Hold, then draw and close; how long each of the two took."""
    now = SystemClock().now()

    def capture(unit: Unit) -> None:
        ledger.draw(
            unit, hold_id=hold.id, amount_microcredits=DRAWN, key=f"{name} draw", memo="1 × T4 for notes.ipynb", now=now
        )
        ledger.close_hold(unit, hold_id=hold.id, now=now)

    started = time.perf_counter()
    hold = database.write(
        lambda unit: ledger.open_hold(
            unit, account_id=ACCOUNT, amount_microcredits=AMOUNT, key=f"{name} hold", memo="1 × T4 for 2 h", now=now
        )
    )
    held = time.perf_counter()
    database.write(capture)
    return held - started, time.perf_counter() - held


HOLD = (
    "UPDATE accounts SET held_microcredits = held_microcredits + ? WHERE id = ?"
    " AND posted_microcredits - held_microcredits - ? >= floor_microcredits",
    "INSERT INTO holds (id, account_id, state, amount_microcredits, drawn_microcredits, memo, opened_at)"
    " VALUES (?, ?, 'open', ?, 0, ?, ?)",
    "INSERT INTO hold_changes (hold_id, number, account_id, verb, key, input_hash, state, amount_microcredits,"
    " drawn_microcredits, at) VALUES (?, 0, ?, 'open', ?, ?, 'open', ?, 0, ?)",
)
CAPTURE = (
    "UPDATE holds SET drawn_microcredits = drawn_microcredits + ? WHERE id = ? AND state = 'open'",
    "UPDATE accounts SET posted_microcredits = posted_microcredits - ?, held_microcredits = held_microcredits - ?"
    " WHERE id = ?",
    "INSERT INTO journal_entries (id, kind, account_id, at, memo, key, input_hash, hold_id)"
    " VALUES (?, 'draw', ?, ?, ?, ?, ?, ?)",
    "INSERT INTO postings (entry_id, line, account_id, origin, amount_microcredits, at)"
    " VALUES (?, ?, ?, 'granted', ?, ?)",
    "UPDATE balances SET posted_microcredits = posted_microcredits - ? WHERE account_id = ? AND origin = 'granted'",
    "UPDATE holds SET state = 'closed', closed_at = ? WHERE id = ? AND state = 'open'",
    "UPDATE accounts SET held_microcredits = held_microcredits - ? WHERE id = ?",
    "INSERT INTO hold_changes (hold_id, number, account_id, verb, input_hash, state, amount_microcredits,"
    " drawn_microcredits, at) VALUES (?, 1, ?, 'close', ?, 'closed', ?, ?, ?)",
)
HASH = "v1:" + "0" * 64


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _raw_pair(connection: sqlite3.Connection, name: str) -> None:
    now = time.time_ns() // 1000
    hold, entry, execute = f"hold_{name:>26}", f"entry_{name:>26}", connection.execute
    execute("BEGIN IMMEDIATE")
    execute(HOLD[0], (AMOUNT, ACCOUNT, AMOUNT))
    execute(HOLD[1], (hold, ACCOUNT, AMOUNT, "1 × T4 for 2 h", now))
    execute(HOLD[2], (hold, ACCOUNT, f"{name} hold", HASH, AMOUNT, now))
    execute("COMMIT")
    execute("BEGIN IMMEDIATE")
    execute(CAPTURE[0], (DRAWN, hold))
    execute(CAPTURE[1], (DRAWN, DRAWN, ACCOUNT))
    execute(CAPTURE[2], (entry, ACCOUNT, now, "1 × T4 for notes.ipynb", f"{name} draw", HASH, hold))
    execute(CAPTURE[3], (entry, 0, ACCOUNT, -DRAWN, now))
    execute(CAPTURE[3], (entry, 1, SYSTEM_USAGE, DRAWN, now))
    execute(CAPTURE[4], (DRAWN, ACCOUNT))
    execute(CAPTURE[5], (now, hold))
    execute(CAPTURE[6], (AMOUNT - DRAWN, ACCOUNT))
    execute(CAPTURE[7], (hold, ACCOUNT, HASH, AMOUNT, DRAWN, now))
    execute("COMMIT")


def _per_second(pairs: int, pair: Callable[[str], Any], names: itertools.count[int]) -> float:
    started = time.perf_counter()
    for _ in range(pairs):
        pair(str(next(names)))
    return pairs / (time.perf_counter() - started)


def _in_threads(database: Database, names: itertools.count[int]) -> tuple[float, list[float]]:
    """Pairs per second, and the seconds that each transaction took its caller, with many callers at once."""
    together, waits = threading.Barrier(THREADS + 1), [[] for _ in range(THREADS)]  # type: list[list[float]]

    def call(own: list[float]) -> None:
        together.wait()
        for _ in range(PAIRS_PER_THREAD):
            own.extend(_pair(database, str(next(names))))

    threads = [threading.Thread(target=call, args=(own,)) for own in waits]
    for thread in threads:
        thread.start()
    together.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    return THREADS * PAIRS_PER_THREAD / seconds, [wait for own in waits for wait in own]


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        names = itertools.count()
        database = _prepared(Path(folder) / "service.db")
        _prepared(Path(folder) / "raw.db").close()
        raw = _connected(Path(folder) / "raw.db")
        ours, theirs = [], []
        for _ in range(ROUNDS):  # in turns, so that both meet the same disk
            ours.append(_per_second(PAIRS_PER_ROUND, lambda name: _pair(database, name), names))
            theirs.append(_per_second(PAIRS_PER_ROUND, lambda name: _raw_pair(raw, name), names))
        together, waits = _in_threads(database, names)
        for problem in (database.read(ledger.verify), raw.execute("PRAGMA foreign_key_check").fetchall()):
            assert not problem, problem
        raw.close()
        database.close()
    one, yardstick = statistics.median(ours), statistics.median(theirs)
    p99 = statistics.quantiles(waits, n=100)[98] * 1000
    loop = "raw sqlite3 loop, same rows, same durability"
    return [
        {
            "name": "Hold + capture, one caller",
            "figure": one,
            "yardstick": yardstick,
            "ratio": one / yardstick,
            "unit": "pairs/s",
            "size": f"{ROUNDS} × {PAIRS_PER_ROUND} pairs",
            "yardstick_name": loop,
            "goal": "at least 0.25",
            "met": one / yardstick >= 0.25,
        },
        {
            "name": f"Hold + capture, {THREADS} threads",
            "figure": together,
            "yardstick": yardstick,
            "ratio": together / yardstick,
            "unit": "pairs/s",
            "size": f"{THREADS} × {PAIRS_PER_THREAD} pairs",
            "yardstick_name": loop,
            "goal": "at least 0.25",
            "met": together / yardstick >= 0.25,
        },
        {
            "name": f"A ledger write with {THREADS} threads, 99th percentile",
            "figure": p99,
            "yardstick": 50.0,
            "ratio": p99 / 50,
            "unit": "ms",
            "size": f"{len(waits)} transactions",
            "yardstick_name": "promised",
            "goal": "under 50 ms",
            "met": p99 < 50,
        },
    ]


if __name__ == "__main__":
    for row in run():
        print(
            f"{row['name']}: {row['figure']:.4g} {row['unit']}, yardstick {row['yardstick']:.4g}, "
            f"ratio {row['ratio']:.3f}; {row['goal']}: {'met' if row['met'] else 'MISSED'}"
        )
