"""A notebook moves to a kernel of another Python and back, with its classes and functions."""

from __future__ import annotations

import pytest

from tests.support.fakeplane import FakePlane, Where
from tests.support.notebooks import Browser, Rest
from tests.support.pythons import with_kernel

CELL = """
import dataclasses, numpy as np
@dataclasses.dataclass
class Run:
    name: str
    scores: list = dataclasses.field(default_factory=list)
    def best(self): return max(self.scores)
def made(n):
    total = 0
    def add(x):
        nonlocal total
        total += x
        return total
    return add
run, add, x = Run("first", [1, 3]), made(1), np.arange(1_000_000)
y = x[10:]; add(5)
"""
LOOK = "import sys; y[0] += 1; print(run.best(), add(1), int(x[10]), sys.version_info[:2], isinstance(run, Run))"


@pytest.mark.needs("other_kernel")
@pytest.mark.parametrize("version", list(with_kernel()) or ["none"])
@pytest.mark.parametrize("way", [Where("ipc"), Where("curve", host="127.0.0.1")], ids=["ipc", "node"])
async def test_a_notebook_moves_to_another_python_and_back(
    way: Where, version: str, plane: FakePlane, rest: Rest, browser: Browser
) -> None:
    plane.where = Where(way.transport, host=way.host, python=with_kernel()[version])
    plane.python_version = version
    assert (await browser.ran(CELL)).errors == []
    own = (await browser.ran("print(__import__('sys').version_info[:2])")).text
    moved = await rest.switched("gpu", browser.kernel_id)
    if version.startswith("3.8."):
        assert "Python is 3.8" in moved["error"]["message"]
        return
    assert moved["state"] == "done", moved["error"]
    there = tuple(map(int, version.split(".")[:2]))
    assert (await browser.ran(LOOK)).text == f"3 6 11 {there} True\n"
    if own.strip() != str(there):
        assert any("functions were compiled again" in note for note in moved["result"]["notes"])
    magic = await browser.ran("%gpu balance")
    assert magic.errors == []
    assert (await browser.ran("class Later(Run):\n    pass\nlater = Later('second', [9])")).errors == []
    back = await rest.switched("cpu", browser.kernel_id)
    assert back["state"] == "done", back["error"]
    assert (await browser.ran(LOOK + "; print(later.best())")).text == f"3 7 12 {own.strip()} True\n9\n"
