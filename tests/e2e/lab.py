"""A real ``jupyter lab`` in a process of its own, with fresh folders, stopped by its pid and looked after."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
STARTED_IN_SECONDS = 60.0
ENDED_IN_SECONDS = 30.0
TOLD_IN_SECONDS = 2.0
MARK = "COMPUTEHUB_TEST_RUN"

OVERRIDES = {
    # Every cell stays in the page, so that a test sees the outputs of all of them.
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}


def eventually(
    what: str, condition: Callable[[], Any], *, within_seconds: float = 30.0, every_seconds: float = 0.1
) -> Any:
    """Return the first true value of ``condition``; fail with ``what`` and the last value when time is up."""
    deadline = time.monotonic() + within_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within_seconds:.0f} s; at last {value!r}")
        time.sleep(every_seconds)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Lab:
    """One server. ``users`` maps names to the tokens that log them in."""

    folder: Path
    users: dict[str, str]
    arguments: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    """Traits of ComputeHub that this server sets otherwise."""
    environment: dict[str, str] = field(default_factory=dict)
    installed: bool = True
    """False is a server without ComputeHub, on the same folders."""
    overrides: dict[str, Any] = field(default_factory=lambda: OVERRIDES)
    """Settings of JupyterLab that are otherwise than its own."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def data(self) -> Path:
        """Where ComputeHub keeps its database and its kernels' folders."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Start the server, or start it again on the same folders and port, and wait until it answers."""
        assert self.process is None or self.process.poll() is not None, "this server is still running"
        for path in (self.work, self.data, self.folder / "home", self.folder / "settings"):
            path.mkdir(parents=True, exist_ok=True)
        spec = self.folder / "home" / "data" / "kernels" / "computehub-gpu"
        if self.installed:
            shutil.copytree(ROOT / "kernels" / "computehub-gpu", spec, dirs_exist_ok=True)
        else:
            shutil.rmtree(spec, ignore_errors=True)
        (self.folder / "settings" / "overrides.json").write_text(json.dumps(self.overrides))
        # A server that never had ComputeHub has no panel either.
        page = {"disabledExtensions": {} if self.installed else {"computehub": True}}
        (self.folder / "settings" / "page_config.json").write_text(json.dumps(page))
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}"]
        command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.work}", "--allow-root"]
        command += [f"--LabApp.app_settings_dir={self.folder / 'settings'}"]
        command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
        command += [f"--config={self._write_config()}", *self.arguments]
        if not self.installed:
            # On the command line: a config file of this environment would win over the one above.
            command += ["--ServerApp.jpserver_extensions=computehub_ext=False"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))}
        environment |= {
            MARK: self.mark,
            "HOME": str(self.folder / "home"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_CONFIG_DIR": str(self.folder / "home" / "config"),
            "JUPYTER_DATA_DIR": str(self.folder / "home" / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "home" / "runtime"),
            "IPYTHONDIR": str(self.folder / "home" / "ipython"),
            "PYTHONPATH": str(ROOT),
            "COMPUTEHUB_USER_TOKENS": json.dumps(self.users),
            "COMPUTEHUB_TEST_DATA": str(self.data),
            "COMPUTEHUB_TEST_INSTALLED": "yes" if self.installed else "",
            "COMPUTEHUB_TEST_SETTINGS": json.dumps(self.settings),
            **self.environment,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.work, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        process = self.process

        def answers() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the server ended with {process.returncode}:\n{self.tail()}")
            try:
                self.request("api/status", user=next(iter(self.users)))
            except (OSError, urllib.error.URLError):
                return False
            return True

        eventually("the server answers", answers, within_seconds=STARTED_IN_SECONDS)

    def _write_config(self) -> Path:
        path = self.folder / "config.py"
        path.write_text((Path(__file__).parent / "server_config.py").read_text())
        return path

    def kill(self) -> None:
        """SIGKILL, as a machine that loses power does it; leased kernels live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(ENDED_IN_SECONDS)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server by a signal; leased kernels are left alone by SIGTERM."""
        if self.process is not None and self.running:
            self.process.send_signal(how)
            self._wait_for_the_end(how.name)

    def shut_down(self) -> None:
        """End the server as the menu's "Shut Down" does, which gives every lease back."""
        if self.running:
            self.request("api/shutdown", user=next(iter(self.users)), method="POST")
            self._wait_for_the_end("the menu's Shut Down")

    def _wait_for_the_end(self, how: str) -> None:
        assert self.process is not None
        try:
            self.process.wait(ENDED_IN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR2)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(TOLD_IN_SECONDS)
            self.process.kill()
            self.process.wait(ENDED_IN_SECONDS)
            raise AssertionError(f"the server did not end on {how}:\n{self.tail()}") from None

    def processes(self) -> list[psutil.Process]:
        """Whatever this server started, directly or not, and still runs: known by the mark in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def end_what_is_left(self) -> list[str]:
        """End every process of this server; return the command lines of those that were still there."""
        left = []
        for process in self.processes():
            try:
                left.append(" ".join(process.cmdline())[:200])
                process.kill()
            except psutil.Error:
                continue
        return left

    def request(self, path: str, *, user: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        """Ask the server as ``user`` by token; return the answer's JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path.lstrip("/"), data=data, method=method)
        request.add_header("Authorization", f"token {self.users[user]}")
        request.add_header("Content-Type", "application/json")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def api(self, path: str, *, user: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
        if method != "GET":
            headers.setdefault("Idempotency_Key", secrets.token_hex(8))
        return self.request(f"api/computehub/v1/{path}", user=user, method=method, body=body, **headers)

    def kernel_of(self, notebook: str, user: str = "alice") -> str:
        """The kernel id behind a notebook's session."""
        sessions = self.request("api/sessions", user=user)
        return str(next(each["kernel"]["id"] for each in sessions if each["path"] == notebook))

    def place(self, notebook: str, user: str = "alice") -> dict[str, Any]:
        """Where the notebook's kernel is, as the API says: ``{"place": "gpu", "lease": {...}, ...}``."""
        answer: dict[str, Any] = self.api(f"kernels/{self.kernel_of(notebook, user)}", user=user)
        return answer

    def end_everything(self) -> None:
        """Give back what a test took: end every kernel, and with it its lease, and cancel every booking."""
        for session in self.request("api/sessions", user=next(iter(self.users))):
            self.request(f"api/sessions/{session['id']}", user=next(iter(self.users)), method="DELETE")
        for user in self.users:
            for booking in self.api("bookings", user=user)["items"]:
                if booking["state"] in ("held", "confirmed"):
                    self.api(f"bookings/{booking['id']}/cancel", user=user, method="POST")
            for lease in self.api("leases", user=user)["items"]:
                if lease["state"] == "running":
                    self.api(f"leases/{lease['id']}/end", user=user, method="POST")

    def closed_lease(self, lease_id: str, user: str = "alice") -> dict[str, Any]:
        """The lease once it is settled: the notebook is back a moment before its old kernel has ended."""

        def closed() -> Any:
            lease = self.api(f"leases/{lease_id}", user=user)
            return lease if lease["state"] == "closed" else None

        found: dict[str, Any] = eventually(f"{lease_id} is closed", closed)
        return found

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the server's database itself, beside the API."""
        with closing(sqlite3.connect(f"file:{self.data / 'computehub.sqlite'}?mode=ro", uri=True)) as database:
            return database.execute(sql, values).fetchall()

    def assert_books_agree(self) -> None:
        command = [sys.executable, "-m", "computehub_ext.cli", "verify"]
        command += ["--database", f"sqlite:///{self.data / 'computehub.sqlite'}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def tail(self, lines: int = 200) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def write_notebook(self, name: str, cells: list[str], **metadata: Any) -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(notebook_json(cells, **metadata)))
        return path


def notebook_json(cells: list[str], **metadata: Any) -> dict[str, Any]:
    kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": kernelspec, "language_info": {"name": "python"}, **metadata},
        "cells": [
            {
                "id": f"cell-{number}",
                "cell_type": "code",
                "source": source,
                "metadata": {},
                "outputs": [],
                "execution_count": None,
            }
            for number, source in enumerate(cells, start=1)
        ],
    }


@contextmanager
def running_lab(
    folder: Path, *arguments: str, users: tuple[str, ...] = ("alice", "bob"), installed: bool = True, **settings: Any
) -> Iterator[Lab]:
    """A server for one test or one file of tests; fails when it leaves a process behind."""
    tokens = {name: secrets.token_hex(16) for name in users}
    lab = Lab(folder=folder, users=tokens, arguments=arguments, settings=settings, installed=installed)
    left: list[str] = []
    try:
        lab.start()
        yield lab
        lab.shut_down()
        eventually("everything that the server started ends with it", lambda: not lab.processes())
    finally:
        if lab.running:
            lab.kill()
        left = lab.end_what_is_left()
    assert not left, f"left behind by the server: {left}"
