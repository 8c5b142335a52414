"""Bookings."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized


class BookingsHandler(ComputeHubHandler):
    path = "bookings"

    @authorized("read", resource="computehub:bookings")
    async def get(self) -> None:
        self.reply(await self.plane.bookings(self.actor, **self.arguments))

    @authorized("write", resource="computehub:bookings")
    async def post(self) -> None:
        booking = await self.plane.book(self.actor, key=self.idempotency_key, **self.body())
        self.reply(booking, status=201, location=f"bookings/{booking['id']}")


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
