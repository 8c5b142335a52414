"""What a backend promises that can be asked for a place ahead of its kernel (``backends.model.Berths``), as tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from computehub_ext.backends.capabilities import BerthRequest, Berths
from computehub_ext.backends.model import Backend, Ending, LookState, StartRequest
from computehub_ext.core.errors import NotFound, Refused

from .backend_contract import Ask, MakeBackend, _Requests
from .kernels import wait_for


class BerthContract(_Requests):
    """Berths: asked for once, found again, taken by a start of the same id, and never kept longer than somebody cares.

    The backend that ``make_backend`` makes has a ``berth_lead`` and room.
    """

    ready_seconds_max = 15.0

    @pytest.fixture
    def berths(self, backend: Backend) -> Any:
        assert isinstance(backend, Berths)
        assert backend.berth_lead > timedelta(0)
        return backend

    def berth_of(self, request: StartRequest, now: datetime, kept_seconds: float = 120.0) -> BerthRequest:
        return BerthRequest(
            placement_id=request.placement_id,
            model=request.model,
            device_count=len(request.devices),
            username=request.username,
            kept_until=now + timedelta(seconds=kept_seconds),
            ends_at=now + timedelta(hours=1),
        )

    def ready(self, backend: Backend, placement_id: str) -> None:
        is_ready = lambda: backend.look(placement_id).state is LookState.READY  # noqa: E731
        wait_for(is_ready, self.ready_seconds_max, "it did not become ready")

    def test_a_berth_is_there_before_its_kernel_which_starts_in_it(
        self, berths: Any, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        request = ask()
        berth = self.berth_of(request, now())
        assert berths.ask_berth(berth) >= berth.ends_at
        self.ready(berths, request.placement_id)
        berths.await_berth(request.placement_id)
        assert [look.placement_id for look in berths.list_placements()] == [request.placement_id]
        placed = berths.start(request)
        assert placed.placement_id == request.placement_id
        assert placed.ends_at is None or placed.ends_at >= berth.ends_at
        assert berths.look(request.placement_id).state is LookState.RUNNING
        assert berths.start(request) == placed
        assert len(berths.list_placements()) == 1
        berths.await_berth(request.placement_id)  # a late one has nothing to wait for
        berths.stop(request.placement_id, 0)
        assert berths.list_placements() == []

    def test_asking_again_changes_nothing_whoever_asks(
        self, make_backend: MakeBackend, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        berth = self.berth_of(ask(), now())
        first: Any = make_backend()
        ends_at = first.ask_berth(berth)
        assert first.ask_berth(berth) == ends_at
        successor: Any = make_backend()
        assert successor.ask_berth(berth) == ends_at
        assert [look.placement_id for look in successor.list_placements()] == [berth.placement_id]
        self.ready(successor, berth.placement_id)

    def test_a_successor_starts_in_what_was_asked_for_before(
        self, make_backend: MakeBackend, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        request = ask()
        first: Any = make_backend()
        first.ask_berth(self.berth_of(request, now()))
        self.ready(first, request.placement_id)
        successor = make_backend()
        assert successor.start(request).connection_info["key"] == request.session_key.decode()
        assert len(successor.list_placements()) == 1

    def test_a_start_that_comes_before_it_is_ready_waits_for_it(
        self, berths: Any, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        request = ask()
        berths.ask_berth(self.berth_of(request, now()))
        berths.start(request)
        assert len(berths.list_placements()) == 1

    def test_what_is_given_back_is_gone_and_comes_not_back(
        self, berths: Any, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        early, ready = ask(), ask()
        for request in (early, ready):
            berths.ask_berth(self.berth_of(request, now()))
        self.ready(berths, ready.placement_id)
        for request in (early, ready):
            berths.stop(request.placement_id, 0)
            assert berths.look(request.placement_id).state is LookState.ENDED
            for act in (
                lambda again=request: berths.start(again),
                lambda again=request: berths.ask_berth(self.berth_of(again, now())),
                lambda again=request: berths.await_berth(again.placement_id),
            ):
                with pytest.raises(Refused):
                    act()
        assert berths.list_placements() == []

    def test_it_is_kept_as_long_as_somebody_cares_and_no_longer(
        self, berths: Any, ask: Ask, now: Callable[[], datetime], let_pass: Callable[[float], None]
    ) -> None:
        left, cared_for = ask(), ask(paid_seconds=300)
        for request in (left, cared_for):
            berths.ask_berth(self.berth_of(request, now(), kept_seconds=120))
            self.ready(berths, request.placement_id)
        berths.renew(left.placement_id, now() + timedelta(seconds=2))
        berths.renew(cared_for.placement_id, now() + timedelta(seconds=240))
        let_pass(2)
        assert self.ended(berths, left.placement_id, self.unpaid_seconds_max).reason is Ending.UNPAID
        assert berths.look(cared_for.placement_id).state is LookState.READY
        berths.start(cared_for)

    def test_what_is_to_be_kept_until_a_time_that_has_passed_is_refused(
        self, berths: Any, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        berth = self.berth_of(ask(), now())
        with pytest.raises(Refused):
            berths.ask_berth(replace(berth, kept_until=now() - timedelta(seconds=1)))
        assert berths.list_placements() == []

    def test_nobody_waits_for_what_was_never_asked_for(self, berths: Any) -> None:
        with pytest.raises(NotFound):
            berths.await_berth("placement_nobody")
