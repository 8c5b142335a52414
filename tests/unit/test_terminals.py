"""What is said to a terminal that takes nothing more, and what waits for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from computehub_ext.api import terminals as conversations
from computehub_ext.api.terminals import NOT_ALL_TAKEN, Conversation
from computehub_ext.backends.docker import terminals as docker_terminals
from computehub_ext.backends.shells import TYPED_BYTES_MAX, StreamTerminal
from computehub_ext.client import terminals as calls
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Conflict, Invalid
from computehub_ext.leases.terminals import Key
from tests.support.plane import Plane, browser


class Slow:
    """A stream that takes what the test says and shows nothing."""

    def __init__(self) -> None:
        self.takes, self.taken = 0, bytearray()

    def exchange(self, out: bytes, seconds: float) -> tuple[int, bytes | None]:
        part = out[: self.takes]
        self.taken += part
        return len(part), b""

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass

    def frames(self) -> list[tuple[str, bytes]]:
        """What came after the programs and the configuration."""
        text, found = bytes(self.taken), []
        for _ in range(2):
            text = text[8 + int(text[:8], 16) :]
        while text:
            end = 9 + int(text[1:9], 16)
            assert len(text) >= end, "a frame was cut"
            found.append((text[:1].decode(), text[9:end]))
            text = text[end:]
        return found[1:]


def full_terminal() -> tuple[StreamTerminal, Slow]:
    stream = Slow()
    terminal = StreamTerminal(stream, {"rows": 24, "columns": 80})
    with pytest.raises(Conflict):
        for _ in range(TYPED_BYTES_MAX // 1000):
            terminal.write(b"x" * 1000)
    return terminal, stream


def test_a_size_is_taken_when_nothing_more_that_is_typed_is_and_the_newest_arrives() -> None:
    terminal, stream = full_terminal()
    for rows in range(1, 1000):
        terminal.resize(rows, 80)
        terminal.read(0)
        assert len(terminal._out) <= TYPED_BYTES_MAX, "sizes pile up"
    stream.takes = 1000  # ends in the middle of a frame
    for _ in range(2 * TYPED_BYTES_MAX // 1000):
        terminal.read(0)
    sizes = [json.loads(text) for letter, text in stream.frames() if letter == "R"]
    assert sizes == [[999, 80]]
    assert {letter for letter, _ in stream.frames()} == {"I", "R"}


def test_a_size_comes_before_what_is_typed_after_it() -> None:
    stream = Slow()
    terminal = StreamTerminal(stream, {})
    terminal.resize(1, 1)
    terminal.resize(33, 77)
    terminal.write(b"stty size\r")
    stream.takes = TYPED_BYTES_MAX
    while terminal._out:
        terminal.read(0)
    assert stream.frames() == [("R", b"[33, 77]"), ("I", b"stty size\r")]


class Socket:
    def __init__(self) -> None:
        self.said: list[Any] = []

    async def write_message(self, message: str) -> None:
        self.said.append(json.loads(message))


class FullPlane:
    """One whose terminal takes nothing more."""

    is_full = True

    async def resize_terminal(self, actor: Actor, **arguments: Any) -> None:
        raise Conflict("Nothing more is taken.")

    async def terminal_input(self, actor: Actor, **arguments: Any) -> None:
        if self.is_full:
            raise Conflict("Nothing more is taken.")


@pytest.fixture
def conversation(monkeypatch: pytest.MonkeyPatch) -> Conversation:
    monkeypatch.setattr(conversations, "TRY_AGAIN_SECONDS", 0)
    made = Conversation(Socket(), FullPlane(), Actor("alice", "Alice", Via.TOKEN), "lease_1", "one")
    made._terminal_id = "terminal_1"
    made._opened.set()
    return made


async def test_a_size_that_is_refused_ends_no_connection(conversation: Conversation) -> None:
    await conversation.heard('["set_size", 33, 77]')


async def test_who_pastes_too_much_is_told_once_until_something_is_taken(conversation: Conversation) -> None:
    told = ["stdout", f"\r\n\x1b[2m{NOT_ALL_TAKEN}\x1b[0m\r\n"]
    for _ in range(3):
        await conversation.heard('["stdin", "x"]')
    assert conversation._socket.said == [told]
    for conversation._plane.is_full in (False, True):
        await conversation.heard('["stdin", "x"]')
    assert conversation._socket.said == [told, told]


def test_nothing_is_run_in_a_container_of_which_the_environment_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise Invalid("Its image is gone.")

    ran: list[Any] = []
    engine = SimpleNamespace(run_in=lambda *what: ran.append(what))
    containers: Any = SimpleNamespace(settings=SimpleNamespace(python="python"), engine=engine)
    container: Any = SimpleNamespace(id="c1")
    request: Any = SimpleNamespace(rows=24, columns=80)
    monkeypatch.setattr(docker_terminals, "_environment", fail)
    with pytest.raises(Invalid):
        docker_terminals.open_terminal(containers, container, request)
    assert ran == []


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


def test_nothing_is_kept_of_a_terminal_that_is_closed(hub: Plane) -> None:
    kept, _ = hub.plane._desk.reserve(Key("ada", hub.take()["id"], "one"))
    kept.begin(StreamTerminal(Slow(), {}))
    hub.terminal_input(browser(), terminal_id=kept.id, typed="x")
    assert list(hub.plane._active_at) == [kept.id]
    hub.close_terminal(browser(), terminal_id=kept.id)
    assert not hub.plane._active_at


def test_nothing_is_kept_for_long_of_one_that_was_taken_over(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ACTIVE_EVERY_SECONDS", 0.0)  # all is long ago
    key = Key("ada", hub.take()["id"], "one")
    kept, _ = hub.plane._desk.reserve(key)
    kept.begin(StreamTerminal(Slow(), {}))
    for _ in range(3):
        hub.plane._desk.reserve(key)
        hub.terminal_input(browser(), terminal_id=kept.id, typed="x")
    assert list(hub.plane._active_at) == [kept.id]
    hub.plane._desk.drop(kept)
