"""A real server with its control plane, killed or made to fail in the middle of a move: the books and what runs agree.

All servers here follow one another on one folder, so that each has in its books, and in its folders, all that the moves
before were cut off at.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from computehub_ext.backends.local import LocalBackend
from computehub_ext.backends.local.directory import PlacementDirectory
from computehub_ext.backends.local.processes import labelled
from computehub_ext.cli import main
from computehub_ext.core.database import Database
from computehub_ext.notebook.moves import SwitchState
from computehub_ext.testing.kernels import wait_for
from tests.support import cut_short
from tests.support.agreement import placed_for_running
from tests.support.notebooks import API, Browser, Rest
from tests.support.processes import nothing_left_of, owner_of
from tests.support.server import TOKEN, ServerProcess, free_port

ROOT = Path(__file__).parents[3]
STEPS = [str(s) for s in SwitchState if s not in ("requested", "done", "failed", "cancelled")]
# The seed is in the test's name; another first one explores other moments.
FIRST_SEED = int(os.environ.get("COMPUTEHUB_SEED", "20260302"))
WAIT_SECONDS = 30.0
NOT_NEEDED = (
    "jupyter_lsp",
    "jupyter_server_fileid",
    "jupyter_server_terminals",
    "jupyter_server_ydoc",
    "jupyterlab",
    "notebook",
    "notebook_shim",
)
"""Extensions without which a server starts in two thirds of the time."""


class Succession:
    """One server after another on the same folder and port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.state_dir = folder / "runtime" / "computehub"
        self.database = folder / "data" / "computehub" / "computehub.sqlite"
        self._moment = folder / "moment"
        self._server: ServerProcess | None = None
        self._move_seconds = 0.0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[ServerProcess, Rest]]:
        """The server that lives; after one that was killed, the next."""
        if self._server is None or self._server.process.poll() is not None:
            extensions = {**dict.fromkeys(NOT_NEEDED, False), "computehub_ext": True, cut_short.__name__: True}
            self._server = ServerProcess(
                self.folder,
                port=self.port,
                config={"ServerApp.jpserver_extensions": extensions},
                environment={"PYTHONPATH": str(ROOT), cut_short.VARIABLE: str(self._moment)},
            )
            await asyncio.to_thread(self._server.until_ready)
        rest = Rest(self._server.url, TOKEN)
        try:
            yield self._server, rest
        finally:
            self._moment.unlink(missing_ok=True)
            await rest.client.aclose()

    def at(self, moment: str, *, what: str) -> None:
        """Let the living server be killed, or fail, when a move next comes there."""
        self._moment.write_text(f"{what} {moment}")

    async def move_seconds(self) -> float:
        """How long a move takes that nobody disturbs; looked at once."""
        if not self._move_seconds:
            async with self.serving() as (server, rest):
                kernel_id, browser = await opened(server, rest)
                started = time.monotonic()
                assert (await moved(rest, "gpu", kernel_id))["state"] == "done"
                self._move_seconds = time.monotonic() - started
                await browser.close()
                await closed_by_its_person(rest)
        return self._move_seconds

    def close(self) -> None:
        """Fail if the last server leaves anything running, or books that don't agree."""
        if self._server is None:
            return
        self._server.stop()
        try:
            wait_for(lambda: not labelled(owner_of(self.state_dir)), 10, "processes outlived all servers: not gone")
            self.audited()
        finally:
            nothing_left_of(self.state_dir, [LocalBackend(self.state_dir)])

    def audited(self) -> None:
        """As an administrator does it."""
        assert main(["verify", "--database", str(self.database)]) == 0

    def books(self) -> dict[str, list[str]]:
        """The placements of each running lease, after a look at whether all else is over and settled."""
        self.audited()
        with Database(f"sqlite:///{self.database}") as database:
            return database.read(placed_for_running)

    def labels(self, running: dict[str, list[str]]) -> set[str]:
        """What the processes of running leases are labelled with: one that was a standby keeps that label."""
        ids = {each for placed in running.values() for each in placed}
        return ids | {PlacementDirectory(self.state_dir / "placements" / each).label() for each in ids}


@pytest.fixture(scope="module")
def succession(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Succession]:
    succession = Succession(tmp_path_factory.mktemp("succession"))
    yield succession
    succession.close()


@pytest.mark.parametrize("moment", ["leased", "intended", "placed", "verifying", "paid"])
async def test_killed_on_the_way_to_a_gpu(succession: Succession, moment: str) -> None:
    lease = await _killed(succession, "gpu", moment)
    assert lease is not None
    if moment == "paid":
        assert lease["state"] == "running"
    else:
        assert (lease["state"], lease["end_reason"], lease["started_at"]) == ("closed", "start_failed", None)


@pytest.mark.parametrize("moment", ["leaving", "stopping"])
async def test_killed_on_the_way_back(succession: Succession, moment: str) -> None:
    lease = await _killed(succession, "cpu", moment)
    assert lease is not None
    told = ("running", None) if moment == "leaving" else ("closed", "returned")
    assert (lease["state"], lease["end_reason"]) == told


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 2))
async def test_killed_at_any_moment_of_a_move(succession: Succession, seed: int) -> None:
    seconds = random.Random(seed).uniform(0.0, 1.1) * await succession.move_seconds()
    await _killed(succession, "gpu", seconds)


@pytest.mark.parametrize("step", ["intended", *STEPS])
async def test_a_step_that_fails_costs_nothing(succession: Succession, step: str) -> None:
    async with succession.serving() as (server, rest):
        kernel_id, browser = await opened(server, rest)
        succession.at(step, what="fail")
        switch = await moved(rest, "gpu", kernel_id)
        assert (switch["state"], switch["error"]["message"]) == ("failed", f"No {step} today.")
        lease = await _reaches(rest, switch["lease_id"], "closed")
        assert lease["end_reason"] == "start_failed"
        assert (lease["cost_microcredits"], lease["held_microcredits"]) == (0, 0)
        assert (await browser.ran("print(x)")).text == "kept\n"
        assert await asyncio.to_thread(succession.books) == {}
        await browser.close()
        await closed_by_its_person(rest)


async def opened(server: ServerProcess, rest: Rest) -> tuple[str, Browser]:
    """A notebook as JupyterLab opens it, with a variable."""
    body = {"path": "a.ipynb", "name": "a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    answer = await rest.client.post("api/sessions", json=body)
    assert answer.status_code == 201, answer.text
    kernel_id = answer.json()["kernel"]["id"]
    browser = await Browser(server.url, TOKEN, kernel_id).open()
    assert (await browser.ran("x = 'kept'; print(x)")).text == "kept\n"
    return kernel_id, browser


async def moved(rest: Rest, target: str, kernel_id: str) -> dict[str, Any]:
    return await rest.switched(target, kernel_id, accept_loss=True, accept_problems=True)


async def closed_by_its_person(rest: Rest) -> None:
    for session in (await rest.client.get("api/sessions")).json():
        assert (await rest.client.delete(f"api/sessions/{session['id']}")).status_code == 204
    for lease in await _leases(rest):
        await _reaches(rest, lease["id"], "closed")


async def _killed(succession: Succession, target: str, moment: str | float) -> dict[str, Any] | None:
    """Kill the server in a move, at that moment or after so many seconds; return the lease as its successor has it."""
    async with succession.serving() as (server, rest):
        before = {lease["id"] for lease in await _leases(rest)}
        kernel_id, browser = await opened(server, rest)
        if target == "cpu":
            assert (await moved(rest, "gpu", kernel_id))["state"] == "done"
        if isinstance(moment, str):
            succession.at(moment, what="kill")
        asked = asyncio.ensure_future(moved(rest, target, kernel_id))
        if isinstance(moment, float):
            await asyncio.wait({asked}, timeout=moment)
            server.process.kill()
        assert await asyncio.to_thread(server.process.wait, WAIT_SECONDS) < 0
        server.kill()
        with suppress(httpx.HTTPError):
            await asked
        await browser.close()
    async with succession.serving() as (server, rest):
        new = [lease["id"] for lease in await _leases(rest) if lease["id"] not in before]
        found = [await _reaches(rest, each, "running", "closed") for each in new]
        assert len(found) <= 1
        running = [lease["id"] for lease in found if lease["state"] == "running"]
        placed = await asyncio.to_thread(succession.books)
        assert list(placed) == running
        await _runs_on(server, rest, kernel_id if running else None, browser.session)
        wanted, standbys = succession.labels(placed), succession.state_dir / "standbys"
        owner = owner_of(succession.state_dir)
        await _until(
            lambda: all(each in wanted or (standbys / each).exists() for each in labelled(owner).values()),
            "something runs that no lease wants",
        )
        assert not wanted or wanted & set(labelled(owner).values())
        await closed_by_its_person(rest)
        assert await asyncio.to_thread(succession.books) == {}
    return found[0] if found else None


async def _runs_on(server: ServerProcess, rest: Rest, kernel_id: str | None, session: str) -> None:
    """The notebook is on its lease as it was; or it is as after any server that was killed, and can be opened anew."""

    async def known() -> bool:
        kernels = [kernel["id"] for kernel in (await rest.client.get("api/kernels")).json()]
        sessions = [each["kernel"]["id"] for each in (await rest.client.get("api/sessions")).json()]
        return kernels == sessions == ([kernel_id] if kernel_id is not None else [])

    await _until(known, "the notebook is not where its lease is")
    if kernel_id is None:
        _, browser = await opened(server, rest)
    else:
        browser = await Browser(server.url, TOKEN, kernel_id, session=session).open()
        assert (await browser.ran("print(x)")).text == "kept\n"
        assert (await rest.kernel(kernel_id))["place"] == "gpu"
    await browser.close()


async def _leases(rest: Rest) -> list[dict[str, Any]]:
    answer = await rest.client.get(API + "leases")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def _reaches(rest: Rest, lease_id: str, *states: str) -> dict[str, Any]:
    lease: dict[str, Any] = {}

    async def reached() -> bool:
        lease.update((await rest.client.get(f"{API}leases/{lease_id}")).json())
        return lease["state"] in states

    await _until(reached, f"a lease did not come to be {' or '.join(states)}")
    return lease


async def _until(condition: Callable[[], bool | Awaitable[bool]], otherwise: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        holds_now = condition()
        if await holds_now if isinstance(holds_now, Awaitable) else holds_now:
            return
        assert time.monotonic() < deadline, otherwise
        await asyncio.sleep(0.02)
