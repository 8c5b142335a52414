"""A real server with our managers, real kernels, and a control plane without books.

plane       the FakePlane; ``plane.refuse["take_lease"] = error`` makes a call fail
server      the running JupyterServer
rest        its API
kernel_id   a running Python kernel
browser     a websocket to that kernel
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

TOKEN = "owner-token"


def arranged(plane: FakePlane) -> Any:
    def arrange(app: Any) -> None:
        from computehub_ext.api import identity, routes
        from computehub_ext.notebook import setup

        routes.register(app.web_app, app.base_url, plane=plane, identity=identity.Identity("owner"), rate_limits={})
        setup(app, plane)

    return arrange


def config(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        "ServerApp": {
            "kernel_manager_class": "computehub_ext.notebook.kernels.ComputeHubKernelManager",
            "kernel_websocket_connection_class": "computehub_ext.notebook.websocket.GatedConnection",
            "log_level": 30,
        },
        "IdentityProvider": {"token": TOKEN},
        "ComputeHubKernelManager": {"state_dir": str(folder / "state")},
        "SessionManager": {"database_filepath": str(folder / "sessions.sqlite")},
    }


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[FakePlane]:
    plane = FakePlane(tmp_path / "plane")
    yield plane
    plane.close()


@pytest.fixture
def server(tmp_path: Path, plane: FakePlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with JupyterServer(tmp_path, arranged(plane), config(tmp_path)) as server:
        server.app.kernel_manager.kernel_server_url = server.url
        yield server


@pytest.fixture
async def rest(server: JupyterServer) -> AsyncIterator[Rest]:
    rest = Rest(server.url, TOKEN)
    yield rest
    await rest.client.aclose()


@pytest.fixture
async def kernel_id(rest: Rest) -> str:
    return await rest.start_kernel(name="python3")


@pytest.fixture
async def browser(server: JupyterServer, kernel_id: str) -> AsyncIterator[Browser]:
    browser = await Browser(server.url, TOKEN, kernel_id).open()
    yield browser
    await browser.close()
