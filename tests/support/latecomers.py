"""A network on which a kernel's output is connected later than everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from computehub_ext.notebook import wire


@asynccontextmanager
async def late_output(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
    """From now on the server reaches a kernel's iopub channel only once the event is set; other channels at once."""
    connected, address = asyncio.Event(), wire.address
    targets: list[str] = []
    pumps: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        pumps.add(task)
        await connected.wait()
        there = urlsplit(targets[-1])
        reader_there, writer_there = await asyncio.open_connection(there.hostname, there.port)
        try:
            await asyncio.gather(_pump(reader, writer_there), _pump(reader_there, writer))
        finally:
            writer_there.close()
            writer.close()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as relay:
        port = relay.sockets[0].getsockname()[1]

        def through_the_relay(info: Mapping[str, Any], channel: str) -> str:
            if channel != "iopub":
                return address(info, channel)
            targets.append(address(info, channel))
            return f"tcp://127.0.0.1:{port}"

        monkeypatch.setattr(wire, "address", through_the_relay)
        try:
            yield connected
        finally:
            monkeypatch.setattr(wire, "address", address)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
