"""One control plane on a database: a second server is its client, and takes over when the first is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from computehub_ext.client import remote
from computehub_ext.client.remote import RemotePlane
from computehub_ext.core.errors import Forbidden, IdempotencyMismatch, NotFound, Unavailable
from computehub_ext.core.replayed import Replayed
from computehub_ext.core.settings import Settings
from computehub_ext.plane import LazyPlane, Opened, PlaneLock, open_plane
from tests.support.plane import CREDIT, browser, kernel

SLOT = {"model": "T4", "when": "tomorrow 14:00", "time_zone": "UTC", "duration_seconds": 3600}

Opener = Callable[[], Opened]


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    def open_it() -> Opened:
        return open_plane(
            database_url=f"sqlite:///{tmp_path / 'data' / 'computehub.sqlite'}",
            state_dir=tmp_path / "state",
            settings=Settings(),
            identity="person",
            simulated="always",
            warm_kernels=0,
            tick_seconds=60,
        )

    return open_it


@pytest.fixture
async def first(opener: Opener) -> AsyncIterator[LazyPlane]:
    plane = LazyPlane(opener, logging.getLogger("first"))
    await plane.open_soon()
    yield plane
    await plane.close(end_leases=True)


async def test_the_second_server_sees_the_same_books(first: LazyPlane, opener: Opener) -> None:
    second = LazyPlane(opener, logging.getLogger("second"))
    booked = await first.book(browser(), "b1", **SLOT)
    assert isinstance(second._plane or (await second.open_soon()), RemotePlane)
    assert await second.booking(browser(), booked["id"]) == booked
    assert (await second.me(browser()))["balance"]["held_microcredits"] == CREDIT
    await second.close(end_leases=False)


async def test_the_second_server_hears_what_the_first_one_commits(first: LazyPlane, opener: Opener) -> None:
    second = LazyPlane(opener, logging.getLogger("second"))
    heard: asyncio.Queue[Any] = asyncio.Queue()
    second.on_open(lambda plane: plane.listen(heard.put_nowait))
    assert isinstance(await second.open_soon(), RemotePlane)
    booked = []
    async with asyncio.timeout(20):
        hears = asyncio.ensure_future(heard.get())
        while not hears.done():  # what came before it listened is missed
            booked.append((await first.book(browser(), f"book {len(booked)}", **SLOT))["id"])
            await first.cancel_booking(browser(), f"cancel {len(booked)}", booked[-1])
            await asyncio.wait({hears}, timeout=0.5)
    event = hears.result()
    assert event.kind == "booking"
    assert event.payload["booking_id"] in booked
    assert event.occurred_at.tzinfo is not None
    await second.close(end_leases=False)
    assert await first.me(browser()), "the first one goes on when its listener has left"


async def test_refusals_and_repeats_cross_the_socket_as_they_are(first: LazyPlane, opener: Opener) -> None:
    second = LazyPlane(opener, logging.getLogger("second"))
    booked = await second.book(browser(), "b1", **SLOT)
    assert not isinstance(booked, Replayed)
    again = await second.book(browser(), "b1", **SLOT)
    assert isinstance(again, Replayed)
    with pytest.raises(IdempotencyMismatch):
        await second.book(browser(), "b1", **{**SLOT, "model": "V100"})
    with pytest.raises(NotFound) as refusal:
        await second.booking(browser("bob"), booked["id"])
    assert refusal.value.details == {"booking_id": booked["id"]}
    with pytest.raises(Forbidden):
        await second.set_allowance(kernel(), 1)
    await second.close(end_leases=False)


async def test_the_second_server_takes_over_when_the_first_is_gone(opener: Opener) -> None:
    first, second = (LazyPlane(opener, logging.getLogger(name)) for name in ("first", "second"))
    await first.open_soon()
    await second.me(browser())
    await first.close(end_leases=True)
    assert (await second.me(browser()))["balance"]["available_microcredits"] == 10 * CREDIT
    assert not isinstance(second._plane, RemotePlane)
    await second.close(end_leases=True)


async def test_the_socket_is_the_owners_alone_and_offers_no_inside(first: LazyPlane, tmp_path: Path) -> None:
    socket_path = tmp_path / "state" / f"plane-{os.getpid()}.sock"
    assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
    transport = httpx.AsyncHTTPTransport(uds=str(socket_path))
    async with httpx.AsyncClient(transport=transport, base_url="http://control-plane") as http:
        for inside in ("_write", "close", "open", "nothing", "__init__"):
            answer = await http.post(f"/{inside}", json={"args": [], "kwargs": {}})
            assert answer.status_code == 404, inside


def test_a_lock_is_held_once_and_let_go_with_its_holder(tmp_path: Path) -> None:
    lock = PlaneLock(tmp_path / "a.lock", tmp_path / "a.sock")
    with pytest.raises(Unavailable) as refusal:
        PlaneLock(tmp_path / "a.lock", tmp_path / "b.sock")
    assert refusal.value.details["socket"] == str(tmp_path / "a.sock")
    lock.release()
    lock.release()
    PlaneLock(tmp_path / "a.lock", tmp_path / "b.sock").release()


async def test_calls_that_come_while_it_opens_wait_for_it(opener: Opener) -> None:
    plane = LazyPlane(opener, logging.getLogger("first"))
    answers = await asyncio.gather(*(plane.me(browser()) for _ in range(5)))
    assert {answer["balance"]["posted_microcredits"] for answer in answers} == {10 * CREDIT}
    await plane.close(end_leases=True)


async def test_an_opening_that_failed_is_tried_again(opener: Opener) -> None:
    tries = []

    def at_second_try() -> Opened:
        tries.append(1)
        if len(tries) == 1:
            raise Unavailable("the disk is away")
        return opener()

    plane = LazyPlane(at_second_try, logging.getLogger("first"))
    with pytest.raises(Unavailable, match="the disk is away"):
        await plane.me(browser())
    assert await plane.me(browser())
    await plane.close(end_leases=True)


async def test_a_socket_that_could_not_be_served_is_tried_again_and_holds_no_lock(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def watched() -> Opened:
        opened.append(opener())
        return opened[-1]

    def fail(*_: object) -> None:
        raise OSError("no room for a socket")

    first, second = (LazyPlane(watched, logging.getLogger(name)) for name in ("first", "second"))
    with monkeypatch.context() as patched:
        patched.setattr(remote, "serve", fail)
        with pytest.raises(OSError, match="no room"):
            await first.me(browser())
    assert await second.me(browser()), "whoever asks next opens it"
    assert second._is_ours
    assert await first.me(browser()) == await second.me(browser())
    assert [isinstance(each.plane, RemotePlane) for each in opened] == [False, False, True]
    with pytest.raises(Unavailable):
        await opened[0].plane.me(browser())  # closed, with its threads
    await first.close(end_leases=False)
    await second.close(end_leases=True)


async def test_a_server_that_stops_ends_the_leases_of_its_own_kernels_alone(opener: Opener, tmp_path: Path) -> None:
    first, second = (LazyPlane(opener, logging.getLogger(name)) for name in ("first", "second"))
    await first.open_soon()
    leases = []
    for plane, kernel_id in ((first, "mine"), (second, "other")):
        lease = await plane.take_lease(browser(), kernel_id, kernel_id=kernel_id, model="T4", duration_seconds=600)
        started = {"kernel_name": "python3", "session_key": b"k", "username": "ada", "env": {}}
        await plane.start_placement(lease["id"], cwd=str(tmp_path), **started)
        leases.append(await plane.lease_running(lease["id"]))
    await first.close(end_leases=True, kernel_ids=["mine"])
    states = [(await second.lease(browser(), lease["id"]))["state"] for lease in leases]
    assert states == ["closed", "running"]
    await second.close(end_leases=True)


async def test_a_deep_state_folder_is_no_reason_to_fail(tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["a-folder-with-a-long-name"] * 5)

    def opener() -> Opened:
        return open_plane(
            database_url=f"sqlite:///{tmp_path / 'computehub.sqlite'}",
            state_dir=deep,
            settings=Settings(),
            identity="person",
            simulated="always",
            warm_kernels=0,
            tick_seconds=60,
        )

    first, second = (LazyPlane(opener, logging.getLogger(name)) for name in ("first", "second"))
    assert (await first.me(browser()))["username"] == "ada"
    assert await second.me(browser()) == await first.me(browser())
    assert isinstance(second._plane, RemotePlane)
    socket_path = first._socket_path
    assert socket_path is not None
    await second.close(end_leases=False)
    await first.close(end_leases=True)
    assert not socket_path.exists()


async def test_a_server_whose_first_is_only_starting_waits_for_it(opener: Opener, tmp_path: Path) -> None:
    """It has the lock from its first moment, and answers when its books are open."""
    socket_path = tmp_path / "state" / "plane.sock"
    lock = PlaneLock(tmp_path / "data" / "computehub.lock", socket_path)
    opening = asyncio.create_task(asyncio.to_thread(opener))
    done, _ = await asyncio.wait({opening}, timeout=0.2)
    assert not done
    socket_path.parent.mkdir(parents=True)
    socket_path.touch()
    opened = await asyncio.wait_for(opening, 5)
    assert isinstance(opened.plane, RemotePlane)
    await opened.plane.close(end_leases=False)
    lock.release()
