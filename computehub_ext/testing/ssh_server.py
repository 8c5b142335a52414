"""A private SSH server for tests: Debian's real sshd on a port of this machine, with keys of its own.

``with ssh_server(folder) as server:`` needs root and openssh-server; ``lacking()`` says what isn't there. Who logs in
is root, with the key in ``server.config``, an ``ssh_config`` that knows this server and nobody else.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .docker_engine import SYSTEM_PATH

START_SECONDS_MAX = 10


@dataclass(frozen=True)
class SshServer:
    """A running server."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    def url(self, path: str) -> str:
        """Return the address of a socket on its machine."""
        return f"ssh://root@127.0.0.1:{self.port}{path}"

    def drop_all(self) -> None:
        """End the connections that there are, as a network that goes away does."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            os.kill(int(pid), 9)


def lacking() -> list[str]:
    return [program for program in ("sshd", "ssh", "ssh-keygen") if not shutil.which(program, path=SYSTEM_PATH)]


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run one for as long as the body runs. ``folder`` is empty."""
    folder.chmod(0o700)
    for name in ("host_key", "key", "other_key"):
        _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name))
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/key\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {folder}/known_hosts\n"
        "GlobalKnownHostsFile none\nLogLevel ERROR\n"
    )
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPermitRootLogin prohibit-password\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # which sshd wants to be there, and Debian's service makes
    sshd = shutil.which("sshd", path=SYSTEM_PATH)
    assert sshd is not None  # it wants its whole path
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    server = SshServer(folder, port, process)
    try:
        _wait(server)
        yield server
    finally:
        server.drop_all()
        process.terminate()
        process.wait()


def _wait(server: SshServer) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=1):
                return
        except OSError:
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"sshd did not start: {(server.folder / 'log').read_text()}") from None
            time.sleep(0.02)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
