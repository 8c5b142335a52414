"""Writes to the books from many threads until it is killed, and says each draw once it is durable."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from datetime import datetime

from computehub_ext.core.clock import SystemClock
from computehub_ext.core.database import Database, Unit
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import Hold, JournalEntry

THREADS = 20


def hold_and_draw(database: Database, account_id: str, name: str, now: datetime) -> None:
    def hold(unit: Unit) -> Hold:
        return ledger.open_hold(
            unit, account_id=account_id, amount_microcredits=5, key=f"{name} hold", memo="", now=now
        )

    def settle(unit: Unit) -> JournalEntry:
        entry = ledger.draw(unit, hold_id=opened.id, amount_microcredits=3, key=f"{name} draw", memo="", now=now)
        ledger.close_hold(unit, hold_id=opened.id, now=now)
        return entry

    opened = database.write(hold)
    entry = database.write(settle)
    os.write(1, f"{entry.id}\n".encode())  # one system call: a whole line or none


def main(url: str, account_id: str) -> None:
    database, clock = Database(url), SystemClock()

    def write(thread: int) -> None:
        for number in itertools.count():
            hold_and_draw(database, account_id, f"{thread}-{number}", clock.now())

    threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
