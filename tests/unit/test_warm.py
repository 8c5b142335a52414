"""Kernels of this machine that are kept ready: never more than were wanted, and one at a time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from computehub_ext.backends.local.launch import Launcher
from computehub_ext.backends.local.warm import Standby, WarmKernels, WarmSettings


class Directory:
    """A standby's, without a process: it is up, and ready once ``adopt.sock`` is there."""

    def __init__(self, path: Path) -> None:
        self.path, self.is_up = path, True
        path.mkdir()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def is_watched(self) -> bool:
        return self.is_up

    def process(self, name: str) -> None:
        """None that could be looked at or killed."""

    def write(self, name: str, text: str) -> None:
        self.is_up = name != "stop"

    def remove(self) -> None:
        """Its files are the test's."""


class Kept(WarmKernels):
    """Starts what needs no process, and goes its rounds when the test says so."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        (folder / "standbys").mkdir()
        super().__init__(cast(Launcher, SimpleNamespace(state_dir=folder)), WarmSettings(**settings))
        self.folder, self.started = folder, list[Directory]()

    def _start(self) -> Standby:
        self.started.append(Directory(self.folder / f"standby-{len(self.started)}"))
        return Standby(cast(Any, self.started[-1]), "", 0.0)

    def rounds(self, number: int = 10, *, ready: bool = True) -> int:
        """Go some rounds; return the most that were up at a time."""
        most = 0
        for _ in range(number):
            self._look_after_all()
            self._top_up()
            most = max(most, sum(directory.is_up for directory in self.started))
            for directory in self.started:
                if ready:
                    (directory / "adopt.sock").touch()
        return most


FOR_EVER = {"start_seconds_max": float("inf"), "age_seconds_max": float("inf")}


@pytest.mark.parametrize("wanted", [0, 1, 3])
def test_there_are_never_more_than_were_wanted(tmp_path: Path, wanted: int) -> None:
    warm = Kept(tmp_path, **FOR_EVER)
    warm.wanted = wanted
    assert warm.rounds() == wanted
    assert warm.ready_count == len(warm.started) == wanted


def test_the_next_waits_until_the_one_before_is_ready(tmp_path: Path) -> None:
    warm = Kept(tmp_path, **FOR_EVER)
    warm.wanted = 3
    assert warm.rounds(ready=False) == 1
    assert (warm.rounds(), warm.ready_count) == (3, 3)


def test_one_that_is_taken_makes_room_for_one(tmp_path: Path) -> None:
    warm = Kept(tmp_path, replace_delay_seconds=0.0, **FOR_EVER)
    warm.wanted = 2
    warm.rounds()
    assert warm.take() is not None
    assert warm.ready_count == 1
    warm.rounds()
    assert (warm.ready_count, len(warm.started)) == (2, 3)


def test_when_fewer_are_wanted_the_others_end(tmp_path: Path) -> None:
    warm = Kept(tmp_path, **FOR_EVER)
    warm.wanted = 3
    warm.rounds()
    warm.wanted = 1
    warm.rounds()
    assert [directory.is_up for directory in warm.started] == [True, False, False]
