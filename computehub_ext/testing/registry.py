"""A registry of images for tests: Debian's own, inside a test engine's network, where it is on the loopback.

``with registry(engine, folder) as registry:`` needs docker-registry beside what the engine needs. In front of it
stands a gate (``python -m computehub_ext.testing.registry``) that can hold the second half of each layer back: a pull
is then half done for as long as a test looks.
"""

from __future__ import annotations

import http.client
import http.server
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .docker_engine import SYSTEM_PATH, Engine

PROGRAM = "docker-registry"
_PORT, _GATE_PORT = 5000, 5001
_START_SECONDS_MAX = 30
_LOOK_SECONDS = 0.01
_HELD_BYTES_MIN = 1_000_000
_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_WITH_LOGIN = "auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"


@dataclass(frozen=True)
class Registry:
    folder: Path
    name: str
    """What images' names begin with."""

    def hold(self) -> None:
        """Give no more than the first half of each layer, until ``let_go``."""
        (self.folder / "held").touch()

    def let_go(self) -> None:
        (self.folder / "held").unlink(missing_ok=True)


def lacking() -> list[str]:
    return [] if shutil.which(PROGRAM, path=SYSTEM_PATH) else [PROGRAM]


@contextmanager
def registry(engine: Engine, folder: Path, *, htpasswd: str = "") -> Iterator[Registry]:
    """Start a registry that keeps its images in a folder; with ``htpasswd``'s lines, for those alone."""
    config = _CONFIG.format(folder=folder, port=_PORT)
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        config += _WITH_LOGIN.format(folder=folder)
    (folder / "config.yml").write_text(config)
    inside = ["nsenter", "--net", "--target", (engine.folder / "dockerd.pid").read_text().strip(), "--"]
    environment = {**os.environ, "PATH": SYSTEM_PATH, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    commands = (
        [*inside, PROGRAM, "serve", str(folder / "config.yml")],
        [*inside, sys.executable, "-m", __name__, str(folder)],
    )
    with (folder / "log").open("ab") as log:
        running = [subprocess.Popen(each, env=environment, stdout=log, stderr=log) for each in commands]
    try:
        deadline = time.monotonic() + _START_SECONDS_MAX
        ask = [*inside, sys.executable, "-m", __name__, "--ask"]
        while subprocess.run(ask, env=environment, check=False, capture_output=True).returncode:
            if time.monotonic() > deadline or any(each.poll() is not None for each in running):
                raise RuntimeError(f"The registry did not start:\n{(folder / 'log').read_text()}")
        yield Registry(folder, f"127.0.0.1:{_GATE_PORT}")
    finally:
        for each in running:
            each.kill()
            each.wait()


class _Gate(http.server.BaseHTTPRequestHandler):
    """Passes everything on, and holds the rest of what is large back while the file ``held`` is there."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def _pass_on(self) -> None:
        body = self._body()
        inner = http.client.HTTPConnection("127.0.0.1", _PORT)
        inner.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # some come several times
            inner.putheader(name, value)
        if body is not None and "Content-Length" not in self.headers:
            inner.putheader("Content-Length", str(len(body)))
        inner.endheaders(body)
        answer = inner.getresponse()
        self.send_response(answer.status)
        length = answer.getheader("Content-Length")
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self._give(answer, int(length or 0))
        inner.close()
        self.close_connection = length is None

    def _give(self, answer: http.client.HTTPResponse, length: int) -> None:
        given = 0
        while part := answer.read(65536):
            if length > _HELD_BYTES_MIN and (self.folder / "held").exists():
                time.sleep(_LOOK_SECONDS)  # what comes within a tenth of a second is not told
                while given + len(part) > length // 2 and (self.folder / "held").exists():
                    time.sleep(_LOOK_SECONDS)
            self.wfile.write(part)
            given += len(part)

    def _body(self) -> bytes | None:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length) if length else None
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        del self.headers["Transfer-Encoding"]
        return b"".join(parts)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass_on

    def log_message(self, *arguments: object) -> None:
        pass


def _ask() -> None:
    connection = http.client.HTTPConnection("127.0.0.1", _GATE_PORT, timeout=5)
    connection.request("GET", "/v2/")
    if connection.getresponse().status not in (200, 401):
        raise SystemExit(1)


if __name__ == "__main__":
    if sys.argv[1] == "--ask":
        _ask()
    else:
        _Gate.folder = Path(sys.argv[1])
        http.server.ThreadingHTTPServer(("127.0.0.1", _GATE_PORT), _Gate).serve_forever()
