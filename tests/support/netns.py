"""The network of an engine's machine, for tests: commands that run there, and servers there and here."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from computehub_ext.testing.docker_engine import SYSTEM_PATH, Engine

_SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=64) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        server.accept()[0].close()
"""
_PROGRAM = (sys.executable, "-c", _SERVER)


class Machine:
    """Where an engine runs: its network is one of its own."""

    def __init__(self, engine: Engine) -> None:
        pid = int((engine.folder / "dockerd.pid").read_text())
        self.enter = ("nsenter", f"--net=/proc/{pid}/ns/net")

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [*self.enter, *command], capture_output=True, text=True, check=True, env={"PATH": SYSTEM_PATH}
        )
        return done.stdout

    def rules(self, program: str = "iptables") -> str:
        return self.run(f"{program}-save", "-t", "filter")

    @contextmanager
    def server(self) -> Iterator[int]:
        """Run a server on all addresses of that machine; gives its port."""
        with _served([*self.enter, *_PROGRAM, "0.0.0.0", "0"]) as port:
            yield port

    def restore(self, saved: str) -> None:
        subprocess.run([*self.enter, "iptables-restore"], input=saved, text=True, check=True)


@contextmanager
def _served(command: Sequence[str]) -> Iterator[int]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def server_here() -> Iterator[int]:
    """Run a server on all addresses of this machine, which for the engine's is another one; gives its port."""
    with _served([*_PROGRAM, "0.0.0.0", "0"]) as port:
        yield port


@contextmanager
def server_at(address: str, port: int) -> Iterator[int]:
    with _served([*_PROGRAM, address, str(port)]) as port:
        yield port


class NameServer:
    """Answers each question for an address with ``answer``, and remembers the names."""

    def __init__(self, address: str, answer: str) -> None:
        self.asked: list[str] = []
        self._answer = socket.inet_aton(answer)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                question, asker = self._socket.recvfrom(4096)
            except OSError:
                return
            if len(question) < 13:
                return  # this is how it is told to end
            labels, at = [], 12
            while question[at]:
                labels.append(question[at + 1 : at + 1 + question[at]].decode())
                at += 1 + question[at]
            self.asked.append(".".join(labels))
            is_address = question[at + 1 : at + 3] == b"\0\1"
            header = question[:2] + struct.pack(">HHHHH", 0x8180, 1, int(is_address), 0, 0)
            record = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", 60, 4) + self._answer if is_address else b""
            self._socket.sendto(header + question[12 : at + 5] + record, asker)

    def close(self) -> None:
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as end:
            end.sendto(b"end", self._socket.getsockname())
        self._thread.join()
        self._socket.close()
