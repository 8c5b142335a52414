"""How often places are asked how they are: those whose answer is about to change, more often."""

from __future__ import annotations

import pytest

from computehub_ext.backends.model import Health
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.errors import Unreachable
from computehub_ext.leases.asking import DOWN, HEALTH_EVERY, SOON, Places
from computehub_ext.testing.fake_backend import FakeBackend, FakePlace


class Asked(FakeBackend):
    def __init__(self, clock: ManualClock, health: Health) -> None:
        super().__init__(clock, FakePlace())
        self.answer, self.count = health, 0

    def health(self) -> Health:
        self.count += 1
        return self.answer


def test_a_place_that_changes_is_asked_again_soon_and_the_others_are_not(clock: ManualClock) -> None:
    pulling, ill = Asked(clock, Health(False, "45 %", soon=True)), Asked(clock, Health(False, "no engine"))
    places = Places({"pulling": pulling, "ill": ill}, clock)
    for _ in range(2):
        places.check_health(clock.now())
    assert (pulling.count, ill.count) == (1, 1)
    pulling.answer = Health(False, "46 %", soon=True)
    clock.advance(seconds=SOON.total_seconds())
    places.check_health(clock.now())
    assert (pulling.count, ill.count) == (2, 1)
    assert places.unwell() == {"pulling": "46 %", "ill": "no engine"}
    pulling.answer = Health(True)
    clock.advance(seconds=SOON.total_seconds())
    places.check_health(clock.now())
    assert places.unwell() == {"ill": "no engine"}
    clock.advance(seconds=SOON.total_seconds())
    places.check_health(clock.now())
    assert (pulling.count, ill.count) == (3, 1)
    clock.advance(seconds=(HEALTH_EVERY - 3 * SOON).total_seconds())
    places.check_health(clock.now())
    assert (pulling.count, ill.count) == (4, 2)


def test_a_place_that_is_not_asked_for_a_while_is_told_with_the_reason(clock: ManualClock) -> None:
    places = Places({"gone": FakeBackend(clock, FakePlace())}, clock)

    def fail(_: object) -> None:
        raise Unreachable("The engine at unix:///run/other.sock does not answer.")

    for act in (fail, lambda backend: backend.health()):
        with pytest.raises(Unreachable, match="run/other"):
            places.ask("gone", act)
    clock.advance(seconds=DOWN.total_seconds())
    assert places.ask("gone", lambda backend: backend.health()).ok
