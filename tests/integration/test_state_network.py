"""A state goes from machine to machine under a key and a ticket, whichever side listens, and strangers get nothing."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from computehub_ext.kernel import network, transfer
from computehub_ext.kernel.names import StateError
from computehub_ext.kernel.transfer import expect, fetch, offer, withdraw
from tests.support.kernels import Kernel
from tests.support.state import Notebook

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client.*")

TICKET = "a secret of one journey"
PACKAGE = "__import__('_computehub')"
HERE = {"host": "127.0.0.1"}
SOON_SECONDS = 20.0


@pytest.fixture
def source() -> Iterator[Notebook]:
    yield Notebook().cell(
        "import numpy as np\nbig = np.arange(1_000_000)\nmany = [bytes([i % 256]) * 5000 for i in range(300)]"
    )
    withdraw()
    for listener in list(transfer._expected.values()):
        listener.close()
    transfer._expected.clear()
    wait_until(lambda: not any(thread.name == "computehub-offer" for thread in threading.enumerate()))


@pytest.fixture
def kernels(tmp_path: Path) -> Iterator[tuple[Kernel, Kernel]]:
    with Kernel(tmp_path) as one, Kernel(tmp_path) as other:
        yield one, other


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def offered(source: Notebook, node_offers: bool) -> dict[str, Any]:
    way = HERE if node_offers else expect(TICKET, "127.0.0.1")
    return offer(source.namespace, "all", TICKET, network=way)


@pytest.mark.parametrize("node_offers", [True, False])
def test_between_two_kernels_there_and_back(node_offers: bool, kernels: tuple[Kernel, Kernel]) -> None:
    here, there = kernels
    here.run("import numpy as np\nx = np.arange(25_000_000); y = x[5:]; word = 'said'")
    way = HERE if node_offers else there.ask(f"{PACKAGE}.expect('ticket', '127.0.0.1')")
    manifest = here.ask(f"{PACKAGE}.offer(globals(), 'all', 'ticket', network={way!r})")
    assert manifest["address"].startswith("tcp://127.0.0.1:")
    assert manifest["size"] > 200_000_000
    result = there.ask(f"{PACKAGE}.fetch(globals(), {manifest!r}, 'ticket')")
    assert (result["restored"], result["failed"]) == (["np", "x", "y", "word"], [])
    assert there.run("int(x.sum()), np.shares_memory(x, y), word") == "(312499987500000, True, 'said')"
    wait_until(lambda: here.ask("len(__import__('_computehub.transfer', fromlist=['x'])._open_offers)") == 0)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(manifest["address"].rpartition(":")[2])), timeout=5)


@pytest.mark.parametrize("node_offers", [True, False])
def test_size_and_hash_are_checked_before_anything_is_read(node_offers: bool, source: Notebook) -> None:
    manifest = offered(source, node_offers)
    source["big"][7] = -1
    target = Notebook()
    with pytest.raises(StateError, match="its hash differs"):
        fetch(target.namespace, manifest, TICKET)
    assert target.names() == []


@pytest.mark.parametrize("node_offers", [True, False])
def test_small_and_large_pieces_arrive_in_order(node_offers: bool, source: Notebook) -> None:
    target = Notebook()
    result = fetch(target.namespace, offered(source, node_offers), TICKET)
    assert result["failed"] == []
    assert (target["big"] == source["big"]).all()
    assert target["many"] == source["many"]
    wait_until(lambda: not transfer._open_offers)
    assert not transfer._expected


def test_a_wrong_ticket_gets_nothing_and_the_right_one_is_still_served(source: Notebook) -> None:
    manifest = offered(source, node_offers=True)
    target = Notebook()
    for wrong in ("", "guess", TICKET + "x"):
        with pytest.raises(StateError, match="does not know this ticket"):
            fetch(target.namespace, manifest, wrong)
    assert target.names() == []
    fetch(target.namespace, manifest, TICKET)
    assert (target["big"] == source["big"]).all()


def test_who_awaits_a_state_takes_it_from_the_ticket_alone(source: Notebook) -> None:
    way = expect(TICKET, "127.0.0.1")
    impostor = Notebook().cell("big = 'forged'")
    offer(impostor.namespace, "all", "guess", network=way)
    manifest = offer(source.namespace, "all", TICKET, network=way)
    target = Notebook()
    fetch(target.namespace, manifest, TICKET)
    assert (target["big"] == source["big"]).all()


def test_guessing_ends_the_offer(source: Notebook) -> None:
    manifest = offered(source, node_offers=True)
    for _ in range(network.WRONG_TICKETS_MAX):
        with pytest.raises(StateError):
            fetch({}, manifest, "guess")
    wait_until(lambda: not transfer._open_offers)
    with pytest.raises(StateError, match="hung up"):
        fetch({}, manifest, TICKET)


def test_strangers_on_the_port_get_no_word_and_hold_nobody_up(
    source: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = offered(source, node_offers=True)
    host, _, port = manifest["address"].removeprefix("tcp://").rpartition(":")
    silent = [socket.create_connection((host, int(port)), timeout=5) for _ in range(5)]
    with socket.create_connection((host, int(port)), timeout=5) as babbling:
        babbling.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.linger = 0
        plain.connect(manifest["address"])
        plain.send_multipart([b"hello", TICKET.encode()])  # the right ticket, without the key
        assert not plain.poll(500)
    monkeypatch.setattr(network, "ANSWER_SECONDS", 3.0)
    other_key = zmq.curve_keypair()[0].decode()
    with pytest.raises(StateError, match=r"hung up|no answer"):
        fetch({}, {**manifest, "curve_key": other_key}, TICKET)
    target = Notebook()
    fetch(target.namespace, manifest, TICKET)
    assert (target["big"] == source["big"]).all()
    for connection in silent:
        connection.close()


def test_a_second_one_with_the_ticket_is_not_served(source: Notebook) -> None:
    manifest = offered(source, node_offers=True)
    fetch({}, manifest, TICKET)
    with pytest.raises(StateError, match="hung up"):
        fetch({}, manifest, TICKET)


class Cut:
    """A cable between the two, cut after so many bytes."""

    def __init__(self, address: str, after_bytes: int) -> None:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self.there, self.after_bytes = (host, int(port)), after_bytes
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        near, _ = self.listening.accept()
        far = socket.create_connection(self.there)
        left = [self.after_bytes]

        def pump(one: socket.socket, other: socket.socket) -> None:
            try:
                while left[0] > 0 and (data := one.recv(65536)):
                    left[0] -= len(data)
                    other.sendall(data)
            except OSError:
                pass
            for end in (one, other):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        back = threading.Thread(target=pump, args=(far, near), daemon=True)
        back.start()
        pump(near, far)
        back.join(SOON_SECONDS)
        near.close()
        far.close()
        self.listening.close()


@pytest.mark.parametrize("after_bytes", [0, 100, 300_000, 5_000_000])
@pytest.mark.parametrize("node_offers", [True, False])
def test_a_cut_connection_restores_nothing_and_is_told_at_once(
    node_offers: bool, after_bytes: int, source: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "ANSWER_SECONDS", 3.0)
    monkeypatch.setattr(network, "SILENCE_SECONDS", 6.0)  # as long may who sends wait for who was cut off
    target = Notebook()
    if node_offers:
        manifest = offer(source.namespace, "all", TICKET, network=HERE)
        cable = Cut(manifest["address"], after_bytes)
        manifest["address"] = cable.address
    else:
        way = expect(TICKET, "127.0.0.1")
        cable = Cut(way["address"], after_bytes)
        manifest = offer(source.namespace, "all", TICKET, network={**way, "address": cable.address})
        manifest["address"] = way["address"]
    began = time.monotonic()
    with pytest.raises(StateError, match=r"nothing was restored"):
        fetch(target.namespace, manifest, TICKET)
    assert time.monotonic() - began < 8
    assert target.names() == []
    cable.thread.join(SOON_SECONDS)
    withdraw()
    wait_until(lambda: not transfer._open_offers)


def test_a_withdrawn_offer_and_one_without_a_listener_are_told(source: Notebook) -> None:
    manifest = offered(source, node_offers=True)
    assert withdraw(manifest["address"]) == 1
    wait_until(lambda: not any(thread.name == "computehub-offer" for thread in threading.enumerate()))
    with pytest.raises(StateError, match="hung up"):
        fetch({}, manifest, TICKET)
    with pytest.raises(StateError, match="under a ticket"):
        expect("", "127.0.0.1")


def test_it_listens_where_it_was_told_to_and_else_everywhere(source: Notebook) -> None:
    way = expect(TICKET, "127.0.0.1")
    port = int(way["address"].rpartition(":")[2])
    assert listening_at(port) == ["0100007F"]
    # Behind a translation of addresses the machine does not have the one by which it is known.
    far = expect(TICKET, "192.0.2.1", 0, 4711)
    assert far["address"] == "tcp://192.0.2.1:4711"


def test_a_published_port_is_listened_on_wherever_it_is_published_from(source: Notebook) -> None:
    """A container's, published at 127.0.0.1 of its machine, which is not the container's own."""
    listener = network.Listener(TICKET, "127.0.0.1", 0, 4711)
    bound = listener.socket.last_endpoint
    listener.close()
    assert listener.address == "tcp://127.0.0.1:4711"
    assert bound.startswith(b"tcp://0.0.0.0:")


def listening_at(port: int) -> list[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port]


def test_the_memory_is_let_go_after_the_journey() -> None:
    import weakref

    notebook = Notebook().cell("class Large: pass\nlarge = Large()\nlarge.data = b'x' * 10_000_000")
    watched = weakref.ref(notebook["large"])
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    manifest = offer(notebook.namespace, "all", TICKET, network=HERE)
    fetch({}, manifest, TICKET)
    wait_until(lambda: not transfer._open_offers)
    notebook.namespace.clear()
    wait_until(lambda: watched() is None)
    wait_until(lambda: threading.active_count() <= threads and len(os.listdir("/proc/self/fd")) <= files)
