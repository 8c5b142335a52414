"""Folders in which somebody's code could write are removed, whatever it left there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from computehub_ext.backends import removal
from computehub_ext.backends.docker import shared
from computehub_ext.backends.removal import remove_folder


def test_folders_in_folders_a_thousand_deep_are_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    descriptor = os.open(mine, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("a", dir_fd=descriptor)
        descriptor, above = os.open("a", os.O_RDONLY, dir_fd=descriptor), descriptor
        os.close(above)
    os.close(descriptor)
    assert remove_folder(mine)
    assert not mine.exists()
    assert remove_folder(mine), "twice is fine"


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "link").symlink_to(tmp_path / "other")
    assert remove_folder(mine)
    assert (tmp_path / "other" / "file").exists()


def test_what_takes_too_long_is_left_for_later_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def slow(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(removal.subprocess, "run", slow)
    assert not remove_folder(tmp_path)
    assert "is not removed yet" in caplog.text


def test_sockets_lie_below_no_folder_that_anybody_may_change(tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    os.chmod(above, 0o777)
    with pytest.raises(PermissionError, match="anybody may write to it"):
        shared._make_private(above / "sockets")
    os.chmod(above, 0o1777)
    shared._make_private(above / "sockets")


def test_sockets_lie_below_no_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    above = tmp_path / "above"
    above.mkdir()
    uid = os.geteuid()
    if uid == 0:
        os.chown(above, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        shared._make_private(above / "sockets")
