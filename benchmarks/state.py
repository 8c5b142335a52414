"""A notebook's variables from one process to another: captured, hashed, sent, verified and restored.

The yardstick carries the same variables as one would by hand: cloudpickle into a file (in memory, where the machine has
a memory file system), read by the other process, with no hash and no check. Each round starts two fresh processes, with
the data in one, and ends with it in the other; the two ways take turns at going first. Peak memory is what both
processes took at most beyond what they held before, the data at its new place included; the file is not counted.
"""

from __future__ import annotations

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import ROOT, Figure

MEBIBYTES = 512
ARRAYS = 4
ROUNDS = 6
TICKET = "benchmark"


class Process:
    """This file in a process of its own: a command with its arguments in, the answer out, as lines of JSON."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.state"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Process:
        self.ask("ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Worker:
    """What a process can be asked to do."""

    def __init__(self) -> None:
        import cloudpickle  # type: ignore[import-untyped, unused-ignore]
        import numpy

        from computehub_ext.kernel import transfer

        self.numpy, self.cloudpickle, self.transfer = numpy, cloudpickle, transfer
        self.namespace: dict[str, Any] = {}
        self.before = _peak_mebibytes()

    def ready(self) -> bool:
        return True

    def make(self, mebibytes: int) -> int:
        count = mebibytes * (1 << 20) // 8 // ARRAYS
        for index in range(ARRAYS):
            self.namespace[f"array_{index}"] = self.numpy.arange(index, index + count, dtype=self.numpy.float64)
        self.namespace["view"] = self.namespace["array_0"][10:]
        self.namespace["names"] = [f"name {index}" for index in range(1000)]
        self.before = _peak_mebibytes()
        return len(self.namespace)

    def grown(self) -> float:
        return _peak_mebibytes() - self.before

    def offer(self, folder: str) -> Any:
        return self.transfer.offer(self.namespace, "all", TICKET, folder)

    def fetch(self, manifest: dict[str, Any]) -> int:
        result = self.transfer.fetch(self.namespace, manifest, TICKET)
        assert not result["failed"], result
        return len(result["restored"])

    def dump(self, file: str) -> bool:
        with open(file, "wb") as target:
            self.cloudpickle.dump(self.namespace, target, protocol=5)
        return True

    def load(self, file: str) -> int:
        with open(file, "rb") as source:
            self.namespace.update(pickle.load(source))
        return len(self.namespace)


def _peak_mebibytes() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def _ours(folder: str) -> tuple[float, float, float]:
    with Process() as source, Process() as target:
        made = source.ask("make", mebibytes=MEBIBYTES)
        started = time.perf_counter()
        manifest = source.ask("offer", folder=folder)
        assert target.ask("fetch", manifest=manifest) == made
        return time.perf_counter() - started, source.ask("grown"), target.ask("grown")


def _by_hand(folder: str) -> tuple[float, float, float]:
    file = os.path.join(folder, "state.pickle")
    with Process() as source, Process() as target:
        made = source.ask("make", mebibytes=MEBIBYTES)
        started = time.perf_counter()
        source.ask("dump", file=file)
        assert target.ask("load", file=file) == made
        seconds = time.perf_counter() - started
        os.unlink(file)
        return seconds, source.ask("grown"), target.ask("grown")


def run() -> list[Figure]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        rounds: dict[Callable[[str], tuple[float, float, float]], list[tuple[float, float, float]]]
        rounds = {_ours: [], _by_hand: []}
        for number in range(ROUNDS):
            # Who comes second finds the memory that the first one gave back, which some machines hand out faster.
            for way in [_ours, _by_hand] if number % 2 else [_by_hand, _ours]:
                rounds[way].append(way(folder))
    ours, by_hand = ([statistics.median(column) for column in zip(*done, strict=True)] for done in rounds.values())
    size = f"{MEBIBYTES} MiB in {ARRAYS} NumPy arrays and a view; median of {ROUNDS}"
    return [
        Figure.of(
            {
                "name": "Variables to another kernel",
                "figure": ours[0],
                "yardstick": by_hand[0],
                "unit": "s",
                "size": f"{size}; ours hashes on both sides",
                "yardstick_name": "cloudpickle through a file in memory",
            }
        ),
        Figure.of(
            {
                "name": "Peak memory for it, in both kernels",
                "figure": ours[1] + ours[2],
                "yardstick": by_hand[1] + by_hand[2],
                "unit": "MiB",
                "size": f"{size}; the data at its new place included",
                "yardstick_name": "cloudpickle, its file not counted",
            }
        ),
    ]


def serve() -> None:
    worker = Worker()
    for line in sys.stdin:
        command, arguments = json.loads(line)
        print(json.dumps(getattr(worker, command)(**arguments)), flush=True)


if __name__ == "__main__":
    serve()
