"""Kernels that are reached in other ways than over a port of this machine's, with all that a notebook needs of one."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.core.errors import Refused
from tests.integration.notebook.conftest import TOKEN, arranged, config
from tests.support.fakeplane import FakePlane, Where
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import API, Browser, Rest

NOBODY = 65534


async def until(condition: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def knock(path: str, target: str, token: str | None) -> tuple[int, dict[str, Any]]:
    """Ask through the door of a kernel."""
    connection = http.client.HTTPConnection("127.0.0.1")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(path)
    headers = {"Authorization": f"token {token}", "X-Forwarded-For": "127.0.0.1"} if token else {}
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw) if raw.startswith(b"{") else {}


WHERES = {
    "ipc": Where("ipc"),
    "curve": Where("curve"),
    "met": Where(meets=True),
    "node": Where("curve", host="localhost"),
}


@pytest.mark.parametrize("way", WHERES)
async def test_all_that_a_notebook_does(
    way: str, plane: FakePlane, rest: Rest, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plane.where = WHERES[way]
    await browser.ran("import threading; x = [41]; y = x; guard = threading.Lock()")
    moved = await rest.switched("gpu", browser.kernel_id, accept_loss=True)
    assert moved["state"] == "done", moved["error"]
    assert (
        await browser.ran("x.append(1); print(y, __import__('os').environ['COMPUTEHUB_TEST_PLACEMENT'] != '')")
    ).text
    assert (await browser.ran("print(y)")).text == "[41, 1]\n"

    slow = browser.run(
        "import time\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: pass"
    )
    await browser.until(lambda: slow.text)
    assert (await rest.client.post(f"api/kernels/{browser.kernel_id}/interrupt")).status_code == 204
    await browser.done(slow)

    asked = browser.run("print(input('who? '))")
    await browser.until(lambda: any(m["msg_type"] == "input_request" for m in browser.messages))
    browser.send("input_reply", {"value": "ada"}, channel="stdin")
    await browser.done(asked)
    assert asked.text.endswith("ada\n")

    second = await Browser(browser.url, browser.token, browser.kernel_id).open()
    assert (await second.ran("print(len(x))")).text == "2\n"
    await second.close()

    back = await rest.switched("cpu", browser.kernel_id)
    assert back["state"] == "done", back["error"]
    assert (await browser.ran("print(y)")).text == "[41, 1]\n"
    await until(lambda: not plane.running())

    again = await rest.switched("gpu", browser.kernel_id)
    assert again["state"] == "done", again["error"]
    assert (await rest.client.post(f"api/kernels/{browser.kernel_id}/restart")).status_code == 200
    assert (await browser.ran("print('x' in globals())")).text == "False\n"
    assert "switches" in caplog.text
    assert not [secret for secret in plane.secrets if secret in caplog.text]


@pytest.mark.parametrize("way", ["ipc", "curve"])
async def test_a_console_goes_along(
    way: str, plane: FakePlane, server: JupyterServer, rest: Rest, browser: Browser
) -> None:
    from jupyter_client.asynchronous.client import AsyncKernelClient

    plane.where = WHERES[way]
    kernel = server.app.kernel_manager.get_kernel(browser.kernel_id)
    client = AsyncKernelClient()
    client.load_connection_file(kernel.connection_file)
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=30)
        assert (await rest.switched("gpu", browser.kernel_id))["state"] == "done"
        reply = await client.execute_interactive("print('here')", timeout=30, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok"
        assert await client._async_is_alive(), "its heart beats on"
    finally:
        client.stop_channels()


@pytest.mark.needs("root")
async def test_the_magic_works_without_a_network(
    plane: FakePlane, server: JupyterServer, rest: Rest, browser: Browser
) -> None:
    plane.where = Where("ipc", locked_in=True, uid=12345)
    await browser.ran("x = bytes(3_000_000)")
    moved = await rest.switched("gpu", browser.kernel_id)
    assert moved["state"] == "done", moved["error"]
    shown = await browser.ran("%gpu")
    assert shown.errors == []
    assert "T4" in shown.text
    tried = await browser.ran(
        "import os, urllib.request\nprint(os.getuid(), len(x))\n"
        "try: urllib.request.urlopen(os.environ['COMPUTEHUB_URL'], timeout=5)\nexcept OSError as e: print('no way')"
    )
    assert tried.text == "12345 3000000\nno way\n"
    off = await browser.ran("x = x[:5]\n%gpu off --yes")
    assert off.errors == []
    assert (await browser.ran("print(len(x), os.getuid())")).text == "5 0\n"


async def test_the_door_opens_for_a_kernels_token_alone(
    plane: FakePlane, server: JupyterServer, rest: Rest, browser: Browser
) -> None:
    plane.where = Where(meets=True)
    assert (await rest.switched("gpu", browser.kernel_id))["state"] == "done"
    (folder,) = plane.folders
    path, base = f"{folder}/server.sock", server.app.base_url
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    kernels_own = plane.envs[-1]["COMPUTEHUB_KERNEL_TOKEN"]
    asked = [
        (f"{base}{API}kernels/{browser.kernel_id}", kernels_own),
        (f"{base}{API}kernels/{browser.kernel_id}", browser.token),  # the owner's own, who may do everything elsewhere
        (f"{base}{API}kernels/{browser.kernel_id}", None),
        (f"{base}{API}kernels/{browser.kernel_id}", "chk_invented"),
        (f"{base}api/kernels", kernels_own),
        (f"{base}api/kernels", browser.token),
        (f"{base}{API}../../contents", kernels_own),
        (f"{base}login", None),
    ]
    answers = [await asyncio.to_thread(knock, path, target, token) for target, token in asked]
    assert [status for status, _ in answers] == [200, 403, 403, 403, 403, 403, 404, 403]
    assert answers[0][1]["place"] == "gpu"
    assert (await rest.switched("cpu", browser.kernel_id))["state"] == "done"
    await until(lambda: not os.path.exists(path))


@pytest.mark.needs("root")
async def test_a_stranger_at_the_door_is_sent_away(
    plane: FakePlane, server: JupyterServer, rest: Rest, browser: Browser
) -> None:
    plane.where = Where("ipc", uid=12345)
    assert (await rest.switched("gpu", browser.kernel_id))["state"] == "done"
    (folder,) = plane.folders
    os.chmod(folder, 0o755)  # its owner may be careless
    ask = (
        "import os, socket, sys\n"
        "os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(10)\n"
        "try:\n"
        "    s.connect(sys.argv[1]); s.sendall(b'GET /x HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n"
        "    print(s.recv(12).decode())\n"
        "except OSError as error: print(type(error).__name__)\n"
    )

    async def asked_by(uid: int) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ask, f"{folder}/server.sock", str(uid), stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0].decode().strip()

    assert await asked_by(12345) == "HTTP/1.1 403"
    assert await asked_by(NOBODY) in ("", "ConnectionResetError", "BrokenPipeError")


async def test_a_folder_that_others_can_enter_has_no_door(
    plane: FakePlane, rest: Rest, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.where = Where(meets=True)
    make = plane._meeting_dir

    def open_to_all() -> str | None:
        folder = make()
        os.chmod(str(folder), 0o755)
        return folder

    monkeypatch.setattr(plane, "_meeting_dir", open_to_all)
    assert (await rest.switched("gpu", browser.kernel_id, keep="none"))["state"] == "done"
    (folder,) = plane.folders
    assert not os.path.exists(f"{folder}/server.sock")
    assert "gave no answer" in str((await browser.ran("%gpu")).errors)


async def test_what_another_python_cannot_run_is_named_before_anything_is_charged(
    plane: FakePlane, rest: Rest, browser: Browser
) -> None:
    other = f"{sys.version_info[0]}.{sys.version_info[1] + 1}.0"
    plane.python_version = other
    await browser.ran("exec('def unseen(): return 1')\ndef seen(): return 2")
    refused = await rest.switched("gpu", browser.kernel_id)
    assert refused["state"] == "failed"
    assert [(item["name"], other[:4] in item["reason"]) for item in refused["error"]["details"]["lost"]] == [
        ("unseen", True)
    ]
    assert "lease_running" not in plane.calls
    moved = await rest.switched("gpu", browser.kernel_id, accept_loss=True)
    assert moved["state"] == "done", moved["error"]
    assert (await browser.ran("print(seen(), 'unseen' in globals())")).text == "2 False\n"


async def test_a_python_that_is_too_old_is_refused_before_anything_is_charged(
    plane: FakePlane, rest: Rest, browser: Browser
) -> None:
    plane.python_version = "3.8.18"
    refused = await rest.switched("gpu", browser.kernel_id)
    assert "Python is 3.8.18 there, and a notebook can move to 3.9 or newer" in refused["error"]["message"]
    assert "lease_running" not in plane.calls
    await until(lambda: not plane.running())


async def test_a_folder_that_is_not_there_is_a_matter_of_the_pools_mounts(
    plane: FakePlane, rest: Rest, browser: Browser
) -> None:
    plane.refuse["start_placement"] = Refused("There is no folder /home/ada here.", kind="folder")
    refused = await rest.switched("gpu", browser.kernel_id)
    assert refused["error"]["message"] == (
        "There is no folder /home/ada here. Ask the administrator to add it to the mounts of the pool."
    )


@pytest.mark.parametrize("way", WHERES)
async def test_the_next_server_finds_it_again(
    way: str, tmp_path: Path, plane: FakePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    plane.where = WHERES[way]
    with JupyterServer(tmp_path, arranged(plane), config(tmp_path)) as first:
        first.app.kernel_manager.kernel_server_url = first.url
        rest = Rest(first.url, TOKEN)
        kernel_id = await rest.start_kernel(name="python3")
        browser = await Browser(first.url, TOKEN, kernel_id).open()
        await browser.ran("x = 41")
        assert (await rest.switched("gpu", kernel_id))["state"] == "done"
        await browser.close()
        await rest.client.aclose()
        await asyncio.to_thread(first.call, lambda: first.app.kernel_manager.part(end_leases=False))
        assert [os.listdir(folder).count("server.sock") for folder in plane.folders] in ([], [0])
    for folder in plane.folders:  # as a server leaves it that was killed
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(f"{folder}/server.sock")
    with JupyterServer(tmp_path, arranged(plane), config(tmp_path)) as second:
        rest = Rest(second.url, TOKEN)
        browser = await Browser(second.url, TOKEN, kernel_id).open()
        assert (await browser.ran("x += 1; print(x)")).text == "42\n"
        if plane.folders:
            assert (await browser.ran("%gpu")).errors == []
        slow = browser.run(
            "import time\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: pass"
        )
        await browser.until(lambda: slow.text)
        assert (await rest.client.post(f"api/kernels/{kernel_id}/interrupt")).status_code == 204
        await browser.done(slow)
        back = await rest.switched("cpu", kernel_id)
        assert back["state"] == "done", back["error"]
        assert (await browser.ran("print(x)")).text == "42\n"
        await browser.close()
        await rest.client.aclose()
    assert plane.running() == []
