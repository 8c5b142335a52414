"""The fake obeys the contract, or tests that use it would prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.testing.backend_contract import BackendContract, MakeBackend
from computehub_ext.testing.berth_contract import BerthContract
from computehub_ext.testing.fake_backend import FakeBackend, FakePlace
from computehub_ext.testing.warm_contract import WarmPoolContract
from tests.support.standing import pool


class TestFakeBackend(BackendContract, BerthContract, WarmPoolContract):
    @pytest.fixture
    def make_backend(self, clock: ManualClock) -> MakeBackend:
        place = FakePlace(berth_lead=timedelta(minutes=10), warm_wanted=1)

        def make() -> FakeBackend:
            backend = FakeBackend(clock, place)
            backend.prepare([pool()])
            return backend

        return make

    @pytest.fixture
    def now(self, clock: ManualClock) -> Callable[[], datetime]:
        return clock.now

    @pytest.fixture
    def let_pass(self, clock: ManualClock) -> Callable[[float], None]:
        return lambda seconds: clock.advance(seconds=seconds) and None
