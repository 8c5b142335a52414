"""Bytes are believed only when they are exactly those that were offered: nothing runs before that is known."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.kernel import transfer
from computehub_ext.kernel.names import StateError
from computehub_ext.kernel.transfer import fetch, offer, withdraw
from tests.support.state import Notebook, packed, received

TICKET = "a secret of one journey"
SOON_SECONDS = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    tmp_path.chmod(0o700)
    yield str(tmp_path)
    withdraw()


@pytest.fixture
def source() -> Notebook:
    return Notebook().cell("import numpy as np\nbig = np.arange(100_000)\ntext = 'abc'")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


went_off: list[str] = []


def go_off(sound: str) -> None:
    went_off.append(sound)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return go_off, ("boom",)


def forged() -> list[bytes]:
    """A well-formed stream that carries a bomb."""
    head = json.dumps({"format": 1, "names": [["x", "name"]], "blocks": []}).encode()
    pickles = pickle.dumps(["x"], 5) + pickle.dumps(Bomb(), 5)
    return [struct.pack(">Q", len(head)), head, struct.pack(">Q", len(pickles)), pickles]


def test_a_stream_is_the_same_bytes_that_were_hashed(source: Notebook) -> None:
    outgoing, manifest = packed(source)
    data = b"".join(outgoing.pieces)
    assert (len(data), hashlib.sha256(data).hexdigest()) == (outgoing.size, outgoing.sha256)
    assert manifest["total_bytes"] <= outgoing.size
    received([data], outgoing.size, outgoing.sha256)


@pytest.mark.parametrize("where", [0, 7, 8, 40, 0.25, 0.5, 0.99, -1])
def test_a_flipped_bit_anywhere_is_refused(source: Notebook, where: float) -> None:
    outgoing, _manifest = packed(source)
    data = bytearray(b"".join(outgoing.pieces))
    at = int(where) if isinstance(where, int) else int(where * len(data))
    data[at] ^= 1
    with pytest.raises(StateError, match="nothing was restored"):
        received([data], outgoing.size, outgoing.sha256)


@pytest.mark.parametrize("cut", [1, 8, 1000])
def test_a_short_or_long_stream_is_refused(source: Notebook, cut: int) -> None:
    outgoing, _manifest = packed(source)
    data = b"".join(outgoing.pieces)
    with pytest.raises(StateError, match="stopped coming half way"):
        received([data[:-cut]], outgoing.size, outgoing.sha256)
    with pytest.raises(StateError, match="nothing was restored"):
        received([data], outgoing.size - cut, outgoing.sha256)
    with pytest.raises(StateError, match=f"is {cut} bytes short"):
        received([data], outgoing.size + cut, outgoing.sha256)


def test_forged_lengths_take_no_memory() -> None:
    with pytest.raises(StateError, match="longer than what was offered"):
        received([struct.pack(">Q", 1 << 62)], 1000, "0" * 64)
    head = json.dumps({"format": 1, "names": [], "blocks": [{"k": "array", "d": "<f8", "s": [1 << 40], "o": "C"}]})
    frames = [struct.pack(">Q", len(head)), head.encode(), struct.pack(">Q", 0), struct.pack(">Q", 1 << 50)]
    with pytest.raises(StateError, match="longer than what was offered"):
        received(frames, 10_000, "0" * 64)


@pytest.mark.parametrize(
    "head", [b"", b"[]", b"{", b'{"format": 2, "blocks": []}', b'{"format": 1}', b"\xff", b"[" * 9999]
)
def test_a_header_of_another_format_is_refused(head: bytes) -> None:
    frames = [struct.pack(">Q", len(head)), head, struct.pack(">Q", 0)]
    with pytest.raises(StateError, match="can't be read"):
        received(frames, sum(map(len, frames)), "0" * 64)


def test_a_bomb_with_another_hash_does_not_go_off(folder: str, source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET, folder)
    data = b"".join(forged())
    path = os.path.join(folder, "impostor.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        impostor = threading.Thread(target=lambda: _serve(listening, data))
        impostor.start()
        target = Notebook()
        with pytest.raises(StateError, match="its hash differs"):
            fetch(target.namespace, {**manifest, "address": path, "size": len(data)}, TICKET)
        impostor.join(SOON_SECONDS)
    assert target.names() == []
    assert went_off == []
    # The same bytes under their own hash do: the test would notice.
    incoming = received(forged(), len(data), hashlib.sha256(data).hexdigest())
    from computehub_ext.kernel.restore import load

    load(target.namespace, incoming.header, incoming.pickles, incoming.blocks)
    assert went_off.pop() == "boom"


def _serve(listening: socket.socket, data: bytes) -> None:
    connection, _peer = listening.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(data)


def test_a_state_moves_over_a_unix_socket_and_the_socket_is_gone(folder: str, source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET, folder)
    assert json.loads(json.dumps(manifest)) == manifest
    assert os.stat(manifest["address"]).st_mode & 0o777 == 0o600
    target = Notebook()
    result = fetch(target.namespace, manifest, TICKET)
    assert result["restored"] == ["np", "big", "text"]
    assert (result["failed"], result["bytes"]) == ([], manifest["size"])
    assert (target["big"] == source["big"]).all()
    wait_until(lambda: not transfer._open_offers)
    assert os.listdir(folder) == []


@pytest.mark.allow_network
def test_without_a_folder_it_moves_over_the_loopback(source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET)
    assert manifest["address"].startswith("127.0.0.1:")
    target = Notebook()
    fetch(target.namespace, manifest, TICKET)
    assert target["text"] == "abc"


def test_a_long_folder_name_is_no_obstacle(tmp_path: Path, source: Notebook) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True, mode=0o700)
    manifest = offer(source.namespace, "all", TICKET, str(deep))
    target = Notebook()
    fetch(target.namespace, manifest, TICKET)
    assert target["text"] == "abc"
    wait_until(lambda: not os.listdir(deep))


def test_a_wrong_ticket_gets_nothing_and_the_right_one_is_still_served(folder: str, source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET, folder)
    target = Notebook()
    for wrong in ("", "guess", TICKET + "x", TICKET.upper()):
        with pytest.raises((StateError, ConnectionError), match=r"half way|reset|Broken"):
            fetch(target.namespace, manifest, wrong)
    assert target.names() == []
    fetch(target.namespace, manifest, TICKET)
    assert target["text"] == "abc"


def test_guessing_ends_the_offer(folder: str, source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET, folder)
    for _ in range(transfer.WRONG_TICKETS_MAX):
        with pytest.raises((StateError, OSError)):
            fetch({}, manifest, "guess")
    wait_until(lambda: not transfer._open_offers)
    with pytest.raises(OSError):
        fetch({}, manifest, TICKET)


def test_a_second_connection_is_not_served(folder: str, source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET, folder)
    fetch({}, manifest, TICKET)
    target = Notebook()
    with pytest.raises(OSError):
        fetch(target.namespace, manifest, TICKET)
    assert target.names() == []


def test_who_says_nothing_does_not_block_for_long(
    folder: str, source: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TICKET_TIMEOUT_SECONDS", 0.1)
    manifest = offer(source.namespace, "all", TICKET, folder)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(manifest["address"])
        target = Notebook()
        fetch(target.namespace, manifest, TICKET)
    assert target["text"] == "abc"


def test_an_offer_ends_by_itself_and_can_be_withdrawn(folder: str, source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET, folder, timeout_seconds=0.05)
    wait_until(lambda: not transfer._open_offers)
    with pytest.raises(OSError):
        fetch({}, manifest, TICKET)
    second = offer(source.namespace, "all", TICKET, folder)
    assert withdraw(second["address"]) == 1
    assert withdraw(second["address"]) == 0
    with pytest.raises(OSError):
        fetch({}, second, TICKET)
    wait_until(lambda: os.listdir(folder) == [])


def test_what_changes_after_the_hash_is_refused(folder: str, source: Notebook) -> None:
    manifest = offer(source.namespace, "all", TICKET, folder)
    source["big"][0] = -1
    target = Notebook()
    with pytest.raises(StateError, match="its hash differs"):
        fetch(target.namespace, manifest, TICKET)
    assert target.names() == []


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path, source: Notebook) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(StateError, match="can be entered by others"):
        offer(source.namespace, "all", TICKET, str(tmp_path))
    with pytest.raises(StateError, match="under a ticket"):
        offer(source.namespace, "all", "", None)
    assert os.listdir(tmp_path) == []


def test_the_memory_is_let_go_after_the_journey(folder: str) -> None:
    import weakref

    notebook = Notebook().cell("""
        class Large: pass
        large = Large()
        large.data = b"x" * 1_000_000
    """)
    watched = weakref.ref(notebook["large"])
    manifest = offer(notebook.namespace, "all", TICKET, folder)
    fetch({}, manifest, TICKET)
    wait_until(lambda: not transfer._open_offers)
    notebook.namespace.clear()
    wait_until(lambda: watched() is None)
