"""Where two kernels meet for a state, and who is kept out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from computehub_ext.core.errors import BackendError
from computehub_ext.kernel.names import StateError
from computehub_ext.kernel.transfer import offer, withdraw
from computehub_ext.notebook.meeting import Meeting, meeting_of
from computehub_ext.notebook.places import LeasedPlace, Place
from computehub_ext.notebook.state import Carrier, Side
from tests.support.state import Notebook

USER, STRANGER = 12345, 65534
TICKET = "a secret of one journey"


def leased(**placed: Any) -> LeasedPlace:
    return LeasedPlace(None, "lease_1", {"placement_id": "placement_1", "connection_info": {}, **placed})


def here() -> Place:
    place: Any = SimpleNamespace()
    return place  # type: ignore[no-any-return]


async def test_the_folder_of_the_placement_goes_before_its_address_and_ours_comes_last(tmp_path: Path) -> None:
    own = tmp_path / "own"
    met, node = leased(meeting_dir="/run/p", host="192.0.2.1"), leased(host="127.0.0.1")
    assert await meeting_of(here(), met, own) == Meeting("/run/p")
    assert await meeting_of(met, here(), own) == Meeting("/run/p")
    assert await meeting_of(here(), node, own) == Meeting(None, "127.0.0.1")
    assert await meeting_of(node, here(), own) == Meeting(None, "127.0.0.1", node_offers=True)
    assert not own.exists()
    assert await meeting_of(here(), leased(), own) == Meeting(str(own))
    assert own.stat().st_mode & 0o777 == 0o700


async def test_a_place_that_publishes_one_port_is_met_there(tmp_path: Path) -> None:
    engine = leased(host="127.0.0.1", details={"state_port": "7000:32768"})
    meeting = await meeting_of(here(), engine, tmp_path)
    assert meeting.listen == {"host": "127.0.0.1", "port": 7000, "published": 32768}


async def test_a_machine_that_nobody_knows_is_told(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"node\.invalid is not known here"):
        await meeting_of(here(), leased(host="node.invalid"), tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "/run/docker.sock",
        "/run/p/../docker.sock",
        "/run/p/server.sock",
        "/run/p/state-0123456789abcdef.sock/../x",
        "127.0.0.1:1",
        "tcp://192.0.2.1:1",
        "",
        None,
    ],
)
async def test_a_kernel_that_offers_elsewhere_is_not_believed(address: str | None, tmp_path: Path) -> None:
    class Lying:
        async def ask(self, expression: str, timeout_seconds: float = 0) -> Any:
            return {"address": address, "curve_key": "x" * 40, "names": []}

    line: Any = Lying()
    for place in (leased(meeting_dir="/run/p"), leased(host="127.0.0.1")):
        for sides in ((Side(place, line), Side(here(), line)), (Side(here(), line), Side(place, line))):
            with pytest.raises(BackendError, match="where nobody asked it to"):
                await Carrier(tmp_path).offer(*sides, "all", TICKET)


@pytest.fixture
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ch-") as made:
        os.chown(made, USER, USER)
        yield made
        withdraw()


ASK = """
import json, os, sys
sys.path.insert(0, sys.argv[4])
from computehub_ext.kernel import transfer, capture, restore, settings, careful
uid = int(sys.argv[1]); os.setgid(uid); os.setuid(uid)
namespace = {}
try:
    transfer.fetch(namespace, json.loads(sys.argv[2]), sys.argv[3])
    print(namespace["text"])
except Exception as error:
    print(type(error).__name__)
"""


def fetched_by(uid: int, manifest: dict[str, Any]) -> str:
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(uid), json.dumps(manifest), TICKET, root],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.needs("root")
def test_in_another_users_folder_only_that_user_is_served(folder: str) -> None:
    source = Notebook().cell("text = 'abc'")
    manifest = offer(source.namespace, "all", TICKET, folder)
    assert fetched_by(STRANGER, manifest) == "PermissionError"
    os.chmod(folder, 0o755)  # its owner may be careless
    assert fetched_by(STRANGER, manifest) in ("StateError", "ConnectionResetError", "BrokenPipeError")
    assert fetched_by(USER, manifest) == "abc"
    with pytest.raises(StateError, match="can be entered by others"):
        offer(source.namespace, "all", TICKET, folder)
