"""Kernels of an engine on this machine over encrypted ports: for a Jupyter server that shares no group with them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from computehub_ext.backends.docker import DockerBackend, DockerSettings
from computehub_ext.backends.model import Placed
from computehub_ext.core.errors import Invalid
from computehub_ext.testing.docker_engine import THIRDS, Engine, docker_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.support.accounts import make_python
from tests.support.containers import KERNEL_UID, Place, containers_of, nothing_left_of, state_folder
from tests.support.handshakes import handshake

pytestmark = [
    pytest.mark.needs("docker"),
    pytest.mark.allow_hosts(["127.0.0.1", "::1", f"198.18.{THIRDS['plain']}.2"]),
]

STRANGER_UID = 23456


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


class CurvePlace(Place):
    def backend(self, **changes: Any) -> DockerBackend:
        # Here the engine has a network of its own; elsewhere kernels are at 127.0.0.1.
        curve = {"transport": "curve", "network": "bridge", "publish_host": self.engine.address}
        return super().backend(**{**curve, **changes})


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[CurvePlace]:
    with state_folder() as state_dir:
        place = CurvePlace(engine, state_dir, tmp_path)
        yield place
        nothing_left_of(place.backends)


def _is_reached_over_ports_alone(placed: Placed, engine: Engine) -> None:
    info = placed.connection_info
    assert (info["transport"], info["ip"], placed.host) == ("tcp", engine.address, engine.address)
    assert placed.meeting_dir is None
    right = (info["curve_publickey"].encode(), info["curve_secretkey"].encode())
    kinds = {"shell_port": zmq.DEALER, "control_port": zmq.DEALER, "stdin_port": zmq.DEALER}
    kinds |= {"hb_port": zmq.REQ, "iopub_port": zmq.SUB}
    for keys, is_let_in in ((None, False), (zmq.curve_keypair(), False), (right, True)):
        for port, kind in kinds.items():
            event = handshake(f"tcp://{info['ip']}:{info[port]}", kind, keys)
            assert (event == zmq.EVENT_HANDSHAKE_SUCCEEDED) is is_let_in, port


def test_who_knows_the_keys_reaches_the_kernel_and_nobody_else(place: CurvePlace, engine: Engine) -> None:
    backend = place.backend()
    request = place.ask()
    placed = backend.start(request)
    _is_reached_over_ports_alone(placed, engine)
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("import os; print(6 * 7, os.environ.get('COMPUTEHUB_SOCKET'))") == "42 None\n"
    successor = place.backend()
    assert successor.start(request).connection_info == placed.connection_info
    backend.stop(request.placement_id)
    assert containers_of(backend) == []


def test_a_standby_is_taken_over_with_keys_of_its_own(place: CurvePlace, engine: Engine) -> None:
    backend = place.backend(warm_count=1, warm_replace_delay_seconds=0)
    taken = []
    for number in range(2):
        wait_for(lambda: backend.warm_count == 1, message="no standby was ready")
        placed = backend.start(place.ask(env={"NUMBER": str(number)}))
        assert placed.warm
        with KernelTalk(placed.connection_info) as kernel:
            assert kernel.run("import os; print(os.environ['NUMBER'])") == f"{number}\n"
        taken.append(placed.connection_info)
    _is_reached_over_ports_alone(placed, engine)
    assert taken[0]["curve_secretkey"] != taken[1]["curve_secretkey"]


_STRANGER = """
import json, os, sys
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient()
client.load_connection_info(json.loads(sys.stdin.read()))
client.start_channels()
client.wait_for_ready(timeout=10)
client.execute_interactive("import os; print(os.getuid())", timeout=30)
print(os.getuid(), os.getgroups())
"""


@pytest.mark.needs("readable_python")
def test_a_server_under_another_account_needs_no_group(place: CurvePlace, tmp_path: Path) -> None:
    """As an exam's, whose account shares nothing with the kernel's."""
    with tempfile.TemporaryDirectory(prefix="ch-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        python = make_python(Path(folder) / "python")

        def told(placed: Placed) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [python, "-c", _STRANGER],
                input=json.dumps(placed.connection_info),
                env={"PATH": "/usr/bin", "HOME": "/tmp", "IPYTHONDIR": folder},
                user=STRANGER_UID,
                group=STRANGER_UID,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        said = told(place.backend().start(place.ask()))
        assert said.stdout.split("\n")[:2] == [str(KERNEL_UID), f"{STRANGER_UID} []"], said.stderr
        over_ipc = place.backend(transport="ipc", network="none", publish_host="")
        said = told(over_ipc.start(place.ask()))
        assert said.stdout == ""
        assert "replying to kernel_info" in said.stderr or "didn't respond" in said.stderr


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"transport": "tcp", "network": "bridge"}, "transport"),
        ({"transport": "curve"}, "network"),
        ({"transport": "curve", "network": "rules"}, "network"),
        ({"transport": "curve", "network": "bridge", "shared_with_group": True}, "shared_with_group"),
        ({"network": "bridge", "publish_host": "127.0.0.1"}, "publish_host"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as problem:
        DockerSettings("i", **changes)
    assert problem.value.details["field"] == field


def test_on_this_machine_they_are_on_its_loopback() -> None:
    settings = DockerSettings("i", transport="curve", network="bridge")
    assert settings.publish_host == "127.0.0.1"
    assert not settings.is_remote
