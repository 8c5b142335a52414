"""``jupyter server`` in a process of its own, with ComputeHub enabled as in an installation, or without it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

TOKEN = "owner-token"
READY_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """Everything of it lies under ``folder``, so that another one on the same folder is its successor.

    Parameters
    ----------
    enabled:
        Whether the extension is on; a plain server is the yardstick of measurements.
    config:
        Traitlets, as ``{"ComputeHub.simulated": "always"}``.
    environment:
        Variables beside, or instead of, those of this process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        enabled: bool = True,
        port: int | None = None,
        config: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.port = folder, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        for name in ("work", "data", "config", "runtime", "ipython"):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        extensions = dict.fromkeys(("jupyter_lsp", "jupyter_server_ydoc", "jupyter_server_fileid", "notebook"), False)
        settings = {
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": folder / "work",
            "ServerApp.jpserver_extensions": {**extensions, "computehub_ext": enabled},
            "IdentityProvider.token": TOKEN,
            **({"ComputeHub.simulated": "always"} if enabled else {}),
            **(config or {}),
        }
        environment = {
            **os.environ,
            "HOME": str(folder),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
            **(environment or {}),
        }
        command = [sys.executable, "-m", "jupyter", "server", "--no-browser", "--allow-root"]
        command += [f"--{name}={value}" for name, value in settings.items()]
        self._log = open(folder / "server.log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=self._log, stderr=self._log)

    def until_ready(self) -> ServerProcess:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            try:
                request = urllib.request.Request(self.url + "api/status", headers={"Authorization": f"token {TOKEN}"})
                with urllib.request.urlopen(request, timeout=5):
                    return self
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-6000:]

    def kill(self) -> None:
        """Without a goodbye."""
        self.process.kill()
        self._ended()

    def stop(self, signum: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signum)
        self._ended()

    def _ended(self) -> None:
        try:
            self.process.wait(READY_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._log.close()
