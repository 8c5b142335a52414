"""Take a pool's capacity with a transaction, and give it back with one.

Capacity is taken in the calendar at once, and undone if the transaction is; it is given back after the commit, so that
nobody is promised what a rollback takes back.
"""

from __future__ import annotations

from computehub_ext.bookings import store
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import Booking, iso
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import SlotTaken
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.pools.model import Pool


def reserve_first(unit: Unit, calendar: Calendar, found: list[Pool], span: TimeSpan, count: int) -> Pool | None:
    """Take ``count`` devices over ``span`` of the first pool that has them; None if none has."""
    return next((pool for pool in found if reserve(unit, calendar, pool.id, span, count)), None)


def reserve(unit: Unit, calendar: Calendar, pool_id: str, span: TimeSpan, count: int) -> bool:
    """Take them of one pool and say whether that went well; undone with the transaction."""
    index, this = calendar.of(pool_id), object()
    if not index.reserve(span, count, by=this):
        # Where transactions run side by side, what is in the way may be newer than this one's view of the books: even
        # this very request, sent twice. Looked at anew it gets its true answer.
        begun = store.begun(unit)
        if begun is not None and index.settled_since(begun, span):
            store.try_again(unit)
        return False

    def undo() -> None:
        index.release(span, count)
        index.settle(this)

    unit.on_rollback(undo)
    unit.after_commit(lambda: index.settle(this))
    return True


def reserve_more(unit: Unit, calendar: Calendar, booking: Booking, more: TimeSpan) -> None:
    """Take what a booking needs to go on, or raise ``SlotTaken`` saying how long it can."""
    if reserve(unit, calendar, booking.pool_id, more, booking.count):
        return
    until = calendar.of(booking.pool_id).fits_until(booking.count, more)
    raise SlotTaken(
        f"Others have booked the {booking.model} from {iso(until)}: this booking can go on until then."
        if until > more.start_at
        else f"Others have booked the {booking.model} right after this booking.",
        booking_id=booking.id,
        free_until=iso(until),
        earliest=[],
        alternatives=[],
    )


def release(unit: Unit, calendar: Calendar, pool_id: str, span: TimeSpan, count: int) -> None:
    """Give back what was taken earlier, or a part of it, once this transaction is durable."""
    index = calendar.of(pool_id)
    unit.after_commit(lambda: index.release(span, count))
