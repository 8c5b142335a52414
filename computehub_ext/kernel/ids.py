"""Which booking or switch a person means by an id, of which the last characters are enough."""

from __future__ import annotations

from .desk import Desk
from .pages import items_of
from .problems import GpuProblem

ENDING_MIN = 4
LOOKED_AT = 200


def booking_named(desk: Desk, given_id: str) -> str:
    """The whole id of the booking meant; its last characters are enough where only one ends so."""
    known = [str(b.get("id")) for b in items_of(desk.link.get("bookings", limit=LOOKED_AT))]
    if given_id in known:
        return given_id
    meant = [each for each in known if ends_with(each, given_id)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise GpuProblem(f"{len(meant)} bookings end in {given_id}; give more of the id: {', '.join(meant)}")
    raise GpuProblem(f"No booking of yours has the id {given_id}; `{desk.command} bookings` lists them.")


def switch_named(desk: Desk, given_id: str) -> str | None:
    """The id, if it names a switch: by its own prefix, or as the one under way on this kernel."""
    if given_id.startswith("switch_"):
        return given_id
    try:
        current = (desk.kernel().get("switch") or {}).get("id")
    except GpuProblem:  # in a shell no notebook may be open at all, and a booking can still be meant
        return None
    return str(current) if current and ends_with(str(current), given_id) else None


def ends_with(known_id: str, given_id: str) -> bool:
    ending = given_id.strip("….").lower()
    return known_id == given_id or (len(ending) >= ENDING_MIN and known_id.lower().endswith(ending))
