"""A cell's round trip and its interrupt on Docker (ipc, CurveZMQ) and Slurm (CurveZMQ), beside a plain local kernel.

Over the kernels' bare sockets: behind a server, whose own share is a multiple, a difference would not show.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from typing import Any

from jupyter_client import BlockingKernelClient

from benchmarks import places_common as common
from benchmarks.places_common import Place, Places, PlainKernel, median_ms
from benchmarks.roundtrip import interval

SETS, WARM_UP, TURNS = 6, 30, 100
"""New kernels for each set: one process of a pair may be quicker than its twin for as long as both live."""
INTERRUPTS = 5
DOCKER_GOAL, CURVE_GOAL = 1.05, 1.15
INTERRUPT_GOAL_MS = 250.0
SECONDS_MAX = 15.0
"""No turn of a set begins after this."""
ENDLESS = "import time\nprint('on')\nwhile True:\n    time.sleep(0.01)"


def _turns(clients: dict[str, BlockingKernelClient]) -> dict[str, list[float]]:
    """Round trips of each in turns, each first as often as last."""
    taken: dict[str, list[float]] = {name: [] for name in clients}
    names = list(clients)
    end = time.monotonic() + SECONDS_MAX
    for number in range(WARM_UP + TURNS):
        if time.monotonic() > end:
            break
        for name in names if number % 2 else names[::-1]:
            seconds = common.round_trip(clients[name])
            if number >= WARM_UP:
                taken[name].append(seconds)
    return taken


def _interrupted(client: BlockingKernelClient, interrupt: Any) -> float:
    """Seconds from the interrupt to the reply of the cell that it ended."""
    message_id = client.execute(ENDLESS, stop_on_error=False)
    while True:
        said = client.get_iopub_msg(timeout=common.REPLY_SECONDS_MAX)
        if said["parent_header"].get("msg_id") == message_id and said["msg_type"] == "stream":
            break
    started = time.perf_counter()
    interrupt()
    reply = common.reply_to(client, message_id)
    seconds = time.perf_counter() - started
    assert reply["ename"] == "KeyboardInterrupt", reply
    return seconds


def _set(places: Places, ours: dict[str, Place], taken: dict[str, list[float]], ended: dict[str, list[float]]) -> None:
    """Measure a new kernel of each kind."""
    clients: dict[str, BlockingKernelClient] = {}
    interrupts: dict[str, Any] = {}
    # Jupyter's default is TCP, and ipc is quicker by itself: each place is compared with what has its transport.
    plain = {transport: PlainKernel(places.work, transport) for transport in ("ipc", "tcp")}
    started: list[tuple[Place, str]] = []
    try:
        for transport, kernel in plain.items():
            clients[transport], interrupts[transport] = kernel.client(), kernel.interrupt
        for name, place in ours.items():
            asked = place.request(str(places.work))
            placed = place.backend.start(asked)
            started.append((place, asked.placement_id))
            clients[name] = common.client_of(placed.connection_info)
            interrupts[name] = lambda place=place, asked=asked: place.backend.interrupt(asked.placement_id)
            is_safe = placed.connection_info["transport"] == "ipc" or "curve_publickey" in placed.connection_info
            assert is_safe, "the messages would leave the machine in the clear"
        for client in clients.values():
            common.subscribed(client)
        for name, seconds in _turns(clients).items():
            taken[name] += seconds
        for _ in range(INTERRUPTS):
            for name, client in clients.items():
                ended[name].append(_interrupted(client, interrupts[name]))
    finally:
        for client in clients.values():
            common.closed(client)
        for kernel in plain.values():
            kernel.stop()
        for place, placement_id in started:
            place.backend.stop(placement_id, common.GRACE_SECONDS)


def run() -> list[dict[str, Any]]:
    if lacks := common.lacking():
        return [common.not_measured("Kernels on Docker and Slurm: round trip and interrupt", " and ".join(lacks))]
    with common.Places() as places:
        curve = {"transport": "curve", "network": "bridge", "publish_host": places.engine.address}
        ours: dict[str, Place] = {
            "docker": places.docker("docker"),
            "docker over ports": places.docker("ports", **curve),
            "slurm": places.slurm("slurm"),
        }
        taken: dict[str, list[float]] = defaultdict(list)
        ended: dict[str, list[float]] = defaultdict(list)
        for _ in range(SETS):
            _set(places, ours, taken, ended)
    return [
        _round_trips("Docker, ipc", taken["docker"], taken["ipc"], "ipc", DOCKER_GOAL),
        _round_trips("Docker, CurveZMQ over TCP", taken["docker over ports"], taken["tcp"], "TCP", CURVE_GOAL),
        _round_trips("Slurm, CurveZMQ over TCP", taken["slurm"], taken["tcp"], "TCP", CURVE_GOAL),
        _interrupts("Docker", ended["docker"], ended["tcp"]),
        _interrupts("Slurm", ended["slurm"], ended["tcp"]),
    ]


def _round_trips(name: str, ours: list[float], plain: list[float], transport: str, goal: float) -> dict[str, Any]:
    ratios = [one / other for one, other in zip(ours, plain, strict=True)]
    low, high = interval(ratios)
    ratio = statistics.median(ratios)
    return {
        "name": f"{name}: a cell's round trip",
        "figure": median_ms(ours),
        "yardstick": median_ms(plain),
        "ratio": ratio,
        "unit": "ms",
        "size": f"{len(ours)} in turns, on {SETS} kernels each; median ratio {ratio:.3f}, 95 % interval {low:.3f} to "
        f"{high:.3f}; {common.HERE}",
        "yardstick_name": f"a plain local kernel over {transport}",
        "goal": f"at most {goal}",
        "met": ratio <= goal,
    }


def _interrupts(name: str, ours: list[float], plain: list[float]) -> dict[str, Any]:
    return {
        "name": f"{name}: interrupt until the cell's reply",
        "figure": median_ms(ours),
        "yardstick": median_ms(plain),
        "unit": "ms",
        "size": f"median of {len(ours)} in turns, worst {max(ours) * 1000:.0f} ms; {common.HERE}",
        "yardstick_name": "a plain local kernel",
        "goal": f"under {INTERRUPT_GOAL_MS:.0f} ms",
        "met": median_ms(ours) < INTERRUPT_GOAL_MS,
    }


if __name__ == "__main__":
    for figure in run():
        print(figure)
