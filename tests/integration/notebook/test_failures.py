"""A move that fails or is given up at any step leaves the notebook on its old kernel, and nobody charged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from computehub_ext.core.errors import NoCapacity, Refused
from computehub_ext.notebook.moves import SwitchState
from computehub_ext.notebook.switch import Switch
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

WHERE = "import os; print(os.environ.get('COMPUTEHUB_TEST_PLACEMENT', 'cpu'))"
STEPS = [s for s in SwitchState if s not in ("requested", "done", "failed", "cancelled")]


class Break(Exception):
    """Nobody expects this one."""


@pytest.fixture
def steps() -> Iterator[type[Switch]]:
    yield Switch
    Switch.before_step = None


@pytest.mark.parametrize("step", STEPS)
async def test_a_failure_at_any_step_leaves_everything_as_it_was(
    step: SwitchState, steps: type[Switch], plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran("x = 'kept'")
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def fail(switch: Switch, state: SwitchState) -> None:
        if state is step:
            loop.call_soon_threadsafe(reached.set)
            raise Refused(f"No {step} today.")

    steps.before_step = fail  # type: ignore[assignment]
    answer = await rest.switch("gpu", kernel_id)
    waiting = browser.run("print('must not run')")
    info = browser.send("kernel_info_request", {})
    switch = await rest.ended(answer.json()["id"])
    await reached.wait()

    assert switch["state"] == "failed"
    assert switch["error"] == {"message": f"No {step} today.", "code": "refused", "details": {}}
    await browser.until(lambda: waiting.reply is not None and waiting.idle)
    if waiting.errors:  # it was sent before the failure, as it should be
        assert waiting.errors == [("NotMoved", f"No {step} today. This cell was not run.")]
        assert waiting.status == "error"
        assert waiting.text == ""
    await browser.until(lambda: any(m["parent_header"].get("msg_id") == info for m in browser.messages))
    cell = await browser.ran(f"print(x); {WHERE}")
    assert cell.text == "kept\ncpu\n"
    (lease,) = plane.leases.values()
    await _until(lambda: lease["state"] == "closed")
    assert lease["end_reason"] == "start_failed"
    assert lease["started_at"] is None
    await _until(lambda: not plane.running())
    assert (await rest.kernel(kernel_id))["place"] == "cpu"


async def test_a_kernel_that_dies_over_the_variables_is_told_at_once(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran(
        "import os; x = 'kept'\nclass Fragile:\n    def __reduce__(self): return os._exit, (7,)\nfragile = Fragile()"
    )
    answer = await rest.switch("gpu", kernel_id)
    async with asyncio.timeout(30):  # and not for as long as variables may take
        switch = await rest.ended(answer.json()["id"])
    assert switch["state"] == "failed"
    assert "kernel" in switch["error"]["message"]
    cell = await browser.ran(f"print(x); {WHERE}")
    assert cell.text == "kept\ncpu\n"
    (lease,) = plane.leases.values()
    await _until(lambda: lease["state"] == "closed")
    assert (await rest.kernel(kernel_id))["place"] == "cpu"


@pytest.mark.parametrize("step", ["waiting", "capturing", "swapping"])
async def test_a_bug_in_a_step_is_told_without_its_details(
    step: str, steps: type[Switch], plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    async def fail(switch: Switch, state: SwitchState) -> None:
        if state == step:
            raise Break("secret")

    steps.before_step = fail  # type: ignore[assignment]
    switch = await rest.switched("gpu", kernel_id)
    assert switch["error"]["code"] == "internal"
    assert "secret" not in str(switch)
    assert (await browser.ran(WHERE)).text == "cpu\n"


@pytest.mark.parametrize("call", ["start_placement", "transfer_ticket", "lease_running"])
async def test_a_refusal_of_the_control_plane_is_told(
    call: str, plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    plane.refuse[call] = NoCapacity("All of it is taken.")
    switch = await rest.switched("gpu", kernel_id)
    assert switch["error"]["message"] == "All of it is taken."
    assert (await browser.ran(WHERE)).text == "cpu\n"
    assert "lease_failed" in plane.calls
    await _until(lambda: not plane.running())


async def test_a_refused_lease_is_the_answer_to_the_request(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    answer = await rest.switch("gpu", kernel_id, model="none left")
    assert answer.status_code == 503
    assert answer.json()["code"] == "no_capacity"
    assert (await browser.ran(WHERE)).text == "cpu\n"
    assert "lease_failed" not in plane.calls


@pytest.mark.parametrize("step", ["waiting", "checking", "starting", "capturing", "restoring", "verifying"])
async def test_it_can_be_cancelled_until_it_swaps(
    step: str, steps: type[Switch], plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran("x = 'kept'")

    async def hold(switch: Switch, state: SwitchState) -> None:
        if state == step:
            await asyncio.Event().wait()

    steps.before_step = hold  # type: ignore[assignment]
    switch = (await rest.switch("gpu", kernel_id)).json()
    await _reaches(rest, switch["id"], step)
    waiting = browser.run("print('must not run')")
    await rest.client.get("api/status")  # the cell is with the server by now
    answer = await rest.client.post(f"api/computehub/v1/switches/{switch['id']}/cancel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "cancelled"
    await browser.done(waiting)
    assert waiting.errors[0][0] == "NotMoved"
    assert (await browser.ran(f"print(x); {WHERE}")).text == "kept\ncpu\n"
    (lease,) = plane.leases.values()
    assert lease["end_reason"] == "cancelled"
    again = await rest.client.post(f"api/computehub/v1/switches/{switch['id']}/cancel")
    assert again.status_code == 409
    await _until(lambda: not plane.running())


async def test_interrupting_the_kernel_cancels_the_move(
    steps: type[Switch], plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    running = browser.run("import time\ntry:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('stopped')")
    await browser.until(lambda: any(m["msg_type"] == "execute_input" for m in running.messages))
    switch = (await rest.switch("gpu", kernel_id)).json()
    await _reaches(rest, switch["id"], "waiting")
    waiting = browser.run("print('must not run')")
    await rest.client.get("api/status")
    assert (await rest.client.post(f"api/kernels/{kernel_id}/interrupt")).status_code == 204
    await browser.done(running, waiting)
    assert (await rest.ended(switch["id"]))["state"] == "cancelled"
    assert running.text == "stopped\n"
    assert waiting.errors[0][0] == "NotMoved"
    assert (await browser.ran(WHERE)).text == "cpu\n"


async def test_a_cell_that_never_ends_does_not_keep_a_gpu_waiting(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("computehub_ext.notebook.switch.WAIT_SECONDS_MAX", 0.6)
    running = browser.run("import time\nprint('begun', flush=True)\ntime.sleep(3); print('done')")
    await browser.until(lambda: running.text)
    switch = await rest.switched("gpu", kernel_id)
    assert (switch["state"], switch["error"]["code"]) == ("failed", "cell_goes_on")
    await browser.done(running)
    assert running.text == "begun\ndone\n"
    assert (await browser.ran(WHERE)).text == "cpu\n"
    (lease,) = plane.leases.values()
    assert lease["end_reason"] == "start_failed"


async def test_a_kernel_that_is_shut_down_while_its_lease_is_taken_leaves_no_lease(
    steps: type[Switch], server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hold(switch: Switch, state: SwitchState) -> None:
        if state == "requested":
            loop.call_soon_threadsafe(begun.set)
            while not go_on.is_set():
                await asyncio.sleep(0.01)

    steps.before_step = hold  # type: ignore[assignment]
    asked = asyncio.ensure_future(rest.switch("gpu", kernel_id))
    await begun.wait()
    assert (await rest.client.delete(f"api/kernels/{kernel_id}")).status_code == 204
    go_on.set()
    answer = await asked
    assert (answer.status_code, answer.json()["message"]) == (409, "The kernel was shut down.")
    (lease,) = plane.leases.values()
    assert (lease["state"], lease["end_reason"]) == ("closed", "cancelled")
    assert plane.running() == []


async def test_a_way_back_that_fails_leaves_the_notebook_on_its_lease(
    steps: type[Switch], plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran("x = 'kept'")
    assert (await rest.switched("gpu", kernel_id))["state"] == "done"

    async def fail(switch: Switch, state: SwitchState) -> None:
        if state == "verifying":
            raise Refused("Not now.")

    steps.before_step = fail  # type: ignore[assignment]
    assert (await rest.switched("cpu", kernel_id))["state"] == "failed"
    assert (await browser.ran(f"print(x); {WHERE}")).text == f"kept\n{plane.running()[0]}\n"
    (lease,) = plane.leases.values()
    assert lease["state"] == "running"


async def test_what_cant_come_along_is_named_and_nothing_moves_until_it_is_accepted(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran("x = 1; import threading; lock = threading.Lock()")
    switch = await rest.switched("gpu", kernel_id)
    assert switch["error"]["code"] == "loss_not_accepted"
    assert [item["name"] for item in switch["error"]["details"]["lost"]] == ["lock"]
    assert [item["name"] for item in switch["preview"]["lost"]] == ["lock"]
    switch = await rest.switched("gpu", kernel_id, strict=True, accept_loss=True)
    assert switch["error"]["code"] == "loss_not_accepted"
    assert (await browser.ran(f"print(lock.locked()); {WHERE}")).text == "False\ncpu\n"
    switch = await rest.switched("gpu", kernel_id, accept_loss=True)
    assert switch["state"] == "done", switch["error"]
    assert [item["name"] for item in switch["result"]["lost"]] == ["lock"]
    assert (await browser.ran("print(x, 'lock' in globals())")).text == "1 False\n"


async def test_a_yes_to_names_is_no_yes_to_what_the_place_lacks(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lacks(*_: object) -> list[dict[str, str]]:
        return [{"kind": "package", "message": "The package torch is not installed there."}]

    monkeypatch.setattr("computehub_ext.notebook.state.Carrier.check", lacks)
    await browser.ran("x = 1; import threading; lock = threading.Lock()")
    switch = await rest.switched("gpu", kernel_id, accept_loss=True)
    assert switch["error"]["code"] == "loss_not_accepted"
    assert "torch is not installed there" in switch["error"]["message"]
    assert [lease["state"] for lease in plane.leases.values()] == ["closed"]
    switch = await rest.switched("gpu", kernel_id, accept_loss=True, accept_problems=True)
    assert switch["state"] == "done", switch["error"]


FUSSY = """
class Fussy:
    def __setstate__(self, state):
        import no_such_package
x, fussy = 'kept', Fussy()
fussy.inside = 1
"""


@pytest.mark.parametrize("target", ["gpu", "cpu"])
async def test_what_cant_be_rebuilt_there_stays_behind_once_all_was_agreed_to(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str, target: str
) -> None:
    if target == "cpu":
        assert (await rest.switched("gpu", kernel_id))["state"] == "done"
    await browser.ran(FUSSY)
    here = (await browser.ran(WHERE)).text
    for less in ({}, {"accept_loss": True, "accept_problems": True}):
        switch = await rest.switched(target, kernel_id, **less)
        assert switch["error"]["code"] == "loss_not_accepted"
        assert switch["error"]["details"]["only_there"] is True
        assert [item["name"] for item in switch["error"]["details"]["lost"]] == ["fussy"]
    refused = await rest.switched(target, kernel_id, strict=True, accept_failures=True)
    assert refused["error"]["code"] == "loss_not_accepted"
    assert (await browser.ran(f"print(fussy.inside); {WHERE}")).text == f"1\n{here}"

    switch = await rest.switched(target, kernel_id, accept_failures=True)
    assert switch["state"] == "done", switch["error"]
    why = "the package no_such_package is not installed there"
    assert switch["result"]["lost"] == [{"name": "fussy", "reason": why}]
    assert "x" in switch["result"]["restored"]
    assert (await browser.ran("print(x, 'fussy' in globals())")).text == "kept False\n"
    assert (await browser.ran(WHERE)).text != here


async def _reaches(rest: Rest, switch_id: str, step: str) -> None:
    async with asyncio.timeout(20):
        while (await rest.client.get(f"api/computehub/v1/switches/{switch_id}")).json()["state"] != step:
            await asyncio.sleep(0.02)


async def _until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_cancelling_is_heard_while_the_kernel_is_still_greeted(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran("x = 1")
    kernel = server.app.kernel_manager.get_kernel(kernel_id)

    async def greet_for_long() -> None:
        await asyncio.Event().wait()

    def begin() -> None:
        kernel._greeting = asyncio.ensure_future(greet_for_long())

    server.call(begin)
    switch = (await rest.switch("gpu", kernel_id)).json()
    await _until(lambda: "start_placement" in plane.calls)
    cancelled = await rest.client.post(f"api/computehub/v1/switches/{switch['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"
    server.call(lambda: kernel._greeting.cancel())
