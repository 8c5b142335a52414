"""Starts the demo's JupyterLab, says where it is, and ends all of it on Ctrl-C."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

HERE = Path(__file__).parent
TOUR = "tour.ipynb"
PEOPLE = ("alice", "bob")
FIRST_PORT = 8888
PORTS_TRIED = 50
ANSWER_SECONDS_MAX = 90.0
# Leased kernels are captured, settled and ended in this time.
STOP_SECONDS_MAX = 45.0
LOG_LINES_SHOWN = 25


@dataclass(frozen=True)
class Choices:
    """What the command line said."""

    port: int | None = None
    open_browser: bool = True
    folder: str = ".demo"
    config: str | None = None
    """A file of Jupyter settings: places and pools other than this machine's."""


def run(choices: Choices, environ: Mapping[str, str] | None = None) -> int:
    """Run the demo until Ctrl-C; return the exit status."""
    environ = os.environ if environ is None else environ
    folder = Path(choices.folder).absolute()
    try:
        config = _readable(choices.config)
        port = _port(choices.port or int(environ.get("PORT") or 0) or None)
    except (OSError, ValueError) as failure:
        sys.stderr.write(f"computehub demo: {failure}\n")
        return 1
    people = prepare(folder)
    with (folder / "server.log").open("wb") as log:
        server = _start(folder, port, people, {**environ, "COMPUTEHUB_DEMO_CONFIG": config}, log)
        stopping = threading.Event()

        def stop(_number: int, _frame: FrameType | None) -> None:
            stopping.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            if not _wait_until_it_answers(server, port, stopping):
                if not stopping.is_set():
                    _tell_failure(folder)
                    return 1
            else:
                _tell(folder, port, people)
                if choices.open_browser and not environ.get("NO_BROWSER"):
                    webbrowser.open(_url(port, people[PEOPLE[0]]))
                while not stopping.wait(0.2) and server.poll() is None:
                    pass
            if server.poll() is not None:
                _tell_failure(folder)
                return 1
            _say("\nStopping: GPUs are given back and settled, kernels end …")
            return 0 if _stop(server) else 1
        finally:
            if server.poll() is None:
                _kill(server)
            for number, handler in before.items():
                signal.signal(number, handler)


def prepare(folder: Path) -> dict[str, str]:
    """Make the demo's folder with its tour and the people's tokens; what a former run left there is kept."""
    work, data = folder / "work", folder / "data"
    for path in (folder, work, data):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (work / TOUR).exists():
        shutil.copyfile(HERE / TOUR, work / TOUR)
    settings = folder / "settings"
    settings.mkdir(exist_ok=True)
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    (settings / "overrides.json").write_text(json.dumps(quiet))
    return _tokens(folder / "tokens.json")


def _tokens(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        known = {}
    tokens = {name: str(known.get(name) or secrets.token_hex(16)) for name in PEOPLE}
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(tokens, out)
    return tokens


def database_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'data' / 'computehub.sqlite'}"


def _start(
    folder: Path, port: int, people: Mapping[str, str], environ: Mapping[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder / 'work'}"]
    command += [f"--config={HERE / 'demo_config.py'}", f"--LabApp.app_settings_dir={folder / 'settings'}"]
    command += [f"--LabApp.workspaces_dir={folder / 'workspaces'}", f"--LabApp.user_settings_dir={folder / 'user'}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    environment = {
        **environ,
        # Nobody's own Jupyter settings reach the demo, nor it theirs.
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "COMPUTEHUB_USER_TOKENS": json.dumps(people),
        "COMPUTEHUB_DEMO_DATA": str(folder / "data"),
    }
    # A session of its own: Ctrl-C in the terminal reaches this process alone, which then ends the server in order.
    return subprocess.Popen(
        command, cwd=folder / "work", env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        start_new_session=True,
    )  # fmt: skip


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, stopping: threading.Event) -> bool:
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with opener.open(f"http://127.0.0.1:{port}/api", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            pass
        if stopping.wait(0.1):
            return False
    return False


def _stop(server: subprocess.Popen[bytes]) -> bool:
    """End the server as a service manager would; a second Ctrl-C does not cut its settling short."""
    server.terminate()
    try:
        server.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        _say("It took too long and was killed; what it still held is settled at the next start.")
        _kill(server)
        return False
    _say("All ended.")
    return True


def _kill(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()


def _readable(config: str | None) -> str:
    if not config:
        return ""
    file = Path(config).absolute()  # the server starts in another folder
    file.read_bytes()
    return str(file)


def _port(wanted: int | None) -> int:
    """The port wanted, or the next one that is free."""
    first = wanted or FIRST_PORT
    for port in range(first, min(first + PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port != first:
            _say(f"Port {first} is taken; using {port}.")
        return port
    raise OSError(f"no port from {first} on is free; choose another: make demo PORT=…")


def _url(port: int, token: str) -> str:
    return f"http://localhost:{port}/lab/tree/{TOUR}?token={token}"


def _tell(folder: Path, port: int, people: Mapping[str, str]) -> None:
    _say("\nComputeHub's demo is running.\n")
    for name, token in people.items():
        _say(f"  {name:<6} {_url(port, token)}")
    _say("\nOpen the second one in a private window: two people in one browser share its cookies.")
    command, database = own_command(), shlex.quote(database_url(folder))
    _say(f"More credits:  {command} grant {PEOPLE[0]} 50 --database {database}")
    _say(f"From a shell:  COMPUTEHUB_TOKEN={people[PEOPLE[0]]} {command} gpu --url http://localhost:{port}/")
    _say(f"Its log:       {folder / 'server.log'}")
    _say("Ctrl-C ends all of it and gives every GPU back.")


def own_command() -> str:
    """This program as a shell in this folder finds it; on its PATH may be none, or another environment's."""
    script = Path(sys.executable).with_name("computehub")
    found = shutil.which("computehub")
    if found is not None and script.is_file() and Path(found).samefile(script):
        return "computehub"
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m computehub_ext.cli"
    return shlex.quote(str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script))


def _tell_failure(folder: Path) -> None:
    log = folder / "server.log"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
    sys.stderr.write(
        "\n".join(["The demo's server ended by itself. The end of its log:", *lines, f"All of it: {log}"]) + "\n"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
