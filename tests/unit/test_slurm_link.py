"""Whoever knows a cluster's link may send what they like: it costs nobody else their connection."""

from __future__ import annotations

import fcntl
import json
import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from computehub_ext.backends.slurm.link import Link

SECONDS_MAX = 20


class Noting:
    """A desk that fails at what it is told to fail at."""

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def on_message(self, key: str, peer: bytes, message: dict[str, Any]) -> None:
        if message["t"] == "full":
            raise OSError(28, "No space left on device")
        if message["t"] == "odd":
            message["end"].get("log")
        self.heard.put(message)


@pytest.fixture
def desk() -> Noting:
    return Noting()


@pytest.fixture
def say(desk: Noting, tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    link = Link(tmp_path, "127.0.0.1", 0)
    link.open(desk)
    context = zmq.Context()
    job = context.socket(zmq.DEALER)
    job.curve_publickey, job.curve_secretkey = zmq.curve_keypair()
    job.curve_serverkey = link.public_key.encode()
    job.connect(f"tcp://127.0.0.1:{link.port}")
    try:
        yield job.send
    finally:
        context.destroy(linger=0)
        link.close()


@pytest.mark.parametrize(
    "message",
    [b"[" * 100_000, b"\xff", b"[]", b"7", b'{"t": "odd", "end": "x"}', b'{"t": "answer", "id": []}', b'{"t": "full"}'],
    ids=[
        "deep",
        "no text",
        "a list",
        "a number",
        "an end that is none",
        "an id that is none",
        "while the disk is full",
    ],
)
def test_one_bad_message_leaves_the_link_to_the_others(
    message: bytes, desk: Noting, say: Callable[[bytes], None]
) -> None:
    say(message)
    say(json.dumps({"t": "report"}).encode())
    assert desk.heard.get(timeout=SECONDS_MAX) == {"t": "report"}


def test_whoever_speaks_after_the_end_writes_into_nobody_elses_file(desk: Noting, tmp_path: Path) -> None:
    other, same = os.eventfd(0, os.EFD_NONBLOCK), -1
    try:
        for _ in range(20):  # another thread of this process may take the number first
            link = Link(tmp_path, "127.0.0.1", 0)
            link.open(desk)
            number = link._wake
            link.close()
            same = fcntl.fcntl(other, fcntl.F_DUPFD, number)
            if same == number:
                break
            os.close(same)
        assert same == number, "the number was always taken by something else"
        link.send(b"peer", {"t": "stop"})
        link.close()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(other)
    finally:
        os.close(other)
        os.close(same)
