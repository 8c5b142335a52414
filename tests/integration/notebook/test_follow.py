"""Whatever else a kernel id means: restart, interrupt, shutdown, input, widgets, late browsers, old protocols."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.notebook.conftest import TOKEN
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.latecomers import late_output
from tests.support.notebooks import Browser, Rest

WHERE = "import os; print(os.environ.get('COMPUTEHUB_TEST_PLACEMENT', 'cpu'))"
SLOW = (
    "import time\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('stopped')"
)


@pytest.fixture
async def leased(rest: Rest, browser: Browser, kernel_id: str) -> str:
    """The kernel's id, after it moved to a lease with ``x = 1``."""
    await browser.ran("x = 1")
    switch = await rest.switched("gpu", kernel_id)
    assert switch["state"] == "done", switch["error"]
    return kernel_id


async def test_an_error_aborts_the_cells_behind_it_as_in_plain_jupyter(browser: Browser) -> None:
    failing, second, third = browser.run("1 / 0"), browser.run("print('no')"), browser.run("print('no')")
    await browser.done(failing, second, third)
    assert [cell.status for cell in (failing, second, third)] == ["error", "aborted", "aborted"]
    assert second.text == third.text == ""
    states = [m["content"]["execution_state"] for m in second.messages if m["msg_type"] == "status"]
    assert states == ["busy", "idle"]
    assert (await browser.ran("print('goes on')")).text == "goes on\n"


async def test_an_error_in_a_cell_that_does_not_stop_the_others(browser: Browser) -> None:
    failing, second = browser.run("1 / 0", stop_on_error=False), browser.run("print('yes')")
    await browser.done(failing, second)
    assert (failing.status, second.status, second.text) == ("error", "ok", "yes\n")


async def test_interrupt_reaches_the_leased_kernel(plane: FakePlane, rest: Rest, browser: Browser, leased: str) -> None:
    cell = browser.run(SLOW)
    await browser.until(lambda: cell.text)
    assert (await rest.client.post(f"api/kernels/{leased}/interrupt")).status_code == 204
    await browser.done(cell)
    assert cell.text == "begun\nstopped\n"
    assert "interrupt_placement" in plane.calls


async def test_restart_keeps_the_lease_and_starts_a_new_placement(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    before = plane.running()
    assert (await rest.client.post(f"api/kernels/{leased}/restart")).status_code == 200
    cell = await browser.ran(f"print('x' in globals()); {WHERE}")
    (after,) = plane.running()
    assert [after] != before
    assert cell.text == f"False\n{after}\n"
    (lease,) = plane.leases.values()
    assert lease["state"] == "running"
    assert (await browser.ran("%gpu --help")).status == "ok"


@pytest.mark.parametrize("place", ["cpu", "gpu"])
async def test_what_a_cell_says_right_after_a_restart_is_heard(
    rest: Rest, browser: Browser, kernel_id: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel answers before anybody is connected to its output: then the first cells wait for that."""
    if place == "gpu":
        assert (await rest.switched("gpu", kernel_id))["state"] == "done"
    async with late_output(monkeypatch) as connected:
        assert (await rest.client.post(f"api/kernels/{kernel_id}/restart")).status_code == 200
        failing, behind = browser.run("print('said'); 1 / 0"), browser.run("print('no')")
        with suppress(TimeoutError):
            await browser.until(lambda: failing.reply, seconds=2)
        connected.set()
        await browser.done(failing, behind)
        assert (failing.text, failing.status, behind.status) == ("said\n", "error", "aborted")
        assert (await browser.ran("print('on')")).text == "on\n"


async def test_a_restart_whose_lease_is_over_is_refused_in_words(
    plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    from computehub_ext.core.errors import Refused

    plane.refuse["start_placement"] = Refused("The lease is over.")
    answer = await rest.client.post(f"api/kernels/{leased}/restart")
    assert answer.status_code == 500
    model = (await rest.client.get(f"api/kernels/{leased}")).json()
    assert (model["execution_state"], model["reason"]) == ("dead", "The lease is over.")


async def test_restart_of_a_cpu_kernel(browser: Browser, rest: Rest, kernel_id: str) -> None:
    slow = browser.run("import time; time.sleep(60)")
    waiting = browser.run("print('no')")
    await browser.until(lambda: any(m["msg_type"] == "execute_input" for m in slow.messages))
    assert (await rest.client.post(f"api/kernels/{kernel_id}/restart")).status_code == 200
    await browser.until(lambda: waiting.reply is not None)
    assert waiting.status == "aborted"
    assert (await browser.ran("print('again')")).text == "again\n"


async def test_shutting_the_kernel_down_ends_the_lease(
    plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    assert (await rest.client.delete(f"api/kernels/{leased}")).status_code == 204
    (lease,) = plane.leases.values()
    assert (lease["state"], lease["end_reason"]) == ("closed", "kernel_shut_down")
    assert plane.running() == []


async def test_input_is_asked_for_and_answered_on_the_leased_kernel(browser: Browser, leased: str) -> None:
    cell = browser.run("print('got ' + input('name? '))")
    await browser.until(lambda: any(m["msg_type"] == "input_request" for m in browser.messages))
    browser.send("input_reply", {"value": "it", "status": "ok"}, channel="stdin")
    await browser.done(cell)
    assert cell.text == "got it\n"


async def test_a_widget_answers_a_running_cell_while_others_wait(browser: Browser, leased: str) -> None:
    running = browser.run(
        "import asyncio, comm\n"
        "told = asyncio.get_running_loop().create_future()\n"
        "c = comm.create_comm(target_name='t', comm_id='widget')\n"
        "c.on_msg(lambda m: told.set_result(m['content']['data']['value']))\n"
        "print(await asyncio.wait_for(told, 10))"
    )
    waiting = browser.run("print('second')")
    await browser.until(lambda: any(m["msg_type"] == "comm_open" for m in running.messages))
    browser.send("comm_msg", {"comm_id": "widget", "data": {"value": "moved"}})
    await browser.done(running, waiting)
    assert running.text == "moved\n", running.errors
    assert waiting.text == "second\n"


async def test_widgets_messages_that_wait_out_a_switch_keep_their_order(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    switch = (await rest.switch("gpu", kernel_id, keep="none")).json()
    cells = [browser.run("import comm, functools; seen = []")]
    cells.append(
        browser.run(
            "comm.get_comm_manager().register_target('t', lambda c, m: (seen.append('open'), c.on_msg("
            "lambda m: seen.append(m['content']['data']['n']))))"
        )
    )
    browser.send("comm_open", {"comm_id": "mine", "target_name": "t", "data": {}})
    for number in range(3):
        browser.send("comm_msg", {"comm_id": "mine", "data": {"n": number}})
    last = browser.run("print(seen)")
    await browser.done(*cells, last)
    assert (await rest.ended(switch["id"]))["state"] == "done"
    assert last.text == "['open', 0, 1, 2]\n"


async def test_subshells_work_beside_the_gate_and_what_is_sent_to_one_of_before_is_still_heard(
    rest: Rest, browser: Browser, kernel_id: str
) -> None:
    asked = browser.send("create_subshell_request", {}, channel="control")
    (reply,) = await browser.until(
        lambda: [m for m in browser.messages if m["parent_header"].get("msg_id") == asked and m["channel"] == "control"]
    )
    subshell = reply["content"]["subshell_id"]
    slow = browser.run("import time; print('begun', flush=True); time.sleep(1)")
    await browser.until(lambda: slow.text)
    browser.send("execute_request", {"code": "beside = True", "silent": False}, subshell_id=subshell)
    await browser.done(slow, behind := browser.run("print(beside)"))
    assert behind.text == "True\n"

    assert (await rest.switched("gpu", kernel_id))["state"] == "done"
    await browser.ran("import comm; c = comm.create_comm(target_name='t', comm_id='w'); got = []; c.on_msg(got.append)")
    browser.send("comm_msg", {"comm_id": "w", "data": {}}, subshell_id=subshell)
    assert (await browser.ran("print(len(got))")).text == "1\n"


async def test_a_browser_that_was_away_during_the_move_finds_its_output(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    cell = browser.run("import time; print('first', flush=True); time.sleep(1.0); print('second')")
    behind = browser.run(f"time.sleep(0.5); {WHERE}")
    await browser.until(lambda: cell.text)
    await browser.close()
    switch = await rest.switched("gpu", kernel_id)
    assert switch["state"] == "done", switch["error"]
    (placement,) = plane.running()
    back = Browser(server.url, TOKEN, kernel_id, session=browser.session)
    back.cells = browser.cells
    await back.open()
    await back.done(cell, behind)
    assert cell.text == "first\nsecond\n"
    assert behind.text == f"{placement}\n"
    assert (await back.ran("print('on')")).text == "on\n"
    await back.close()


async def test_cells_of_a_browser_that_left_are_run_all_the_same(
    server: JupyterServer, browser: Browser, kernel_id: str
) -> None:
    other = await Browser(server.url, TOKEN, kernel_id).open()
    slow = other.run("import time; print('here', flush=True); time.sleep(0.5)")
    other.run("left = 'ran'")
    await other.until(lambda: slow.text)
    await other.close()
    assert (await browser.ran("print(left)")).text == "ran\n"


async def test_the_old_websocket_protocol_goes_along(
    server: JupyterServer, plane: FakePlane, rest: Rest, kernel_id: str
) -> None:
    old = await Browser(server.url, TOKEN, kernel_id, legacy=True).open()
    await old.ran("x = 1")
    failing, aborted = old.run("1 / 0"), old.run("print('no')")
    await old.done(failing, aborted)
    assert (failing.status, aborted.status) == ("error", "aborted")
    assert (await rest.switched("gpu", kernel_id))["state"] == "done"
    assert (await old.ran(f"print(x); {WHERE}")).text == f"1\n{plane.running()[0]}\n"
    await old.close()


async def test_broken_messages_do_not_stop_the_kernel(browser: Browser) -> None:
    browser._socket.write_message(b"nonsense", binary=True)
    browser.send("execute_request", ["not", "an", "object"])  # type: ignore[arg-type]
    browser.send("unheard_of", {})
    assert (await browser.ran("print('fine')")).text == "fine\n"


async def test_messages_carry_the_authenticated_name(server: JupyterServer, browser: Browser, kernel_id: str) -> None:
    browser.username = "somebody else"
    cell = await browser.ran("print(get_ipython().kernel.get_parent('shell')['header']['username'])")
    (connection,) = server.app.kernel_manager.get_kernel(kernel_id).traffic.connections
    assert cell.text == f"{connection.websocket_handler.current_user.username}\n"


async def test_a_kernels_token_speaks_for_its_own_kernel_and_no_other(
    server: JupyterServer, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    cell = await browser.ran("import os; print(os.environ['COMPUTEHUB_KERNEL_TOKEN'])")
    token = cell.text.strip()
    assert token.startswith("chk_")
    other = await rest.start_kernel(name="python3")
    async with Rest(server.url, token).client as client:
        assert (await client.get(f"api/computehub/v1/kernels/{kernel_id}")).status_code == 200
        assert (await client.get(f"api/computehub/v1/kernels/{other}")).status_code == 403
        answer = await client.post(
            "api/computehub/v1/switches",
            json={"target": "gpu", "kernel_id": other},
            headers={"Idempotency-Key": "1"},
        )
        assert answer.status_code == 403
        assert (await client.get("api/kernels")).status_code == 403
        assert (await rest.client.delete(f"api/kernels/{kernel_id}")).status_code == 204
        assert (await client.get(f"api/computehub/v1/kernels/{kernel_id}")).status_code == 403


async def test_secrets_of_this_server_stay_here(
    monkeypatch: pytest.MonkeyPatch, plane: FakePlane, rest: Rest, server: JupyterServer
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "power")
    monkeypatch.setenv("HF_TOKEN", "power too")
    kernel_id = await rest.start_kernel(name="python3")
    assert (await rest.switched("gpu", kernel_id, keep="none"))["state"] == "done"
    (env,) = plane.envs
    assert "power" not in json.dumps(env)
    assert env["COMPUTEHUB_KERNEL_ID"] == kernel_id
    assert "PATH" not in env


async def test_the_same_key_begins_one_move_only(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    first = await rest.switch("gpu", kernel_id, keep="none", key="same")
    again = await rest.switch("gpu", kernel_id, keep="none", key="same")
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotency-Hit"] == "true"
    other = await rest.switch("gpu", kernel_id, keep="all", key="same")
    assert other.json()["code"] == "idempotency_mismatch"
    await rest.ended(first.json()["id"])
    assert plane.calls.count("take_lease") == 1


async def test_one_move_at_a_time(plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str) -> None:
    running = browser.run(SLOW)
    await browser.until(lambda: running.text)
    first = (await rest.switch("gpu", kernel_id)).json()
    second = await rest.switch("gpu", kernel_id)
    assert (second.status_code, second.json()["code"]) == (409, "switch_under_way")
    await rest.client.post(f"api/computehub/v1/switches/{first['id']}/cancel")
    await rest.client.post(f"api/kernels/{kernel_id}/interrupt")
    await browser.done(running)


async def test_it_says_so_when_the_notebook_is_there_already(rest: Rest, leased: str) -> None:
    assert (await rest.switch("gpu", leased)).status_code == 409


def states(browser: Browser) -> list[str]:
    return [m["content"]["execution_state"] for m in browser.messages if m["msg_type"] == "status"]


async def test_a_leased_kernel_that_dies_comes_back_empty_on_the_cpu_and_says_why(
    plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    await browser.ran("y = 2")  # the way back is gone with the first cell
    (lease,) = plane.leases.values()
    cell = browser.run("import time; time.sleep(60)")
    await browser.until(lambda: any(m["msg_type"] == "execute_input" for m in cell.messages))
    os.kill(plane.pid_of(lease["id"]), signal.SIGKILL)
    await browser.until(lambda: "no memory left" in cell.text)
    assert "without variables" in cell.text
    await browser.until(lambda: "restarting" in states(browser))
    said = next(i for i, m in enumerate(browser.messages) if "no memory left" in str(m["content"].get("text")))
    forgets = next(i for i, m in enumerate(browser.messages) if m["content"].get("execution_state") == "restarting")
    assert said < forgets, "JupyterLab shows nothing in a cell once it heard that its kernel restarts"
    assert states(browser).count("restarting") == 1
    assert (lease["state"], lease["end_reason"]) == ("closed", "kernel_died")
    assert (await browser.ran(f"print('x' in globals()); {WHERE}")).text == "False\ncpu\n"
    assert (await rest.kernel(leased))["place"] == "cpu"


async def test_a_leased_kernel_that_dies_before_its_first_cell_is_done_gives_the_old_one_back(
    plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    (lease,) = plane.leases.values()
    os.kill(plane.pid_of(lease["id"]), signal.SIGKILL)
    await _until(lambda: lease["state"] == "closed")
    assert (await browser.ran(f"print(x); {WHERE}")).text == "1\ncpu\n"


async def test_opening_the_gpu_kernelspec_without_a_lease_starts_nothing(
    tmp_path: Path, plane: FakePlane, rest: Rest, server: JupyterServer
) -> None:
    spec = Path(__file__).parents[3] / "kernels" / "computehub-gpu"
    server.app.kernel_spec_manager.kernel_dirs.append(str(spec.parent))
    answer = await rest.client.post("api/kernels", json={"name": "computehub-gpu"})
    assert answer.status_code == 409
    assert "the magic command “gpu on”" in answer.json()["message"]
    assert "%" not in answer.json()["message"]
    assert plane.calls == []


async def test_a_kernel_of_another_language_is_left_alone(
    tmp_path: Path, plane: FakePlane, rest: Rest, server: JupyterServer
) -> None:
    folder = tmp_path / "kernels" / "other"
    folder.mkdir(parents=True)
    spec = {"argv": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "R of sorts",
            "language": "R"}  # fmt: skip
    (folder / "kernel.json").write_text(json.dumps(spec))
    server.app.kernel_spec_manager.kernel_dirs.append(str(folder.parent))
    kernel_id = await rest.start_kernel(name="other")
    browser = await Browser(server.url, TOKEN, kernel_id).open()
    assert (await browser.ran("print('plain')")).text == "plain\n"
    answer = await rest.switch("gpu", kernel_id)
    assert answer.status_code == 422
    assert "R of sorts" in answer.json()["message"]
    await browser.close()


async def test_activity_is_reported_for_leased_kernels(plane: FakePlane, browser: Browser, leased: str) -> None:
    await browser.ran("pass")
    await _until(lambda: plane.reported[-1:] == [(leased, False)])
    assert (leased, True) in plane.reported


async def test_the_card_is_drawn_while_it_moves(rest: Rest, browser: Browser, kernel_id: str) -> None:
    switch = await rest.switched("gpu", kernel_id, keep="none")
    shown = [m["content"] for m in browser.messages if m["msg_type"] == "update_display_data"]
    assert {content["transient"]["display_id"] for content in shown} == {f"computehub-{switch['id']}"}
    assert "is on" in shown[-1]["data"]["text/plain"]


async def _until(condition, seconds: float = 20) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
