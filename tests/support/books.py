"""Money tests as tables: one row for each step, with the balance after it and the refusal by its name.

    step                  | posted | held | available | refusal
    grant 10              | 10     | 0    | 10        |
    hold a 4              | 10     | 4    | 6         |
    hold b 7              | 10     | 4    | 6         | insufficient_credits
    draw a 1.5            | 8.5    | 2.5  | 6         |

Amounts are credits. Steps: ``grant N [origin]``, ``hold NAME N``, ``resize NAME N``, ``draw NAME N``, ``close NAME``,
``reverse ROW`` (the row's number, from 1). Each step uses a key of its own; ``again ROW`` repeats a row with its key.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import ComputeHubError
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import Origin

ACCOUNT = "person:ada"


def microcredits(text: str) -> int:
    amount = Decimal(text) * 1_000_000
    assert amount == int(amount), f"finer than a microcredit: {text}"
    return int(amount)


class Books:
    """Runs the steps of a table on one account."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self._database, self._clock = database, clock
        self._holds: dict[str, str] = {}
        self._entries: dict[int, str] = {}
        self._steps: dict[int, str] = {}

    def follow(self, table: str) -> None:
        for number, line in enumerate((line for line in table.strip().splitlines()[1:] if line.strip()), start=1):
            step, *expected, refusal = (cell.strip() for cell in line.split("|"))
            got = self._try(number, step)
            balance = self._database.read(lambda unit: ledger.balance(unit, ACCOUNT))
            amounts = [balance.posted_microcredits, balance.held_microcredits, balance.available_microcredits]
            assert (got, amounts) == (refusal, [microcredits(cell) for cell in expected]), f"row {number}: {step}"
            assert sum(balance.by_origin.values()) == balance.posted_microcredits, f"row {number}: {step}"
            assert self._database.read(ledger.verify) == [], f"row {number}: {step}"

    def _try(self, number: int, step: str) -> str:
        self._clock.advance(seconds=1)
        self._steps[number] = step
        try:
            self._do(number, step)
        except ComputeHubError as refusal:
            return refusal.code
        return ""

    def _do(self, number: int, step: str) -> None:
        match step.split():
            case ["again", row]:
                self._do(int(row), self._steps[int(row)])
            case ["grant", amount, *origin]:
                entry = self._call(
                    ledger.grant,
                    account_id=ACCOUNT,
                    amount_microcredits=microcredits(amount),
                    origin=Origin(origin[0] if origin else "granted"),
                    key=f"row {number}",
                    memo=step,
                )
                assert self._entries.setdefault(number, entry.id) == entry.id
            case ["hold", name, amount]:
                hold = self._call(
                    ledger.open_hold,
                    account_id=ACCOUNT,
                    amount_microcredits=microcredits(amount),
                    key=f"row {number}",
                    memo=step,
                )
                assert self._holds.setdefault(name, hold.id) == hold.id
            case ["resize", name, amount]:
                self._call(
                    ledger.resize_hold,
                    hold_id=self._holds[name],
                    amount_microcredits=microcredits(amount),
                    key=f"row {number}",
                )
            case ["draw", name, amount]:
                entry = self._call(
                    ledger.draw,
                    hold_id=self._holds[name],
                    amount_microcredits=microcredits(amount),
                    key=f"row {number}",
                    memo=step,
                )
                assert self._entries.setdefault(number, entry.id) == entry.id
            case ["close", name]:
                self._call(ledger.close_hold, hold_id=self._holds[name])
            case ["reverse", row]:
                entry = self._call(ledger.reverse, entry_id=self._entries[int(row)], key=f"row {number}", memo=step)
                assert self._entries.setdefault(number, entry.id) == entry.id
            case _:
                raise AssertionError(f"no such step: {step}")

    def _call(self, service: Callable[..., Any], **inputs: Any) -> Any:
        return self._database.write(lambda unit: service(unit, now=self._clock.now(), **inputs))
