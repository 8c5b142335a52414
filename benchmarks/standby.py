"""A kernel that is asked for until its first cell's result: a standby that is taken over, beside a plain new kernel.

Below the switch and the server: what the backend alone contributes to ``benchmarks/switch.py``. The yardstick is
jupyter_client's own kernel manager, in turns with ours, on the same machine and in the same folder.
"""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyter_client import BlockingKernelClient, KernelManager

from computehub_ext.backends.local import LocalBackend, WarmSettings
from computehub_ext.backends.model import StartRequest
from computehub_ext.core.ids import new_id
from computehub_ext.testing.kernels import wait_for
from tests.support.standing import pool

ROUNDS = 10
GOAL = 0.2


def _first_result(client: BlockingKernelClient) -> None:
    client.start_channels(hb=False)
    message_id = client.execute("6 * 7")
    while client.get_shell_msg(timeout=60)["parent_header"].get("msg_id") != message_id:
        pass
    client.stop_channels()


def _taken_over(backend: LocalBackend, folder: str) -> tuple[float, float]:
    """Return the seconds until the backend answered, and until the cell's result was there."""
    wait_for(lambda: backend.warm_count == 1, message="no standby kernel was ready")
    request = StartRequest(
        placement_id=new_id("placement"),
        kernel_name="python3",
        cwd=folder,
        env={},
        devices=(),
        model="T4",
        simulated=True,
        session_key=secrets.token_hex(16).encode(),
        username="bench",
        paid_until=datetime.now(UTC) + timedelta(minutes=5),
    )
    started = time.perf_counter()
    placed = backend.start(request)
    answered = time.perf_counter() - started
    assert placed.warm
    client = BlockingKernelClient()
    client.load_connection_info(dict(placed.connection_info))  # type: ignore[arg-type]
    _first_result(client)
    finished = time.perf_counter() - started
    backend.stop(request.placement_id, 0)
    return answered, finished


def _plain(folder: str) -> float:
    started = time.perf_counter()
    manager = KernelManager()
    manager.start_kernel(cwd=folder)
    _first_result(manager.blocking_client())
    finished = time.perf_counter() - started
    manager.shutdown_kernel(now=True)
    return finished


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(f"{folder}/state", warm=WarmSettings(count=1, replace_delay_seconds=0.0))
        backend.prepare([pool()])
        try:
            ours, plain = [], []
            for _ in range(ROUNDS):
                ours.append(_taken_over(backend, folder))
                # The next standby starts now: the plain kernel must not share the cores with it.
                wait_for(lambda: backend.warm_count == 1, message="no standby kernel was ready")
                plain.append(_plain(folder))
        finally:
            backend.close()
    answered, finished, yardstick = (
        statistics.median(seconds) * 1000 for seconds in ([pair[0] for pair in ours], [pair[1] for pair in ours], plain)
    )
    shared = {"yardstick": yardstick, "unit": "ms", "size": f"median of {ROUNDS}, in turns"}
    name = "a plain new kernel until its first result"
    return [
        {
            "name": "A standby kernel taken over",
            "figure": answered,
            "yardstick_name": name,
            **shared,
        },
        {
            "name": "A standby kernel until its first result",
            "figure": finished,
            "yardstick_name": name,
            "goal": f"≤ {GOAL}",
            "met": finished / yardstick <= GOAL,
            **shared,
        },
    ]
