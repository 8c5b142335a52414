"""``hub``: a server with the API, new for each test file; its clock stands at 2026-03-02 09:00 UTC until moved."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api import Hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub
