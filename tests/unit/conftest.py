"""Unit tests open no sockets: rules and use cases need none.

no_network  (always on) refuses every socket but the event loop's own; `@pytest.mark.allow_network` lifts it for a
            test whose subject is a connection on the loopback
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("allow_network"):
        yield
        return
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
