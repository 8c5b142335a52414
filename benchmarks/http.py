"""Bookings a second over HTTP, beside an empty authenticated handler of the same server.

Twenty clients keep their connections open and take turns at both, round by round. Each booking is a new slot with its
hold, its idempotency key and a durable commit; the empty handler answers ``{}`` to the same body from the same person.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.server import TOKEN, ServerProcess

CLIENTS = 20
REQUESTS = 400
ROUNDS = 21
GOAL = 0.5

EMPTY = "benchmarks.empty_handler"


def _bookings() -> Iterator[bytes]:
    """Bodies that all fit: seven slices in parallel, a new slot for each."""
    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=1)
    for number in count():
        slot = first + timedelta(minutes=5 * (number // 7))
        wanted = {"model": "A100-1g.10gb", "starts_at": slot.isoformat(), "duration_seconds": 300}
        # Of different notebooks: the same one twice at one time would be taken for a slip.
        yield json.dumps({**wanted, "notebook_path": f"{number % 7}.ipynb"}).encode()


async def _client(server: ServerProcess, path: str, bodies: Iterator[bytes], requests: Iterator[int], ok: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for number in requests:
            body = next(bodies)
            writer.write(
                f"POST /{path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nAuthorization: token {TOKEN}\r\n"
                f"Content-Type: application/json\r\nIdempotency-Key: {path[-8:]}-{time.time_ns()}-{number}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if b"content-length" in line)
            answer = await reader.readexactly(length)
            assert int(head.split()[1]) == ok, answer
    finally:
        writer.close()


async def _per_second(server: ServerProcess, path: str, bodies: Iterator[bytes], ok: int) -> float:
    requests = iter(range(REQUESTS))
    started = time.perf_counter()
    await asyncio.gather(*(_client(server, path, bodies, requests, ok) for _ in range(CLIENTS)))
    return REQUESTS / (time.perf_counter() - started)


async def _rounds(server: ServerProcess) -> tuple[list[float], list[float]]:
    bodies = _bookings()
    booked, empty = [], []
    for number in range(ROUNDS + 1):
        now_empty = await _per_second(server, "empty", bodies, 200)
        now_booked = await _per_second(server, "api/computehub/v1/bookings", bodies, 201)
        if number:  # the first round opens the control plane
            empty.append(now_empty)
            booked.append(now_booked)
    return booked, empty


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "ServerApp.jpserver_extensions": {"computehub_ext": True, EMPTY: True},
            "ComputeHub.simulated": "always",
            "ComputeHub.welcome_credits": 1_000_000,
            "ComputeHub.warm_kernels": 0,
            "ComputeHub.rate_limits": {"write": "1000000/second"},  # counted, and never refused
        }
        server = ServerProcess(Path(folder), config=config).until_ready()
        try:
            booked, empty = asyncio.run(_rounds(server))
        finally:
            server.stop()
    ratio = statistics.median(b / e for b, e in zip(booked, empty, strict=True))
    return [
        {
            "name": "Bookings a second over HTTP",
            "figure": statistics.median(booked),
            "yardstick": statistics.median(empty),
            "yardstick_name": "empty handler",
            "ratio": ratio,
            "unit": "requests/s",
            "size": f"{CLIENTS} clients, {ROUNDS} rounds of {REQUESTS}",
            "goal": f"at least {GOAL}",
            "met": ratio >= GOAL,
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
