"""Terminals over the API: real shells beside leases of a backend that otherwise runs nothing."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import websocket

from computehub_ext.backends.capabilities import Terminal, TerminalRequest
from computehub_ext.backends.pipes import PipeStream
from computehub_ext.backends.shells import ARGUMENTS, StreamTerminal
from computehub_ext.client import remote
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.clock import Clock
from computehub_ext.core.errors import ComputeHubError, Forbidden, NotFound, Refused
from computehub_ext.leases import terminals
from computehub_ext.leases.model import Lease, LeaseState
from computehub_ext.testing.fake_backend import FakeBackend
from computehub_ext.testing.kernels import wait_for
from tests.support.api import API_PATH, TOKENS, Hub

SECONDS_MAX = 20.0


class BackendWithShells(FakeBackend):
    """Its kernels are none, and its terminals are shells of this process's own."""

    refusal = ""
    is_opening = False

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.asked: list[TerminalRequest] = []
        self.opened: list[Terminal] = []
        self.before_open = threading.Event()
        self.before_open.set()

    def open_terminal(self, request: TerminalRequest) -> Terminal:
        if self.refusal:
            raise Refused(self.refusal)
        self.asked.append(request)
        self.is_opening = True
        assert self.before_open.wait(SECONDS_MAX), "the test lets it go on"
        self.is_opening = False
        stream = PipeStream([sys.executable, *ARGUMENTS], {"PATH": os.environ["PATH"]})
        config = {"rows": request.rows, "columns": request.columns, "below": os.getpid()}
        environment = {"PATH": os.environ["PATH"], "PS1": "$ "}
        self.opened.append(StreamTerminal(stream, {**config, "environment": environment}))
        return self.opened[-1]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub"), backend=BackendWithShells, terminals_at=["local"]) as hub:
        yield hub


@pytest.fixture
def lease(hub: Hub) -> Iterator[dict[str, Any]]:
    made = hub.lease(seconds=3600)
    yield made
    hub.as_("alice").post(f"leases/{made['id']}/end")
    wait_for(lambda: not open_terminals(hub), message="a terminal outlived its lease")


def open_terminals(hub: Hub) -> list[Any]:
    return [each for each in hub.plane._desk._open if not each.is_over]


class Window:
    """A terminal as JupyterLab has it."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self.socket, self.text, self.is_over = socket, "", False

    def say(self, *message: Any) -> None:
        self.socket.send(json.dumps(message))

    def type(self, line: str) -> None:
        self.say("stdin", line + "\r")

    def hear(self) -> list[Any]:
        found: list[Any] = json.loads(self.socket.recv())
        if found[0] == "stdout":
            self.text += found[1]
        self.is_over = self.is_over or found[0] == "disconnect"
        return found

    def until(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while text not in self.text:
            assert not self.is_over, self.text
            assert time.monotonic() < deadline, f"it did not show {text!r}: {self.text!r}"
            self.text = self.text[-1000:]  # or a flood would be looked through again with each of its messages
            self.hear()
        self.text = self.text.partition(text)[2]

    def until_it_ends(self) -> str:
        while not self.is_over:
            self.hear()
        return self.text


@contextmanager
def window(hub: Hub, lease_id: str, name: str = "one", who: str | None = "alice", **headers: str) -> Iterator[Window]:
    token = {"Authorization": f"token {TOKENS.get(who, who)}"} if who else {}
    url = f"{hub.server.url}{API_PATH}/leases/{lease_id}/terminals/websocket/{name}".replace("http", "ws", 1)
    socket = websocket.create_connection(
        url,
        header={**token, **headers},
        timeout=SECONDS_MAX,
        suppress_origin="Origin" in headers,
        skip_utf8_validation=True,  # it looks at each byte in Python: a flood of a few megabytes would take a minute
    )
    try:
        found = Window(socket)
        assert found.hear() == ["setup", {}]
        yield found
    finally:
        socket.close()


def refused(open_it: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
    with pytest.raises(websocket.WebSocketBadStatusException) as problem:
        open_it()
    return problem.value.status_code, json.loads(problem.value.resp_body or b"")


def try_window(hub: Hub, lease_id: str, **how: Any) -> Callable[[], None]:
    def open_it() -> None:
        with window(hub, lease_id, **how):
            pass

    return open_it


def test_who_pays_types_and_sees(hub: Hub, lease: dict[str, Any]) -> None:
    assert hub.as_("alice").get(f"leases/{lease['id']}").json()["terminal"] is True
    with window(hub, lease["id"]) as shell:
        shell.type("echo $((6*7)) äöü")
        shell.until("42 äöü")
        shell.say("set_size", 33, 77)
        shell.type("stty size")
        shell.until("33 77")
        shell.type("exit")
        assert "The shell has ended." in shell.until_it_ends()
    assert hub.backend.asked[-1].username == "alice"
    assert [device.index for device in hub.backend.asked[-1].devices] == [0]
    wait_for(lambda: not open_terminals(hub), message="it is still kept")


def test_nobody_else_gets_in(hub: Hub, lease: dict[str, Any]) -> None:
    asked = len(hub.backend.asked)
    assert refused(try_window(hub, lease["id"], who="bob"))[0] == 404
    assert refused(try_window(hub, lease["id"], who="chk_bob"))[0] == 404
    assert refused(try_window(hub, lease["id"], who="chk_alice_1"))[0] == 403, "a kernel, whose cells anybody wrote"
    assert refused(try_window(hub, lease["id"], who="chk_alice_2"))[0] == 403
    assert refused(try_window(hub, lease["id"], who=None))[0] == 403
    assert refused(try_window(hub, lease["id"], who="wrong"))[0] == 403
    assert refused(try_window(hub, "lease_nobody"))[0] == 404
    assert refused(try_window(hub, lease["id"], name="a.b"))[0] == 404
    assert len(hub.backend.asked) == asked


def test_an_administrator_ends_leases_and_looks_into_none(hub: Hub, lease: dict[str, Any]) -> None:
    root = Actor("root", "Root", Via.TOKEN, is_admin=True)
    with pytest.raises(Forbidden):
        hub.call("check_terminal", root, lease_id=lease["id"])
    with pytest.raises(Forbidden):
        hub.call("open_terminal", root, lease_id=lease["id"], name="one")


def test_a_terminal_is_found_by_who_opened_it_alone(hub: Hub, lease: dict[str, Any]) -> None:
    alice, bob = Actor("alice", "Alice", Via.TOKEN), Actor("bob", "Bob", Via.TOKEN)
    opened = hub.call("open_terminal", alice, lease_id=lease["id"], name="one")
    for call, more in (
        ("terminal_output", {}),
        ("terminal_input", {"typed": "x"}),
        ("resize_terminal", {"rows": 1, "columns": 1}),
        ("close_terminal", {}),
    ):
        with pytest.raises(NotFound):
            hub.call(call, bob, terminal_id=opened["terminal_id"], **more)
    hub.call("close_terminal", alice, terminal_id=opened["terminal_id"])


def test_a_page_of_another_origin_opens_none_in_a_logged_in_browser(hub: Hub, lease: dict[str, Any]) -> None:
    browser = hub.browser("alice").http
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    with window(hub, lease["id"], who=None, Cookie=cookies, Origin=hub.server.origin) as shell:
        shell.type("echo $((6*7))")
        shell.until("42")
    elsewhere = try_window(hub, lease["id"], who=None, Cookie=cookies, Origin="https://elsewhere.example")
    assert refused(elsewhere)[0] in (403, 404)


def test_it_is_no_page(hub: Hub, lease: dict[str, Any]) -> None:
    answer = hub.as_("alice").get(f"leases/{lease['id']}/terminals/websocket/one")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_what_is_no_message_is_passed_over(hub: Hub, lease: dict[str, Any]) -> None:
    with window(hub, lease["id"]) as shell:
        for each in ("", "nonsense", "{}", "[]", "null", '["stdin"]', '["stdin", 3]', '["set_size"]', "[[]]"):
            shell.socket.send(each)
        for size in ((0, 0), (-1, 5), (10**9, 5), ("a", "b"), (True, True), (1.5, 2)):
            shell.say("set_size", *size)
        shell.say("disconnect", 1)
        shell.say("close_terminal")
        shell.socket.send_binary(b"\xff\xfe")
        shell.type("echo $((6*7)) $(stty size)")
        shell.until("42 24 80")


def test_it_ends_with_its_lease_and_says_so(hub: Hub, lease: dict[str, Any]) -> None:
    with window(hub, lease["id"]) as shell:
        shell.type("echo begun$((1)); sleep 98764")
        wait_for(lambda: running("98764"), message="it did not begin")
        hub.as_("alice").post(f"leases/{lease['id']}/end")
        assert terminals.LEASE_OVER in shell.until_it_ends()
    assert refused(try_window(hub, lease["id"]))[0] == 409
    assert hub.as_("alice").get(f"leases/{lease['id']}").json()["terminal"] is False
    wait_for(lambda: not running("98764"), message="what it ran went on")


def running(marker: str) -> bool:
    return any(marker.encode() in _read(f"/proc/{name}/cmdline") for name in os.listdir("/proc") if name.isdigit())


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_closing_the_window_ends_what_runs_in_it(hub: Hub, lease: dict[str, Any]) -> None:
    with window(hub, lease["id"]) as shell:
        shell.type("echo begun$((1)); sleep 98765")
        shell.until("begun1")
        wait_for(lambda: running("98765"), message="it did not begin")
    wait_for(lambda: not running("98765"), message="what it ran went on")


def test_who_comes_again_while_the_old_connection_hangs_goes_on_with_the_shell(hub: Hub, lease: dict[str, Any]) -> None:
    with window(hub, lease["id"]) as old:
        old.type("remembered=yes; echo begun$((1))")
        old.until("begun1")
        with window(hub, lease["id"]) as new:
            new.type("echo [$remembered]")
            new.until("[yes]")
            assert "opened once more elsewhere" in old.until_it_ends()
            old.socket.close()
            new.type("echo [still $remembered]")
            new.until("[still yes]")


def test_who_goes_away_while_it_is_opened_leaves_nothing(hub: Hub, lease: dict[str, Any]) -> None:
    hub.backend.before_open.clear()
    try:
        with window(hub, lease["id"]):
            wait_for(lambda: hub.backend.is_opening, message="it was not asked for")
        wait_for(lambda: not open_terminals(hub), message="it is still kept")
    finally:
        hub.backend.before_open.set()
    wait_for(lambda: hub.backend.opened and hub.backend.opened[-1].read(0) is None, message="it was opened and left")


def test_one_that_nobody_comes_back_to_is_ended(
    hub: Hub, lease: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server that showed it was killed, and another has the control plane."""
    alice = Actor("alice", "Alice", Via.TOKEN)
    opened = hub.call("open_terminal", alice, lease_id=lease["id"], name="one")
    hub.call("terminal_input", alice, terminal_id=opened["terminal_id"], typed="sleep 98766\r")
    wait_for(lambda: running("98766"), message="it did not begin")
    monkeypatch.setattr(terminals, "UNHEARD_SECONDS_MAX", 0.5)
    wait_for(lambda: not running("98766"), message="what it ran went on")


def test_a_second_server_shows_a_terminal_of_the_first_ones_control_plane(
    hub: Hub, lease: dict[str, Any], tmp_path: Path
) -> None:
    alice = Actor("alice", "Alice", Via.TOKEN)

    async def look() -> tuple[str, str | None]:
        server, elsewhere = remote.serve(hub.plane, tmp_path / "s"), remote.RemotePlane(tmp_path / "s")
        try:
            await elsewhere.check_terminal(alice, lease_id=lease["id"])
            opened = await elsewhere.open_terminal(alice, lease_id=lease["id"], name="one")
            mine = {"terminal_id": opened["terminal_id"]}
            await elsewhere.terminal_input(alice, **mine, typed="echo $((6*7)) äöü; exit\r")
            text, ended = "", None
            while ended is None:
                shown = await elsewhere.terminal_output(alice, **mine)
                text, ended = text + shown["text"], shown["ended"]
            with pytest.raises(NotFound):
                await elsewhere.terminal_output(alice, **mine)
            return text, ended
        finally:
            await elsewhere.close(end_leases=False)
            server.stop()
            await server.close_all_connections()

    text, ended = hub.server.call(look)
    assert "42 äöü" in text
    assert ended == "The shell has ended."


def test_there_are_so_many_and_no_more(hub: Hub, lease: dict[str, Any]) -> None:
    with ExitStack() as stack:
        for number in range(terminals.PER_LEASE_MAX):
            shell = stack.enter_context(window(hub, lease["id"], name=f"t{number}"))
            shell.type("echo $((6*7))")
            shell.until("42")
        with window(hub, lease["id"], name="one-more") as shell:
            assert "which is all there may be" in shell.until_it_ends()
    wait_for(lambda: not open_terminals(hub), message="a terminal is still open")


def test_a_place_that_can_not_says_why(hub: Hub, lease: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.backend, "refusal", "This place has no shell.")
    with window(hub, lease["id"]) as shell:
        assert "This place has no shell." in shell.until_it_ends()
    assert open_terminals(hub) == []


def test_a_flood_is_read_as_fast_as_it_is_shown_and_stops_nobody_else(hub: Hub, lease: dict[str, Any]) -> None:
    with window(hub, lease["id"]) as shell:
        shell.type("yes")
        shell.until("y\r\ny")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        slowest, ends_at = 0.0, time.monotonic() + 2.0
        while time.monotonic() < ends_at:  # nobody takes what it shows
            began = time.monotonic()
            assert hub.as_("alice").get("me").status_code == 200
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.0
        shell.say("stdin", "\x03")
        shell.type("echo stopped$((1))")
        shell.until("stopped1")
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown_mib < 64, "what nobody took was kept"


def test_ctrl_c_interrupts_though_the_server_was_started_with_it_ignored(hub: Hub, lease: dict[str, Any]) -> None:
    """As is what a shell script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with window(hub, lease["id"]) as shell:
            shell.type("echo begun$((1)); sleep 1000")
            shell.until("begun1")
            shell.say("stdin", "\x03")
            shell.type("echo stopped$((1))")
            shell.until("stopped1")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_file_is_pasted_whole(hub: Hub, lease: dict[str, Any]) -> None:
    with window(hub, lease["id"]) as shell:
        shell.type("stty -echo; wc -c; echo counted$((1))")
        for _ in range(8):
            shell.say("stdin", ("x" * 999 + "\r") * 100)
        shell.say("stdin", "\x04")
        shell.until("800000")
        shell.until("counted1")


def test_who_types_is_there(hub: Hub, lease: dict[str, Any]) -> None:
    hub.clock.advance(minutes=10)
    with window(hub, lease["id"]) as shell:
        shell.type("echo $((6*7))")
        shell.until("42")
    hub.clock.advance(minutes=15)
    orders = hub.call("orders", kernel_ids=[lease["kernel_id"]])
    assert orders == [], "25 minutes without a cell, 15 without a key"


def test_where_it_is_not_allowed_it_is_neither_offered_nor_opened(tmp_path: Path) -> None:
    with Hub(tmp_path, backend=BackendWithShells) as closed:
        lease = closed.lease()
        assert lease["terminal"] is False
        status, body = refused(try_window(closed, lease["id"]))
        assert (status, body["code"]) == (403, "forbidden")
        assert "administrator" in body["message"]


def test_who_may_open_one_is_decided_in_one_place() -> None:
    """All that must hold, one by one."""
    now = datetime(2026, 3, 2, 9, tzinfo=UTC)
    lease = Lease(
        id="lease_1",
        booking_id="book_1",
        hold_id="hold_1",
        person_id="person_1",
        pool_id="pool_1",
        model="T4",
        count=1,
        rate_microcredits_per_hour=1_000_000,
        kernel_id="kernel-1",
        notebook_path=None,
        state=LeaseState.RUNNING,
        created_at=now,
        ends_at=now + timedelta(hours=1),
        idle_timeout=timedelta(minutes=20),
        on_the_spot=True,
    )
    terminals.check_may_open(lease, is_owner=True, from_kernel=False, is_offered=True)
    for wrong in ({"is_owner": False}, {"from_kernel": True}, {"is_offered": False}):
        with pytest.raises(ComputeHubError):
            terminals.check_may_open(lease, **{"is_owner": True, "from_kernel": False, "is_offered": True, **wrong})
    for state in LeaseState:
        if state is not LeaseState.RUNNING:
            with pytest.raises(ComputeHubError):
                terminals.check_may_open(replace(lease, state=state), is_owner=True, from_kernel=False, is_offered=True)
