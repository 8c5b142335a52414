"""A person's bookings as iCalendar (RFC 5545), for the calendar program that they look at anyway."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from computehub_ext.bookings.model import Booking, BookingState
from computehub_ext.core.credits import in_credits

_STATUS = {BookingState.HELD: "TENTATIVE", BookingState.CANCELLED: "CANCELLED", BookingState.EXPIRED: "CANCELLED"}


def as_icalendar(bookings: Iterable[tuple[Booking, bool]], *, now: datetime) -> str:
    """Write each booking as an event; beside it stands whether its devices are simulated."""
    # Here, since no other request needs it: it takes longer to import than most requests to answer.
    from icalendar import Calendar, Event

    calendar = Calendar()
    calendar.add("prodid", "-//ComputeHub//bookings//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    for booking, simulated in bookings:
        event = Event()
        event.add("uid", f"{booking.id}@computehub")
        event.add("dtstamp", now)
        event.add("last-modified", booking.changed_at)
        event.add("dtstart", booking.span.start_at)
        event.add("dtend", booking.span.end_at)
        event.add("summary", f"{booking.count} × {booking.model}" + (" (simulated)" if simulated else ""))
        event.add("status", _STATUS.get(booking.state, "CONFIRMED"))
        said = f"{booking.state.value}, {in_credits(booking.amount_microcredits)} credits"
        event.add("description", said + (f", for {booking.notebook_path}" if booking.notebook_path else ""))
        calendar.add_component(event)
    text: str = calendar.to_ical().decode()
    return text
