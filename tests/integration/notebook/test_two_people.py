"""Two people on one server: who pays is who sent the cell, and nobody moves or sees what another one pays for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.notebook.conftest import config
from tests.support.api import StrictContract
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

TOKENS = {"alice": "the-token-of-alice", "bob": "the-token-of-bob"}
API = "api/computehub/v1/"
ASKS = """
import os, urllib.request as u, json, uuid
r = u.Request(os.environ['COMPUTEHUB_URL'] + 'switches', method='POST',
    data=json.dumps({'target': 'gpu', 'kernel_id': os.environ['COMPUTEHUB_KERNEL_ID'], 'keep': 'none'}).encode(),
    headers={'Authorization': 'token ' + os.environ['COMPUTEHUB_KERNEL_TOKEN'],
             'Content-Type': 'application/json', 'Idempotency-Key': uuid.uuid4().hex})
print(json.load(u.urlopen(r))['requested_by'])
"""


@pytest.fixture
def server(tmp_path: Path, plane: FakePlane, monkeypatch: pytest.MonkeyPatch) -> Iterator[JupyterServer]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def arrange(app: Any) -> None:
        from computehub_ext.api import identity, routes
        from computehub_ext.notebook import setup

        who = identity.Identity("person")
        routes.register(app.web_app, app.base_url, plane=plane, identity=who, rate_limits={})
        setup(app, plane)

    settings = config(tmp_path)
    settings["ServerApp"]["identity_provider_class"] = "computehub_ext.api.identity.TwoUserIdentityProvider"
    settings["TwoUserIdentityProvider"] = {"tokens": TOKENS}
    del settings["IdentityProvider"]
    with JupyterServer(tmp_path, arrange, settings) as server:
        server.app.kernel_manager.kernel_server_url = server.url
        yield server


@pytest.fixture
async def people(server: JupyterServer) -> AsyncIterator[dict[str, Rest]]:
    people = {name: Rest(server.url, token) for name, token in TOKENS.items()}
    yield people
    for rest in people.values():
        await rest.client.aclose()


async def test_whoever_sent_the_cell_pays_whatever_its_header_says(
    server: JupyterServer, plane: FakePlane, people: dict[str, Rest]
) -> None:
    kernel_id = await people["alice"].start_kernel(name="python3")
    alice = await Browser(server.url, TOKENS["alice"], kernel_id).open()
    bob = await Browser(server.url, TOKENS["bob"], kernel_id).open()
    await alice.ran("pass")
    bob.username = "alice"
    cell = await bob.ran(ASKS)
    assert cell.text == "bob\n", cell.errors
    assert [lease["owner"] for lease in plane.leases.values()] == ["bob"]
    await alice.close()
    await bob.close()


async def test_what_one_pays_for_the_other_sees_and_does_not_move(
    server: JupyterServer, plane: FakePlane, people: dict[str, Rest]
) -> None:
    alice, bob = people["alice"], people["bob"]
    kernel_id = await alice.start_kernel(name="python3")
    switch = await alice.switched("gpu", kernel_id, keep="none")
    assert switch["state"] == "done", switch["error"]

    assert (await alice.kernel(kernel_id))["lease"]["owner"] == "alice"
    seen = await bob.kernel(kernel_id)
    assert (seen["place"], seen["lease"]["owner"], seen["switch"]) == ("gpu", "alice", None)
    assert (seen["payer"]["username"], seen["moved_by"]["username"], seen["is_mine"]) == ("alice", "alice", False)
    assert (await bob.client.get(f"{API}switches/{switch['id']}")).status_code == 404
    assert (await bob.client.post(f"{API}switches/{switch['id']}/cancel")).status_code == 404
    assert (await bob.switch("cpu", kernel_id)).status_code == 404
    assert (await bob.kernel(kernel_id))["place"] == "gpu"
    assert (await alice.switched("cpu", kernel_id, keep="none"))["state"] == "done"


async def test_a_key_of_one_is_not_the_others(server: JupyterServer, plane: FakePlane, people: dict[str, Rest]) -> None:
    kernels = [await rest.start_kernel(name="python3") for rest in people.values()]
    answers = await asyncio.gather(
        *(
            rest.switch("gpu", kernel, keep="none", key="1")
            for rest, kernel in zip(people.values(), kernels, strict=True)
        )
    )
    assert [answer.status_code for answer in answers] == [202, 202]
    for rest, answer in zip(people.values(), answers, strict=True):
        assert (await rest.ended(answer.json()["id"]))["state"] == "done"


async def test_nobody_gets_in_without_a_login(server: JupyterServer, people: dict[str, Rest]) -> None:
    """With a good XSRF token, so that it is not for that they are refused."""
    kernel_id = await people["alice"].start_kernel(name="python3")
    routes = [(m, p) for p, m, _ in StrictContract().contract.operations() if p.startswith(("kernels", "switches"))]
    assert len(routes) > 5
    async with Rest(server.url, "wrong").client as stranger:
        await stranger.get("login")
        headers = {"X-XSRFToken": stranger.cookies["_xsrf"], "Idempotency-Key": "1"}
        for method, path in routes:
            address = API + path.format(kernel_id=kernel_id, switch_id="switch_1")
            body = {} if path.endswith(("keep", "cancel")) else {"target": "gpu", "kernel_id": kernel_id}
            more = {"json": body} if method == "post" else {}
            refused = await stranger.request(method.upper(), address, headers=headers, **more)
            assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path


@pytest.mark.parametrize("address", ["kernels/{kernel_id}/keep", "switches/preview"])
async def test_a_foreign_page_does_nothing_in_a_logged_in_browser(
    server: JupyterServer, plane: FakePlane, people: dict[str, Rest], address: str
) -> None:
    kernel_id = await people["alice"].start_kernel(name="python3")
    assert (await people["alice"].switched("gpu", kernel_id, keep="none"))["state"] == "done"
    path = API + address.format(kernel_id=kernel_id)
    body = {"target": "cpu", "kernel_id": kernel_id} if "preview" in address else None

    def ask(**headers: str) -> Any:
        with closing(server.browser(TOKENS["alice"])) as browser:
            return browser.post(path, json=body, headers=headers)

    refused = await asyncio.to_thread(ask, **{"X-XSRFToken": "another"})
    assert (refused.status_code, refused.json()["code"]) == (403, "xsrf")
    assert "keep_lease" not in plane.calls
    assert (await asyncio.to_thread(ask)).status_code == 200
