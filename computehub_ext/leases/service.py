"""Use cases of leases, each one step in the caller's transaction; what touches a backend is in ``operator``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta

from computehub_ext.bookings import service as bookings
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Conflict, Forbidden, Invalid, NoCapacity, NotFound
from computehub_ext.core.ids import new_id
from computehub_ext.core.settings import Settings
from computehub_ext.leases import store
from computehub_ext.leases.berths import BerthState
from computehub_ext.leases.model import (
    IN_VAIN,
    EndReason,
    Lease,
    LeaseState,
    Order,
    OrderKind,
    Placement,
    PlacementState,
    due_orders,
)
from computehub_ext.leases.requests import called, in_words, spend_allowance
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import ApprovalWanted, Person
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Device


def find(unit: Unit, lease_id: str, *, person_id: str | None = None) -> Lease:
    """The lease, or NotFound; with ``person_id`` another person's lease is not found either."""
    lease = store.lease(unit, lease_id)
    if lease is None or (person_id is not None and lease.person_id != person_id):
        raise NotFound(f"There is no lease {lease_id} of yours.", lease_id=lease_id)
    return lease


def intend_placement(
    unit: Unit, *, lease_id: str, backend: str, now: datetime, has_berths: bool = False
) -> tuple[Lease, Placement, list[Device]]:
    """Write down that a kernel is about to be started, and on which devices, before anything starts.

    A berth that was asked for its booking becomes the placement, under the same id. With ``has_berths``, for a place
    that gives devices only when it has some, a booking costs from its start if they were there by then, and else from
    the moment at which the kernel runs.

    Raises
    ------
    NoCapacity
        Fewer healthy devices are free than the calendar promised: an earlier lease is still being closed.
    """
    lease = find(unit, lease_id)
    berth = store.open_berth_of(unit, lease.booking_id) if has_berths else None
    was_late = has_berths and lease.state is not LeaseState.RUNNING and lease.billed_from_at is not None
    if was_late and berth is not None and berth.ready_at is not None:
        was_late = berth.ready_at > bookings.find(unit, lease.booking_id).span.start_at
    if was_late:
        lease = replace(lease, billed_from_at=None)
        store.save_lease(unit, lease)
    if lease.state is LeaseState.REQUESTED:
        lease = lease.moved(LeaseState.PROVISIONING)
        store.save_lease(unit, lease)
    elif lease.state not in (LeaseState.PROVISIONING, LeaseState.RUNNING):
        raise Conflict("The lease is over; no kernel is started on it.", lease_id=lease.id, state=lease.state)
    taken = set(store.claimed_devices(unit))
    free = [d for d in pools.devices_of(unit, lease.pool_id) if d.healthy and d.id not in taken]
    if len(free) < lease.count:
        raise NoCapacity(f"The {lease.model} is not free yet; the notebook before you is still moving out.")
    chosen = free[: lease.count]
    if berth is not None:
        store.end_berth(unit, berth.id, BerthState.TAKEN, now)
    placement = Placement(berth.id if berth else new_id("pl"), lease.id, backend, PlacementState.INTENDED, now)
    store.add_placement(unit, placement, [device.id for device in chosen])
    return lease, placement, chosen


def mark_running(unit: Unit, *, lease_id: str, settings: Settings, now: datetime) -> Lease:
    """From this moment the lease is billed. Asked twice it answers the same."""
    lease = find(unit, lease_id)
    if lease.state is LeaseState.RUNNING:
        return lease
    lease = lease.running(now, settings.paid_horizon)
    store.save_lease(unit, lease)
    unit.emit("lease", action="running", lease_id=lease.id, kernel_id=lease.kernel_id)
    return lease


def meter(unit: Unit, *, lease: Lease, until: datetime, now: datetime) -> Lease:
    """Post what the lease has cost by ``until`` and was not posted yet."""
    due = lease.cost_microcredits(until) - lease.posted_microcredits
    if due <= 0:
        return lease
    posted = lease.posted_microcredits + due
    memo = f"{lease.count} × {lease.model}" + (f" for {lease.notebook_path}" if lease.notebook_path else "")
    # The running total in the key makes a repeated post of the same stretch impossible.
    key = f"meter:{lease.id}:{posted}"
    ledger.draw(unit, hold_id=lease.hold_id, amount_microcredits=due, key=key, memo=memo, now=now)
    lease = replace(lease, posted_microcredits=posted)
    store.save_lease(unit, lease)
    return lease


def renew_and_meter(unit: Unit, *, settings: Settings, now: datetime, except_for: Collection[str] = ()) -> list[Lease]:
    """Meter the running leases whose turn it is and pay them ahead; the caller tells the supervisors after the commit.

    Billed is only what was paid ahead before: past ``paid_until`` a kernel may have been ended, and whether it was is
    for the reconciler to find out. For the same reason a lease whose place could not be seen (``except_for``) is
    neither paid ahead nor billed until it is: what is due is then billed in one.
    """
    renewed = []
    for lease in store.in_states(unit, [LeaseState.RUNNING]):
        if lease.id in except_for or not lease.renewal_due(now, settings.paid_horizon):
            continue
        lease = meter(unit, lease=lease, until=min(now, lease.paid_until or now), now=now)
        lease = lease.renewed(now, settings.paid_horizon)
        store.save_lease(unit, lease)
        renewed.append(lease)
    return renewed


def begin_closing(
    unit: Unit,
    calendar: Calendar,
    *,
    lease_id: str,
    reason: EndReason,
    message: str | None,
    now: datetime,
    billed_until: datetime | None = None,
) -> Lease:
    """Settle the lease: bill what was held, release the rest, free the calendar. Its kernel is stopped afterwards.

    Asked again about a lease that is closing or closed it changes nothing, so that two ways of ending may race.
    """
    lease = find(unit, lease_id)
    if lease.state in (LeaseState.CLOSING, LeaseState.CLOSED):
        return lease
    # A move that comes to nothing while it changes over has begun to be paid for, and nobody had anything of it.
    in_vain = reason in IN_VAIN and not lease.posted_microcredits
    ran = lease.state is LeaseState.RUNNING and not in_vain
    if ran:
        lease = replace(meter(unit, lease=lease, until=billed_until or now, now=now), ended_at=billed_until or now)
    else:
        lease = replace(lease, ended_at=now, billed_from_at=None)
    lease = replace(lease.moved(LeaseState.CLOSING), end_reason=reason, end_message=message, busy=False)
    store.save_lease(unit, lease)
    held = bookings.find(unit, lease.booking_id).amount_microcredits
    unused = held - lease.posted_microcredits
    people.release_allowance(unit, reference=lease.booking_id, amount_microcredits=unused, now=now)
    if ran:
        bookings.complete(unit, calendar, booking_id=lease.booking_id, now=now)
    elif lease.on_the_spot:
        bookings.withdraw(unit, calendar, booking_id=lease.booking_id, now=now)
    else:
        # Nothing ran on the slot that was booked ahead: it stays the person's, to try again on.
        bookings.deactivate(unit, booking_id=lease.booking_id, now=now)
    unit.emit("lease", action="closing", lease_id=lease.id, kernel_id=lease.kernel_id, reason=reason.value)
    return lease


def finish_closing(unit: Unit, *, lease_id: str, now: datetime) -> Lease:
    """Everything that ran for the lease has been stopped."""
    lease = find(unit, lease_id)
    if lease.state is not LeaseState.CLOSING:
        return lease
    for placement in store.placements_of(unit, lease.id):
        store.placement_ended(unit, placement.id, now)
    lease = lease.moved(LeaseState.CLOSED)
    store.save_lease(unit, lease)
    unit.emit("lease", action="closed", lease_id=lease.id, kernel_id=lease.kernel_id)
    return lease


def change_end(
    unit: Unit,
    calendar: Calendar,
    *,
    lease_id: str,
    person: Person,
    by: timedelta,
    key: str,
    from_kernel: bool,
    approval_id: str | None,
    settings: Settings,
    now: datetime,
) -> Lease | ApprovalWanted:
    """Extend (``by`` above zero) or shorten a running lease; money and calendar follow in the same transaction.

    The caller has checked that ``person`` may touch it; that it is their money is checked here.
    """
    lease = find(unit, lease_id)
    if lease.person_id != person.id and by > timedelta(0):
        raise Forbidden("Only who pays for a lease may extend it.", lease_id=lease.id)
    if lease.state is not LeaseState.RUNNING:
        raise Conflict(f"The lease is {lease.state}.", lease_id=lease.id, state=lease.state)
    ends_at = lease.ends_at + by
    earliest = now + settings.closing_reserve
    if ends_at < earliest:
        left = in_words(max(timedelta(0), lease.ends_at - earliest))
        message = f"That would end before now: at most {left} can be cut. `%gpu off` ends it at once."
        raise Invalid(message, field="seconds")
    if by > timedelta(0):
        _check_place(unit, lease, ends_at)
    if from_kernel and by > timedelta(0):
        amount = rated(lease.rate_microcredits_per_hour, by, lease.count)
        outcome = spend_allowance(
            unit,
            person=person,
            amount_microcredits=amount,
            purpose=f"{in_words(by)} more of {lease.count} × {called(pools.get_pool(unit, lease.pool_id))}",
            key=key,
            approval_id=approval_id,
            kernel_id=lease.kernel_id,
            notebook_path=lease.notebook_path,
            reference=lease.booking_id,
            settings=settings,
            now=now,
        )
        if isinstance(outcome, ApprovalWanted):
            return outcome
    bookings.resize(
        unit,
        calendar,
        booking_id=lease.booking_id,
        end_at=ends_at,
        key=key,
        now=now,
        limits=bookings.limits_of(settings),
    )
    lease = replace(lease, ends_at=ends_at, warned=lease.warned - {OrderKind.ENDING_10, OrderKind.ENDING_2})
    if lease.paid_until is not None and lease.paid_until > ends_at:
        lease = replace(lease, paid_until=ends_at)
    store.save_lease(unit, lease)
    unit.emit("lease", action="changed", lease_id=lease.id, kernel_id=lease.kernel_id)
    return lease


def _check_place(unit: Unit, lease: Lease, ends_at: datetime) -> None:
    """Refuse what its place would not give: a cluster's job can't be given a longer limit once it runs."""
    limits = [p.ends_at for p in store.placements_of(unit, lease.id) if p.state is PlacementState.STARTED]
    limit = min(filter(None, limits), default=None)
    if limit is None or ends_at <= limit:
        return
    more = timedelta(minutes=(limit - lease.ends_at) // timedelta(minutes=1))
    told = f"This {lease.model} can be kept until {limit:%H:%M} UTC ({limit:%d %B}), when its place ends the job"
    can = f"{told}: extend it by at most {in_words(more)}." if more > timedelta(0) else f"{told}: it can't be extended."
    raise Invalid(
        f"{can} For longer, give it back and take another one.",
        field="seconds",
        max_seconds=max(0, int(more.total_seconds())),
        ends_at=limit.isoformat(),
    )


def report_activity(unit: Unit, *, kernel_id: str, busy: bool, now: datetime) -> None:
    """The notebook's server says whether a cell runs. It decides when idle time starts, never what is paid."""
    lease = store.live_lease_of_kernel(unit, kernel_id)
    if lease is not None:
        _active(unit, replace(lease, busy=busy), tell=OrderKind.IDLE_WARNING in lease.warned, now=now)


def keep(unit: Unit, *, lease_id: str, now: datetime) -> Lease:
    """Somebody at the notebook says that they are still there: the idle time starts again."""
    lease = find(unit, lease_id)
    if lease.state is not LeaseState.RUNNING:
        raise Conflict(f"The lease is {lease.state}.", lease_id=lease.id, state=lease.state)
    return _active(unit, lease, tell=True, now=now)


def _active(unit: Unit, lease: Lease, *, tell: bool, now: datetime) -> Lease:
    """``tell`` is not for every cell: it is news only where somebody was warned, or counts the idle time."""
    lease = replace(lease, last_activity_at=now, warned=lease.warned - {OrderKind.IDLE_WARNING})
    store.save_lease(unit, lease)
    if tell:
        unit.emit("lease", action="changed", lease_id=lease.id, kernel_id=lease.kernel_id)
    return lease


def rights(lease: Lease, *, is_payer: bool, is_admin: bool) -> dict[str, bool]:
    """What somebody may do with a lease now, as the use cases here and in ``client`` decide it when they are asked."""
    running, manages = lease.state is LeaseState.RUNNING, is_payer or is_admin
    return {
        "return": manages and running,
        "extend": is_payer and running,
        "shorten": manages and running,
        "end": manages and lease.state not in (LeaseState.CLOSING, LeaseState.CLOSED),
    }


def take_orders(unit: Unit, *, kernel_ids: Collection[str], settings: Settings, now: datetime) -> list[Order]:
    """What is due for the running leases of these kernels. A warning is handed out once."""
    orders: list[Order] = []
    warnings = {OrderKind.IDLE_WARNING, OrderKind.ENDING_10, OrderKind.ENDING_2}
    for lease in store.in_states(unit, [LeaseState.RUNNING]):
        if lease.kernel_id not in kernel_ids:
            continue
        due = due_orders(lease, now, settings)
        told = {order.kind for order in due if order.kind in warnings}
        if told:
            store.save_lease(unit, replace(lease, warned=lease.warned | told))
            for kind in told:
                unit.emit("notice", action=kind.value, lease_id=lease.id, kernel_id=lease.kernel_id)
        orders.extend(due)
    return orders
