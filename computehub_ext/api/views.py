"""The domain as JSON, shaped as openapi.yaml says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from computehub_ext.bookings.model import Booking, Quote
from computehub_ext.bookings.series import Series
from computehub_ext.core.settings import Settings
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.core.version import server_version
from computehub_ext.leases.model import END_TEXT, Lease, Order
from computehub_ext.leases.room import Offer
from computehub_ext.ledger.model import Balance, StatementLine
from computehub_ext.people.model import Approval, Person
from computehub_ext.pools.model import Device, Pool
from computehub_ext.pools.readings import Reading
from computehub_ext.reports.estimate import Estimate
from computehub_ext.reports.history import HistoryLine

Json = dict[str, Any]

_FOR_MOVES = {"state_port"}
"""What a place says of itself for those who carry variables, and to nobody's use elsewhere."""


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC, ending in Z."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at is not None else None


def span(value: TimeSpan) -> Json:
    return {"starts_at": moment(value.start_at), "ends_at": moment(value.end_at)}


def balance(value: Balance) -> Json:
    return {
        "posted_microcredits": value.posted_microcredits,
        "held_microcredits": value.held_microcredits,
        "available_microcredits": value.available_microcredits,
        "by_origin": {str(origin): amount for origin, amount in value.by_origin.items()},
    }


def person(
    value: Person,
    *,
    owned: Balance,
    identity: str,
    per_day: int,
    left: int,
    control_plane: str,
    is_admin: bool,
    settings: Settings,
) -> Json:
    return {
        "username": value.username,
        "display_name": value.display_name,
        "identity": identity,
        "balance": balance(owned),
        "allowance": {"per_day_microcredits": per_day, "left_microcredits": left},
        "defaults": defaults(value, settings),
        "control_plane": control_plane,
        "is_admin": is_admin,
        "server_version": server_version(),
        "limits": limits(settings),
    }


def defaults(value: Person, settings: Settings) -> Json:
    """As they hold now, within the administrator's bounds."""
    holding = value.defaults.within(settings)
    return {
        "idle_timeout_seconds": None if holding.idle_timeout is None else seconds(holding.idle_timeout),
        "duration_seconds": None if holding.duration is None else seconds(holding.duration),
        "max_rate_microcredits_per_hour": holding.max_rate_microcredits_per_hour,
        "changed_at": moment(holding.changed_at),
    }


def seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


def limits(settings: Settings) -> Json:
    return {
        "default_duration_seconds": seconds(settings.default_duration),
        "min_duration_seconds": seconds(settings.min_duration),
        "max_duration_seconds": seconds(settings.max_duration),
        "max_ahead_seconds": seconds(settings.max_ahead),
        "max_count": settings.max_count,
        "idle_timeout_seconds": seconds(settings.idle_timeout),
        "idle_timeout_max_seconds": seconds(settings.idle_timeout_max),
        "closing_reserve_seconds": seconds(settings.closing_reserve),
    }


def approval(value: Approval) -> Json:
    return {
        "id": value.id,
        "state": str(value.state),
        "purpose": value.purpose,
        "amount_microcredits": value.amount_microcredits,
        "kernel_id": value.kernel_id,
        "notebook_path": value.notebook_path,
        "created_at": moment(value.created_at),
        "expires_at": moment(value.expires_at),
        "decided_at": moment(value.decided_at),
    }


def offer(value: Offer) -> Json:
    pool = value.pool
    return {
        "pool_id": pool.id,
        "pool": pool.name,
        "model": pool.model,
        "count": pool.count,
        "simulated": pool.simulated,
        "memory_mib": pool.memory_mib,
        "rate_microcredits_per_hour": pool.rate_microcredits_per_hour,
        "kernel_limits": {"memory_mib": value.limits.memory_mib, "cpus": value.limits.cpus},
        "free_now": value.free_now,
        "earliest_at": moment(value.earliest_at),
        "unwell": value.unwell,
        "billed_as": "credits",
    }


def quote(value: Quote) -> Json:
    return {
        "model": value.pool.model,
        "pool_id": value.pool.id,
        "pool": value.pool.name,
        "simulated": value.pool.simulated,
        "count": value.count,
        **span(value.span),
        "rate_microcredits_per_hour": value.rate_microcredits_per_hour,
        "amount_microcredits": value.amount_microcredits,
        "available": value.available,
        "earliest": [span(s) for s in value.earliest],
        "alternatives": [
            {
                "model": other.pool.model,
                "pool_id": other.pool.id,
                "simulated": other.pool.simulated,
                "rate_microcredits_per_hour": other.pool.rate_microcredits_per_hour,
                "amount_microcredits": other.amount_microcredits,
                **span(other.span),
            }
            for other in value.alternatives
        ],
        "change_microcredits": value.change_microcredits,
        "occurrences": None
        if value.occurrences is None
        else [
            {
                **span(each.span),
                "amount_microcredits": each.amount_microcredits,
                "available": each.available,
                "note": each.note,
            }
            for each in value.occurrences
        ],
    }


def booking(value: Booking, *, simulated: bool) -> Json:
    return {
        "id": value.id,
        "model": value.model,
        "simulated": simulated,
        "pool_id": value.pool_id,
        "count": value.count,
        **span(value.span),
        "state": str(value.state),
        "rate_microcredits_per_hour": value.rate_microcredits_per_hour,
        "amount_microcredits": value.amount_microcredits,
        "notebook_path": value.notebook_path,
        "created_at": moment(value.created_at),
        "series_id": value.series_id,
    }


def series(value: Series, *, items: list[Json]) -> Json:
    return {
        "id": value.id,
        "rrule": value.rrule,
        "time_zone": value.time_zone,
        "created_at": moment(value.created_at),
        "items": items,
        "skipped": [span(each) for each in value.skipped],
        "notes": list(value.notes),
    }


def lease(
    value: Lease,
    *,
    pool: Pool,
    held: int,
    devices: Iterable[Device],
    placement_id: str | None,
    place_details: Mapping[str, str],
    roomier: Offer | None,
    terminal: bool,
    settings: Settings,
    now: datetime,
) -> Json:
    reason = value.end_reason
    return {
        "id": value.id,
        "booking_id": value.booking_id,
        "state": str(value.state),
        "end_reason": str(reason) if reason else None,
        "end_message": (value.end_message or END_TEXT[reason]) if reason else None,
        "model": value.model,
        "pool": pool.name,
        "simulated": pool.simulated,
        "count": value.count,
        "kernel_id": value.kernel_id,
        "notebook_path": value.notebook_path,
        "rate_microcredits_per_hour": value.rate_microcredits_per_hour,
        "cost_microcredits": value.cost_microcredits(now),
        "held_microcredits": held,
        "created_at": moment(value.created_at),
        "started_at": moment(value.started_at),
        "ended_at": moment(value.ended_at),
        "ends_at": moment(value.ends_at),
        "closing_at": moment(value.closing_at(settings)),
        "paid_until": moment(value.paid_until),
        "idle_timeout_seconds": int(value.idle_timeout.total_seconds()),
        "billed_as": "credits",
        "server_now": moment(now),
        "placement_id": placement_id,
        "place": {"name": pool.backend, "details": {k: v for k, v in place_details.items() if k not in _FOR_MOVES}},
        "devices": [{"index": d.index, "uuid": d.uuid, "name": value.model} for d in devices],
        "roomier": offer(roomier) if roomier is not None else None,
        "terminal": terminal,
    }


def named(value: Person) -> Json:
    return {"username": value.username, "display_name": value.display_name}


def readings(value: Lease, *, pool: Pool, devices: Iterable[Json], interval_seconds: float, now: datetime) -> Json:
    return {
        "lease_id": value.id,
        "simulated": pool.simulated,
        "interval_seconds": interval_seconds,
        "server_now": moment(now),
        "devices": list(devices),
    }


def device_readings(value: Device, kept: Sequence[Reading], *, pool: Pool) -> Json:
    totals = [reading.memory_total_mib for reading in kept if reading.memory_total_mib is not None]
    return {
        "index": value.index,
        "uuid": value.uuid,
        "name": value.name,
        "memory_total_mib": totals[-1] if totals else pool.memory_mib,
        "readings": [
            {
                "at": moment(reading.at),
                "utilisation_percent": reading.utilisation_percent,
                "memory_used_mib": reading.memory_used_mib,
                "temperature_celsius": reading.temperature_celsius,
                "power_watts": reading.power_watts,
            }
            for reading in kept
        ],
    }


def history_line(value: StatementLine, *, lease_id: str | None) -> Json:
    return {
        "id": value.entry_id,
        "at": moment(value.at),
        "kind": str(value.kind),
        "amount_microcredits": value.amount_microcredits,
        "memo": value.memo,
        "origin": str(value.origin) if value.origin else None,
        "by_origin": {str(origin): amount for origin, amount in value.by_origin.items()},
        "lease_id": lease_id,
        "lease": None,
    }


def grouped_line(value: HistoryLine) -> Json:
    lease = value.lease
    return {
        "id": value.id,
        "at": moment(value.at),
        "kind": value.kind,
        "amount_microcredits": value.amount_microcredits,
        "memo": value.memo,
        "origin": str(value.origin) if value.origin else None,
        "by_origin": {str(origin): amount for origin, amount in value.by_origin.items()},
        "lease_id": lease.id if lease else None,
        "lease": lease
        and {
            "model": lease.model,
            "count": lease.count,
            "simulated": lease.simulated,
            "notebook_path": lease.notebook_path,
            "started_at": moment(lease.started_at),
            "ended_at": moment(lease.ended_at),
            "end_reason": str(lease.end_reason) if lease.end_reason else None,
            "end_message": lease.end_message,
        },
    }


def estimate(value: Estimate) -> Json:
    usual = value.usual_duration
    return {
        "model": value.pool.model,
        "pool_id": value.pool.id,
        "simulated": value.pool.simulated,
        "count": value.count,
        "rate_microcredits_per_hour": value.pool.rate_microcredits_per_hour,
        "duration_seconds": int(value.duration.total_seconds()),
        "most_microcredits": value.most_microcredits,
        "runs": value.runs,
        "usual_duration_seconds": int(usual.total_seconds()) if usual is not None else None,
        "usual_microcredits": value.usual_microcredits,
    }


def order(value: Order) -> Json:
    return {
        "lease_id": value.lease_id,
        "kernel_id": value.kernel_id,
        "kind": str(value.kind),
        "message": value.message,
    }
