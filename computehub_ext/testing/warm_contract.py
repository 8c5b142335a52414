"""What ``WarmPool`` promises, as tests of a backend whose settings keep one kernel ready for each model."""

from __future__ import annotations

from typing import Any

from computehub_ext.backends.capabilities import WarmPool
from computehub_ext.backends.model import Backend

from .kernels import wait_for


class WarmPoolContract:
    """Inherit it beside ``BackendContract``; ``make_backend`` prepares its backends for one pool, of the model T4."""

    def test_who_comes_first_takes_the_one_that_is_ready(self, backend: Backend, ask: Any) -> None:
        assert isinstance(backend, WarmPool)
        request = ask()
        backend.expect(request.model)
        backend.expect("no such model")
        wait_for(lambda: backend.warm_count == 1, message="none was ready")
        assert backend.start(request).warm
        assert backend.warm_count == 0
        assert [look.placement_id for look in backend.list_placements()] == [request.placement_id]

    def test_without_a_pool_none_is_kept_and_kernels_start_all_the_same(self, backend: Backend, ask: Any) -> None:
        assert isinstance(backend, WarmPool)
        backend.prepare([])
        wait_for(lambda: backend.warm_count == 0, message="one was kept")
        assert not backend.start(ask()).warm
