"""Streams of terminals and the engine's tunnel in a server that has more than a thousand descriptors open."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.docker import tunnel as tunnels
from computehub_ext.backends.docker.terminals import _EngineStream
from computehub_ext.backends.docker.tunnel import Tunnel
from computehub_ext.backends.pipes import PipeStream
from computehub_ext.backends.waiting import wait_to_read
from computehub_ext.core.errors import Unreachable

HIGH = 1024
"""The first that `select.select` does not take."""


@pytest.fixture
def crowded() -> Iterator[None]:
    """Have each descriptor that is opened from now on be a high one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2 * HIGH:
        pytest.fail(f"this account may open {before[1]} files, which is too few for ComputeHub's servers too")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 2 * HIGH), before[1]))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] < HIGH:
        taken.append(os.dup(taken[0]))
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_high_descriptor_is_waited_for(crowded: None) -> None:
    reads, writes = os.pipe()
    try:
        assert reads > HIGH
        assert not wait_to_read(0.0, reads)
        assert not wait_to_read(0.001, reads)
        os.write(writes, b"x")
        assert wait_to_read(10, reads)
    finally:
        os.close(reads)
        os.close(writes)


def test_a_program_of_this_machine_is_read_at_a_high_descriptor(crowded: None) -> None:
    stream = PipeStream(["cat"], {"PATH": os.environ["PATH"]})
    try:
        assert stream._descriptor() > HIGH
        heard = b""
        sent, found = stream.exchange(b"begun", 10)
        while sent and found is not None and heard + found != b"begun":
            heard += found
            _, found = stream.exchange(b"", 10)
        assert found is not None
    finally:
        stream.close()
    assert stream.exchange(b"", 10) == (0, None)
    stream.wake()


def test_an_engine_is_read_at_a_high_descriptor_and_a_word_wakes_who_waits(crowded: None) -> None:
    ours, theirs = socket.socketpair()
    stream = _EngineStream(ours)
    assert stream._descriptor() > HIGH
    theirs.sendall(struct.pack(">BxxxL", 1, 5) + b"begun")
    assert stream.exchange(b"", 10) == (0, b"begun")
    waker = threading.Timer(0.05, stream.wake)
    waker.start()
    assert stream.exchange(b"typed", 60) == (5, b"")
    waker.join()
    stream.close()
    stream.wake()
    assert stream.exchange(b"", 10) == (0, None)
    theirs.close()


@pytest.fixture
def tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tunnel]:
    """One whose ssh is ready at once."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text("#!/bin/sh\necho ready\nexec cat >/dev/null\n")
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    made = Tunnel("ssh://alice@host", "", 20, tmp_path / "state")
    yield made
    made.close()


def test_a_tunnel_opens_at_a_high_descriptor(tunnel: Tunnel, crowded: None) -> None:
    tunnel.keep_open()
    assert tunnel._process is not None
    assert tunnel._process.stdout is not None
    assert tunnel._process.stdout.fileno() > HIGH
    tunnel.close()


@pytest.mark.parametrize(("problem", "said"), [(ValueError, ValueError), (OSError(24, "Too many"), Unreachable)])
def test_a_tunnel_of_which_the_opening_failed_is_not_taken_for_open(
    tunnel: Tunnel, monkeypatch: pytest.MonkeyPatch, problem: Any, said: type[Exception]
) -> None:
    def fail(*_: Any) -> bool:
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(tunnels, "wait_to_read", fail)
        with pytest.raises(said):
            tunnel.keep_open()
    assert tunnel._process is None
    tunnel._failed = (0.0, "")
    tunnel.keep_open()
    assert tunnel._process is not None
