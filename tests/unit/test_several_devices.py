"""Several devices in one booking: one price, one slot, one lease, and one kernel that has them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Invalid, SlotTaken
from tests.support.plane import CREDIT, Plane, browser


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    """It is 9:00, and there are two T4 and one V100."""
    hub = Plane(database, clock)
    yield hub
    hub.close()


AT_TEN = {"model": "T4", "starts_at": "2026-03-02T10:00:00Z", "duration_seconds": 3600}


def test_a_booking_of_two_holds_both_and_its_kernel_gets_both(hub: Plane) -> None:
    booking = hub.book(browser(), hub.key(), count=2, **AT_TEN)
    assert (booking["state"], booking["count"], booking["amount_microcredits"]) == ("confirmed", 2, 2 * CREDIT)
    assert hub.money() == (10, 8)
    with pytest.raises(SlotTaken):
        hub.book(browser("bob"), hub.key(), **AT_TEN)

    hub.pass_time(hours=1)
    lease = hub.running(booking_id=booking["id"], model=None, duration_seconds=None)
    assert (lease["count"], hub.free()) == (2, 0)
    [placement] = hub.place.placements.values()
    assert placement.request is not None
    assert [device.index for device in placement.request.devices] == [0, 1]
    hub.pass_time(minutes=30)
    assert hub.release_lease(lease["id"], "returned")["cost_microcredits"] == CREDIT, "half an hour of each"
    assert (hub.money(), hub.free()) == ((9, 9), 2)


def test_two_of_a_model_that_has_one_are_refused_and_nothing_is_held(hub: Plane) -> None:
    for count in (2, 9):
        with pytest.raises((Invalid, SlotTaken)):
            hub.book(browser(), hub.key(), count=count, **{**AT_TEN, "model": "V100"})
    assert hub.money() == (10, 10)


def test_cancelled_before_its_start_all_of_them_are_free_again(hub: Plane) -> None:
    booking = hub.book(browser(), hub.key(), count=2, **AT_TEN)
    hub.cancel_booking(browser(), hub.key(), booking_id=booking["id"])
    assert hub.money() == (10, 10)
    assert hub.book(browser("bob"), hub.key(), count=2, **AT_TEN)["state"] == "confirmed"
