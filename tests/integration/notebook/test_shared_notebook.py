"""Two people at one notebook on a real server: both see who moved it and who pays; each does what is theirs to do."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.lab import Lab, running_lab
from tests.support.api import API_PATH, StrictContract
from tests.support.notebooks import Browser

CREDIT = 1_000_000
MINE_ALONE = {"is_mine", "may"}
KEEPS = """
import os, urllib.request as u, urllib.error as e
r = u.Request(os.environ['COMPUTEHUB_URL'] + 'kernels/' + os.environ['COMPUTEHUB_KERNEL_ID'] + '/keep', method='POST',
    headers={'Authorization': 'token ' + os.environ['COMPUTEHUB_KERNEL_TOKEN']})
try: print(u.urlopen(r).status)
except e.HTTPError as error: print(error.code)
"""


class Person:
    """One of the people at the notebook, held to openapi.yaml in all that they are answered."""

    def __init__(self, lab: Lab, name: str, contract: StrictContract) -> None:
        self.name, self.token, self._contract = name, lab.users[name], contract
        headers = {"Authorization": f"token {self.token}"}
        self.http = httpx.AsyncClient(base_url=lab.url, headers=headers, timeout=30, trust_env=False)

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"Idempotency-Key": secrets.token_hex(8)} if method == "POST" else {}
        more = {"json": body} if body is not None else {}
        answer = await self.http.request(method, f"{API_PATH}/{path}", headers=headers, **more, **options)
        self._contract.check(answer)
        return answer

    async def get(self, path: str, **options: Any) -> Any:
        answer = await self.ask("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def preview(self, kernel_id: str, **wanted: Any) -> Any:
        answer = await self.ask("POST", "switches/preview", {"kernel_id": kernel_id, "target": "gpu", **wanted})
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def moved(self, kernel_id: str, target: str, **wanted: Any) -> Any:
        asked = await self.ask("POST", "switches", {"target": target, "kernel_id": kernel_id, "keep": "none", **wanted})
        assert asked.status_code == 202, asked.text
        async with asyncio.timeout(30):
            while (switch := await self.get(f"switches/{asked.json()['id']}"))["state"] not in ("done", "failed"):
                await asyncio.sleep(0.05)
        assert switch["state"] == "done", switch["error"]
        return switch

    async def money(self) -> Any:
        return (await self.get("me"))["balance"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("shared")
    with running_lab(folder, users=("alice", "bob", "root"), admin_users=["root"], tick_seconds=1.0) as lab:
        yield lab


@pytest.fixture
async def people(lab: Lab) -> AsyncIterator[dict[str, Person]]:
    contract = StrictContract()
    people = {name: Person(lab, name, contract) for name in lab.users}
    yield people
    for person in people.values():
        await person.http.aclose()


@pytest.fixture
async def kernel_id(people: dict[str, Person]) -> AsyncIterator[str]:
    http = people["alice"].http
    made: str = (await http.post("api/kernels", json={})).json()["id"]
    yield made
    await http.delete(f"api/kernels/{made}")


@pytest.fixture
async def browser(lab: Lab, kernel_id: str) -> AsyncIterator[Browser]:
    browser = await Browser(lab.url, lab.users["alice"], kernel_id).open()
    yield browser
    await browser.close()


async def permitted(person: Person, kernel_id: str, right: str) -> bool:
    """Whether the route does it."""
    place = await person.get(f"kernels/{kernel_id}")
    lease = (place["lease"] or {}).get("id", "lease_none")
    if right == "move":
        target = "cpu" if place["place"] == "gpu" else "gpu"
        answer = await person.ask("POST", "switches", {"target": target, "kernel_id": kernel_id, "keep": "none"})
    else:
        answer = await person.ask("POST", f"leases/{lease}/{right}", {} if right == "end" else {"seconds": 60})
    assert answer.status_code < 500, answer.text
    if right == "move" and answer.is_success:
        async with asyncio.timeout(30):
            while (await person.get(f"switches/{answer.json()['id']}"))["state"] != "done":
                await asyncio.sleep(0.05)
    return answer.is_success


async def test_both_see_who_moved_it_who_pays_and_how_long(people: dict[str, Person], kernel_id: str) -> None:
    alice, bob = people["alice"], people["bob"]
    before = await bob.get(f"kernels/{kernel_id}")
    assert (before["place"], before["payer"], before["moved_by"], before["is_mine"]) == ("cpu", None, None, False)
    assert before["may"] == {"move": True, "extend": False, "shorten": False, "end": False, "why": None}
    assert before["idle"] == {"since_at": None, "gives_back_at": None}

    await alice.moved(kernel_id, "gpu", model="T4", duration_seconds=3600)
    hers, his = await alice.get(f"kernels/{kernel_id}"), await bob.get(f"kernels/{kernel_id}")
    for place in (hers, his):
        place["lease"].pop("server_now")
        place["lease"].pop("cost_microcredits")
    assert {n: v for n, v in hers.items() if n not in MINE_ALONE} == {
        n: v for n, v in his.items() if n not in MINE_ALONE
    }
    assert his["payer"] == his["moved_by"] == {"username": "alice", "display_name": "Alice"}
    assert (his["lease"]["rate_microcredits_per_hour"], his["lease"]["simulated"]) == (CREDIT, True)
    assert (hers["is_mine"], his["is_mine"]) == (True, False)
    assert "balance" not in str(his)
    assert "available" not in str(his)
    assert (await bob.ask("GET", f"leases/{his['lease']['id']}")).status_code == 404, "her account's side of it"

    await alice.moved(kernel_id, "cpu")
    back = await bob.get(f"kernels/{kernel_id}")
    assert (back["place"], back["payer"], back["moved_by"]["username"]) == ("cpu", None, "alice")


async def test_what_one_may_is_what_the_routes_do(people: dict[str, Person], kernel_id: str) -> None:
    await people["alice"].moved(kernel_id, "gpu", model="T4", duration_seconds=3600)
    lease_id = (await people["alice"].get(f"kernels/{kernel_id}"))["lease"]["id"]
    expected = {
        "bob": {"move": False, "extend": False, "shorten": False, "end": False},
        "root": {"move": True, "extend": False, "shorten": True, "end": True},
        "alice": {"move": True, "extend": True, "shorten": True, "end": True},
    }
    for name, rights in expected.items():
        may = (await people[name].get(f"kernels/{kernel_id}"))["may"]
        why = may.pop("why")
        assert may == rights
        assert (why is None) == all(rights.values())
        assert why is None or why.startswith("Alice pays for this GPU")
    for name, rights in expected.items():
        for right in ("extend", "shorten"):
            assert await permitted(people[name], kernel_id, right) == rights[right], (name, right)
    assert not await permitted(people["bob"], kernel_id, "end")
    assert not await permitted(people["bob"], kernel_id, "move")
    assert await permitted(people["root"], kernel_id, "move")
    assert (await people["alice"].get(f"leases/{lease_id}"))["end_reason"] == "returned"

    # Now it is on the CPU, where each may move it on their own account, and the admin may end that.
    assert await permitted(people["bob"], kernel_id, "move")
    seen = await people["alice"].get(f"kernels/{kernel_id}")
    assert (seen["payer"]["username"], seen["moved_by"]["username"]) == ("bob", "bob")
    assert seen["may"]["why"].startswith("Bob pays for this GPU")
    assert not await permitted(people["alice"], kernel_id, "move")
    assert await permitted(people["root"], kernel_id, "end")


async def test_who_is_at_the_notebook_keeps_its_gpu_and_a_kernel_does_not(
    people: dict[str, Person], kernel_id: str, browser: Browser
) -> None:
    alice, bob = people["alice"], people["bob"]
    refused = await alice.ask("POST", f"kernels/{kernel_id}/keep")
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_move"), "on the CPU nothing is taken"

    await alice.moved(kernel_id, "gpu", model="T4", duration_seconds=3600, idle_timeout_seconds=600)
    first = (await bob.get(f"kernels/{kernel_id}"))["idle"]
    assert _at(first["gives_back_at"]) - _at(first["since_at"]) == timedelta(minutes=10)
    for person in (bob, alice):
        kept = await person.ask("POST", f"kernels/{kernel_id}/keep")
        assert kept.status_code == 200, kept.text
        later = kept.json()["idle"]
        assert _at(later["since_at"]) > _at(first["since_at"])
        first = later
    assert (await browser.ran(KEEPS)).text == "403\n"

    gone = await bob.ask("POST", "kernels/no-such-kernel/keep")
    assert gone.status_code == 404


async def test_while_a_cell_runs_it_is_busy_and_not_idle(
    people: dict[str, Person], kernel_id: str, browser: Browser, tmp_path: Path
) -> None:
    await people["alice"].moved(kernel_id, "gpu", model="T4", duration_seconds=3600)
    cell = browser.run("input('go on? ')")
    await browser.until(lambda: any(m["msg_type"] == "input_request" for m in browser.messages))
    waiting = [browser.run("1"), browser.run("2")]
    async with asyncio.timeout(20):
        while (seen := await people["bob"].get(f"kernels/{kernel_id}"))["waiting_cells"] != 2:
            await asyncio.sleep(0.05)
    assert (seen["busy"], seen["idle"]) == (True, {"since_at": None, "gives_back_at": None})
    preview = await people["bob"].preview(kernel_id, target="cpu")
    assert (preview["problem"] or {})["code"] == "not_found", "what alice pays for, bob does not move"
    preview = await people["alice"].preview(kernel_id, target="cpu")
    assert (preview["preview"], preview["busy"], preview["problem"]) == (None, True, None)
    assert preview["waits"].startswith("A cell runs")
    browser.send("input_reply", {"value": "yes", "status": "ok"}, channel="stdin")
    await browser.done(cell, *waiting)
    async with asyncio.timeout(20):
        while (seen := await people["bob"].get(f"kernels/{kernel_id}"))["idle"]["since_at"] is None:
            await asyncio.sleep(0.05)
    assert (seen["busy"], seen["waiting_cells"]) == (False, 0)

    (tmp_path / "only_there.py").write_text("")
    await browser.ran(f"import sys; sys.path.append({str(tmp_path)!r}); import only_there; sys.path.pop()")
    back = (await people["alice"].preview(kernel_id, target="cpu"))["preview"]
    assert [problem["message"] for problem in back["problems"]] == ["The package only_there is not installed there."]


async def test_a_preview_says_what_would_come_of_it_and_takes_nothing(
    people: dict[str, Person], kernel_id: str, browser: Browser
) -> None:
    alice, bob = people["alice"], people["bob"]
    money, bookings = await alice.money(), (await alice.get("bookings"))["items"]
    await browser.ran("import threading; numbers = list(range(1000)); lock = threading.Lock()")
    wish = {"model": "T4", "duration_seconds": 3600}

    found = await alice.preview(kernel_id, **wish)
    assert [item["name"] for item in found["preview"]["carried"]] == ["threading", "numbers"]
    assert [item["name"] for item in found["preview"]["lost"]] == ["lock"]
    assert found["problem"]["code"] == "loss_not_accepted"
    assert (found["quote"]["amount_microcredits"], found["preview"]["amount_microcredits"]) == (CREDIT, CREDIT)
    assert (found["busy"], found["waits"]) == (False, None)

    agreed = await alice.preview(kernel_id, **wish, accept_loss=True)
    assert (agreed["problem"], agreed["preview"]["lost"]) == (None, found["preview"]["lost"])
    empty = await alice.preview(kernel_id, **wish, keep="none")
    assert (empty["problem"], empty["preview"]["carried"]) == (None, [])

    dear = await alice.preview(kernel_id, model="A100", duration_seconds=80_000, accept_loss=True)
    assert dear["problem"]["code"] == "insufficient_credits"
    assert (dear["quote"]["model"], bool(dear["preview"]["carried"])) == ("A100", True)
    capped = await alice.preview(kernel_id, model="A100", max_rate_microcredits_per_hour=1, keep="none")
    refused = await alice.ask("POST", "switches", {"target": "gpu", "kernel_id": kernel_id, "model": "A100",
                                                   "max_rate_microcredits_per_hour": 1})  # fmt: skip
    assert capped["problem"]["code"] == refused.json()["code"]
    unknown = await alice.preview(kernel_id, model="T1000", keep="none")
    assert (unknown["problem"]["code"], unknown["problem"]["details"]["field"], unknown["quote"]) == (
        "invalid", "model", None,
    )  # fmt: skip
    nowhere = await alice.preview(kernel_id, target="cpu")
    assert (nowhere["problem"]["code"], nowhere["preview"]) == ("illegal_move", None)

    # Without a length it is what the money lasts for, as in the move.
    lasting = await alice.preview(kernel_id, model="A100", count=1, keep="none")
    assert lasting["problem"] is None
    assert lasting["quote"]["amount_microcredits"] <= money["available_microcredits"]

    assert await alice.money() == money
    assert (await alice.get("leases", params={"live": "true"}))["items"] == []
    assert (await alice.get("bookings"))["items"] == bookings
    assert next(o for o in (await bob.get("offers"))["items"] if o["model"] == "A100")["free_now"] == 1
    second = await browser.ran("print(len(numbers))")
    assert (second.text, second.reply["content"]["execution_count"]) == ("1000\n", 2), "a look into it is no cell"
    for body, field in (({"target": "gpu"}, "kernel_id"), ({"target": "mars", "kernel_id": kernel_id}, "target")):
        answer = await alice.ask("POST", "switches/preview", body)
        assert (answer.status_code, answer.json()["details"]["field"]) == (422, field)
    assert (await alice.ask("POST", "switches/preview", {"target": "gpu", "kernel_id": "none"})).status_code == 404


async def test_when_nothing_is_free_the_preview_says_what_is(people: dict[str, Person], kernel_id: str) -> None:
    alice, bob = people["alice"], people["bob"]
    theirs: str = (await bob.http.post("api/kernels", json={})).json()["id"]
    await bob.moved(theirs, "gpu", model="V100", duration_seconds=3600)
    found = await alice.preview(kernel_id, model="V100", duration_seconds=3600, keep="none")
    assert found["problem"]["code"] == "slot_taken"
    assert found["problem"]["details"]["earliest"]
    assert found["quote"]["available"] is False
    moving_on = await bob.preview(theirs, model="V100")
    assert (moving_on["problem"]["code"], moving_on["preview"], moving_on["quote"]) == ("illegal_move", None, None)
    await bob.http.delete(f"api/kernels/{theirs}")


async def test_who_is_at_the_notebook_sees_its_devices(people: dict[str, Person], kernel_id: str) -> None:
    alice, bob = people["alice"], people["bob"]
    lease_id = (await alice.moved(kernel_id, "gpu", model="T4", duration_seconds=3600))["lease_id"]
    async with asyncio.timeout(30):
        while not any(d["readings"] for d in (await bob.get(f"leases/{lease_id}/readings"))["devices"]):
            await asyncio.sleep(0.2)
    seen = await bob.get(f"leases/{lease_id}/readings")
    assert (seen["simulated"], seen["devices"][0]["uuid"][:7]) == (True, "SIM-T4-")
    assert (await alice.get(f"leases/{lease_id}/readings"))["devices"]
    newest = seen["devices"][0]["readings"][-1]["at"]
    rest = await bob.get(f"leases/{lease_id}/readings", params={"since": newest})
    assert all(r["at"] > newest for r in rest["devices"][0]["readings"])
    await alice.moved(kernel_id, "cpu")
    assert (await alice.get(f"leases/{lease_id}/readings"))["devices"]
    assert (await bob.ask("GET", f"leases/{lease_id}/readings")).status_code == 404, "it serves no notebook of his"


async def test_a_move_that_nobody_remembers_is_not_found(people: dict[str, Person]) -> None:
    answer = await people["alice"].ask("GET", "switches/switch_01jm3h8k5v0000000000000000")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "until it stops" in answer.json()["message"]


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def test_nobody_from_elsewhere_gets_in(lab: Lab, tmp_path: Path) -> None:
    with httpx.Client(base_url=f"{lab.url}{API_PATH}/", trust_env=False) as stranger:
        for method, path in (
            ("GET", "kernels/k"),
            ("POST", "kernels/k/keep"),
            ("POST", "switches/preview"),
            ("GET", "leases/l/readings"),
        ):
            assert stranger.request(method, path, json={} if method == "POST" else None).status_code == 403, path
