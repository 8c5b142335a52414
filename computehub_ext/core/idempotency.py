"""The first answer to a keyed request, kept in the transaction that made it true.

A crash therefore leaves both or neither: a caller who repeats the request with its key either gets the answer of the
first try or makes it for the first time. The idea of comparing the input as well is the ledger's (DESIGN, decision 2).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, String, Table, Text, bindparam, delete, insert, select

from computehub_ext.core.database import Unit, UtcDateTime, metadata
from computehub_ext.core.errors import IdempotencyMismatch
from computehub_ext.core.prepared import Prepared
from computehub_ext.core.replayed import Replayed

KEPT_FOR = timedelta(days=7)
HASH_FORMAT = "1"

answers = Table(
    "answers",
    metadata,
    Column("person_id", String(40), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("input_hash", String(80), nullable=False),
    Column("answer", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
)

_OF_KEY = Prepared(
    select(answers.c.input_hash, answers.c.answer).where(
        answers.c.person_id == bindparam("person_id"), answers.c.key == bindparam("key")
    )
)
_ADD = Prepared(insert(answers))
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode


def once(
    unit: Unit,
    *,
    person_id: str,
    key: str,
    operation: str,
    inputs: dict[str, Any],
    now: datetime,
    work: Callable[[], dict[str, Any]],
    keep: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """Do ``work`` unless this person's ``key`` did it before; then answer as the first time.

    Parameters
    ----------
    inputs:
        JSON values; hashed with the operation's name.
    keep:
        Asked after ``work``; False leaves the key unused, as when a person must approve before the request is repeated.

    Raises
    ------
    IdempotencyMismatch
        The key came with another operation or input before.
    """
    canonical = _canonical([HASH_FORMAT, operation, inputs])
    input_hash = f"{HASH_FORMAT}:{hashlib.sha256(canonical.encode()).hexdigest()}"
    row = _OF_KEY.first(unit, person_id=person_id, key=key)
    if row is not None:
        if row.input_hash != input_hash:
            message = "This Idempotency-Key was used for another request; a new request needs a new key."
            raise IdempotencyMismatch(message, key=key)
        return Replayed(json.loads(row.answer))
    answer = work()
    if not keep():
        return answer
    _ADD.run(unit, person_id=person_id, key=key, input_hash=input_hash, answer=json.dumps(answer), at=now)
    return answer


def forget_old(unit: Unit, *, now: datetime) -> None:
    """Drop answers that nobody repeats any more."""
    unit.connection.execute(delete(answers).where(answers.c.at < now - KEPT_FOR))
