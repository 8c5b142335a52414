"""Bookings."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized

_NAMES = {"from": "ends_after", "to": "starts_before"}
"""What Python has other uses for."""


class BookingsHandler(ComputeHubHandler):
    path = "bookings"

    @authorized("read", resource="computehub:bookings")
    async def get(self) -> None:
        wanted = {_NAMES.get(name, name): value for name, value in self.arguments.items()}
        self.reply(await self.plane.bookings(self.actor, **wanted))

    @authorized("write", resource="computehub:bookings")
    async def post(self) -> None:
        booking = await self.plane.book(self.actor, key=self.idempotency_key, **self.body())
        self.reply(booking, status=201, location=f"bookings/{booking['id']}")


class BookingsCalendarHandler(ComputeHubHandler):
    path = "bookings.ics"

    @authorized("read", resource="computehub:bookings")
    async def get(self) -> None:
        calendar = await self.plane.bookings_calendar(self.actor)
        self.set_header("Content-Disposition", 'attachment; filename="computehub-bookings.ics"')
        self.set_header("Cache-Control", "no-store")
        self.finish(calendar["text"], set_content_type="text/calendar; charset=utf-8")


class BookingHandler(ComputeHubHandler):
    path = "bookings/{booking_id}"

    @authorized("read", resource="computehub:bookings")
    async def get(self, booking_id: str) -> None:
        self.reply(await self.plane.booking(self.actor, **self.arguments))


class CancelBookingHandler(ComputeHubHandler):
    path = "bookings/{booking_id}/cancel"

    @authorized("write", resource="computehub:bookings")
    async def post(self, booking_id: str) -> None:
        self.body()
        self.reply(await self.plane.cancel_booking(self.actor, key=self.idempotency_key, **self.arguments))


class MoveBookingHandler(ComputeHubHandler):
    path = "bookings/{booking_id}/move"

    @authorized("write", resource="computehub:bookings")
    async def post(self, booking_id: str) -> None:
        to = self.body()
        self.reply(await self.plane.move_booking(self.actor, key=self.idempotency_key, **self.arguments, **to))


class AllSeriesHandler(ComputeHubHandler):
    path = "booking-series"

    @authorized("write", resource="computehub:bookings")
    async def post(self) -> None:
        series = await self.plane.book_series(self.actor, key=self.idempotency_key, **self.body())
        self.reply(series, status=201, location=f"booking-series/{series['id']}")


class SeriesHandler(ComputeHubHandler):
    path = "booking-series/{series_id}"

    @authorized("read", resource="computehub:bookings")
    async def get(self, series_id: str) -> None:
        self.reply(await self.plane.series(self.actor, **self.arguments))


class CancelSeriesHandler(ComputeHubHandler):
    path = "booking-series/{series_id}/cancel"

    @authorized("write", resource="computehub:bookings")
    async def post(self, series_id: str) -> None:
        self.body()
        self.reply(await self.plane.cancel_series(self.actor, key=self.idempotency_key, **self.arguments))
