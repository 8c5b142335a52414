"""An account's lines for reading: all that one lease cost as one line, whole or as a table for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, case, func, literal, literal_column, select, tuple_

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT
from computehub_ext.core.database import Unit, UtcDateTime
from computehub_ext.leases.model import END_TEXT, EndReason
from computehub_ext.leases.requests import in_words
from computehub_ext.leases.store import leases
from computehub_ext.ledger.model import Origin
from computehub_ext.ledger.tables import holds, journal_entries, postings
from computehub_ext.pools.store import pools

COLUMNS = ("at", "kind", "text", "credits", "microcredits", "granted_microcredits", "purchased_microcredits",
           "earned_microcredits", "model", "count", "simulated", "notebook", "started_at", "ended_at", "end_reason",
           "end_message", "lease_id", "id")  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class LeaseLine:
    """The lease that a line stands for."""

    id: str
    model: str
    count: int
    simulated: bool
    notebook_path: str | None
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: EndReason | None
    end_message: str | None


@dataclass(frozen=True)
class HistoryLine:
    """One entry, or all entries of one lease. ``place`` is where it stands among those of the same moment."""

    place: str
    at: datetime
    kind: str
    amount_microcredits: int
    memo: str
    by_origin: Mapping[Origin, int]
    lease: LeaseLine | None

    @property
    def id(self) -> str:
        return self.lease.id if self.lease else self.place

    @property
    def origin(self) -> Origin | None:
        """Where the credits came from, if all from one."""
        return next(iter(self.by_origin)) if len(self.by_origin) == 1 else None


def by_lease(
    unit: Unit, account_id: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[HistoryLine]:
    """The account's lines, newest first, with one for each lease; ``before`` is ``(at, place)`` of the last one seen.

    One statement a page. It reads the account's postings once, by their index.
    """
    entries = journal_entries
    # A slot may have seen several leases: all but the last came to nothing, and cost nothing.
    newest = (
        select(leases.c.hold_id, func.max(leases.c.id).label("lease_id"))
        .select_from(holds.join(leases, leases.c.hold_id == holds.c.id))
        .where(holds.c.account_id == account_id)
        .group_by(leases.c.hold_id)
        .subquery("newest")
    )
    place = func.coalesce(newest.c.lease_id, entries.c.id)
    at, amount = func.max(postings.c.at), postings.c.amount_microcredits
    page = (
        select(
            place.label("place"),
            at.label("at"),
            func.max(entries.c.kind).label("kind"),
            func.max(entries.c.memo).label("memo"),
            func.sum(amount).label("amount_microcredits"),
            *(func.sum(case((postings.c.origin == o.value, amount), else_=0)).label(o.value) for o in Origin),
        )
        .select_from(
            postings.join(entries, entries.c.id == postings.c.entry_id).outerjoin(
                newest, newest.c.hold_id == entries.c.hold_id
            )
        )
        .where(postings.c.account_id == account_id)
        .group_by(literal_column("1"))
    )
    if before is not None:
        moment = literal(before[0], UtcDateTime)
        page = page.having(tuple_(at, place) < tuple_(moment, literal(before[1])))
    chosen = page.order_by(at.desc(), place.desc()).limit(limit).subquery("page")
    rows = unit.connection.execute(
        select(
            chosen,
            leases.c.id.label("lease_id"),
            leases.c.model,
            leases.c.count.label("devices"),
            pools.c.simulated,
            leases.c.notebook_path,
            leases.c.started_at,
            leases.c.ended_at,
            leases.c.end_reason,
            leases.c.end_message,
        )
        .select_from(
            chosen.outerjoin(leases, leases.c.id == chosen.c.place).outerjoin(pools, pools.c.id == leases.c.pool_id)
        )
        .order_by(chosen.c.at.desc(), chosen.c.place.desc())
    )
    return [_line(row) for row in rows]


def _line(row: Row[Any]) -> HistoryLine:
    lease = None
    if row.lease_id is not None:
        lease = LeaseLine(
            id=row.lease_id,
            model=row.model,
            count=row.devices,
            simulated=bool(row.simulated),
            notebook_path=row.notebook_path,
            started_at=row.started_at,
            ended_at=row.ended_at,
            end_reason=EndReason(row.end_reason) if row.end_reason else None,
            end_message=row.end_message or (END_TEXT[EndReason(row.end_reason)] if row.end_reason else None),
        )
    return HistoryLine(
        place=row.place,
        at=row.at,
        kind="lease" if lease else row.kind,
        amount_microcredits=int(row.amount_microcredits),
        memo=_said(lease) if lease else row.memo,
        by_origin={origin: int(row._mapping[origin.value]) for origin in Origin if row._mapping[origin.value]},
        lease=lease,
    )


def _said(lease: LeaseLine) -> str:
    """What was had, in words."""
    words = f"{lease.count} × {lease.model}" + (" (simulated)" if lease.simulated else "")
    if lease.started_at is None:
        words += " kept free, not used"
    elif lease.ended_at is None:
        words += ", still running"
    else:
        held = lease.ended_at - lease.started_at
        words += f" for {in_words(held) if held >= timedelta(minutes=1) else f'{max(0, held.seconds)} s'}"
    return words + (f" in {lease.notebook_path}" if lease.notebook_path else "")


def as_csv(items: Iterable[Mapping[str, Any]], *, header: bool) -> str:
    """Lines in the API's JSON as rows of RFC 4180, with ``header`` under their names.

    Free text that a spreadsheet would run as a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    if header:
        writer.writerow(COLUMNS)
    for item in items:
        lease = item["lease"] or {}
        amount = item["amount_microcredits"]
        writer.writerow(
            [
                item["at"],
                item["kind"],
                _harmless(item["memo"]),
                _decimal(amount),
                amount,
                *(item["by_origin"].get(origin.value, 0) for origin in Origin),
                _harmless(lease.get("model")),
                lease.get("count", ""),
                "" if not lease else "yes" if lease["simulated"] else "no",
                _harmless(lease.get("notebook_path")),
                lease.get("started_at") or "",
                lease.get("ended_at") or "",
                lease.get("end_reason") or "",
                _harmless(lease.get("end_message")),
                item["lease_id"] or "",
                item["id"],
            ]
        )
    return out.getvalue()


def _harmless(text: str | None) -> str:
    text = text or ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _decimal(microcredits: int) -> str:
    """Exact, with a point: no spreadsheet rounds it, and none takes a separator for one."""
    whole, rest = divmod(abs(microcredits), MICROCREDITS_PER_CREDIT)
    return f"{'-' if microcredits < 0 else ''}{whole}.{rest:06d}"
