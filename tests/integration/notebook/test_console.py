"""Direct clients over the connection file: they stay connected while the notebook moves, and wait at the same gate."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from jupyter_client.asynchronous import AsyncKernelClient

from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

WHERE = "import os; print(os.environ.get('COMPUTEHUB_TEST_PLACEMENT', 'cpu'))"


@pytest.fixture
def connection_file(server: JupyterServer, kernel_id: str) -> Path:
    return Path(server.app.kernel_manager.get_kernel(kernel_id).connection_file)


@pytest.fixture
async def client(connection_file: Path) -> AsyncIterator[AsyncKernelClient]:
    client = AsyncKernelClient(connection_file=str(connection_file))
    client.load_connection_file()
    client.start_channels()
    await client.wait_for_ready(timeout=20)
    yield client
    client.stop_channels()
    client.context.destroy(linger=0)


async def printed(client: AsyncKernelClient, code: str, **options: object) -> str:
    """Run a cell and return what it printed."""
    texts: list[str] = []

    def note(message: dict) -> None:  # type: ignore[type-arg]
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    reply = await client.execute_interactive(code, timeout=20, output_hook=note, **options)  # type: ignore[arg-type]
    texts.append("" if reply["content"]["status"] == "ok" else reply["content"]["status"])
    return "".join(texts)


async def test_a_direct_client_goes_along(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str, client: AsyncKernelClient
) -> None:
    assert await printed(client, f"x = 1; {WHERE}") == "cpu\n"
    assert (await rest.switched("gpu", kernel_id))["state"] == "done"
    (placement,) = plane.running()
    assert await printed(client, f"print(x); {WHERE}") == f"1\n{placement}\n"
    assert await client.is_alive()
    assert (await rest.switched("cpu", kernel_id))["state"] == "done"
    assert await printed(client, f"print(x); {WHERE}") == "1\ncpu\n"


async def test_its_cells_wait_for_the_browsers_and_for_the_move(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str, client: AsyncKernelClient
) -> None:
    slow = browser.run("import time; print('begun', flush=True); time.sleep(1); first = True")
    await browser.until(lambda: slow.text)
    switch = (await rest.switch("gpu", kernel_id)).json()
    assert await printed(client, f"print(first); {WHERE}") == f"True\n{plane.running()[0]}\n"
    assert (await rest.ended(switch["id"]))["state"] == "done"


async def test_its_cells_are_refused_when_the_move_fails(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str, client: AsyncKernelClient
) -> None:
    from computehub_ext.core.errors import Refused

    slow = browser.run("import time; print('begun', flush=True); time.sleep(1)")
    await browser.until(lambda: slow.text)
    plane.refuse["lease_running"] = Refused("No.")
    await rest.switch("gpu", kernel_id)
    assert await printed(client, "print('must not run')") == "error"


async def test_it_is_asked_for_input_on_both_kernels(
    rest: Rest, browser: Browser, kernel_id: str, client: AsyncKernelClient
) -> None:
    def answer(message: dict) -> None:  # type: ignore[type-arg]
        client.input("it")

    for target in ("gpu", "cpu"):
        assert await printed(client, "print('got ' + input())", allow_stdin=True, stdin_hook=answer) == "got it\n"
        assert (await rest.switched(target, kernel_id, keep="none"))["state"] == "done"
    assert await printed(client, "print('got ' + input())", allow_stdin=True, stdin_hook=answer) == "got it\n"


async def test_unsigned_messages_reach_neither_kernel_nor_gate(browser: Browser, connection_file: Path) -> None:
    stranger = AsyncKernelClient(connection_file=str(connection_file))
    stranger.load_connection_file()
    stranger.session.key = b"another"
    stranger.start_channels()
    stranger.execute("must_not_run = 1")
    assert (await browser.ran("print('must_not_run' in globals())")).text == "False\n"
    stranger.stop_channels()
    stranger.context.destroy(linger=0)


async def test_jupyter_console_itself(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str, connection_file: Path
) -> None:
    await browser.ran("x = 41")
    console = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jupyter", "console", "--existing", str(connection_file), "--simple-prompt",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip
    assert console.stdin is not None
    assert console.stdout is not None

    async def until(wanted: str) -> str:
        seen = ""
        async with asyncio.timeout(40):
            while wanted not in seen:
                seen += (await console.stdout.read(4096)).decode()  # type: ignore[union-attr]
        return seen

    console.stdin.write(b"print('console', x + 1)\n")
    await until("console 42")
    assert (await rest.switched("gpu", kernel_id))["state"] == "done"
    console.stdin.write(b"x += 1; import os; print('now on', os.environ['COMPUTEHUB_TEST_PLACEMENT'], x)\n")
    assert f"now on {plane.running()[0]} 42" in await until(" 42")
    console.stdin.write(b"exit(keep_kernel=True)\n")
    console.stdin.close()
    await asyncio.wait_for(console.wait(), 20)
    assert (await browser.ran("print(x)")).text == "42\n"
