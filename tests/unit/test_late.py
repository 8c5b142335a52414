"""What a standby is and does for a person's own folders, apart from the mounts themselves."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerSettings, Mount, late
from computehub_ext.backends.docker.engine import Image
from computehub_ext.kernel import standby


def _place(*mounts: Mount, home: str = "/tmp") -> DockerSettings:
    return DockerSettings(image="course", user="1000:100", mounts=mounts, home=home)


def test_a_point_is_what_stands_before_the_name_or_the_target_that_all_have() -> None:
    place = _place(
        Mount("/srv/homes/{username}", "/home/{username}"),
        Mount("/srv/work/{username}", "/home/of-{username}"),
        Mount("/srv/more/{username}", "/data/{username}/work"),
        Mount("/srv/scratch/{username}", "/scratch"),
        Mount("/srv/shared", "/home/shared"),
    )
    assert late.points(place) == ("/home", "/data", "/scratch")


@pytest.mark.parametrize(
    ("home", "moves"),
    [("/tmp", False), ("/home/{username}", True), ("/home/jovyan/of", True), ("/home/other", False)],
)
def test_the_home_comes_late_if_it_is_a_person_s(home: str, moves: bool) -> None:
    assert late.moves_home(_place(Mount("/srv/{username}", "/home/jovyan"), home=home)) is moves


def test_an_image_with_programs_where_people_s_folders_come_is_told() -> None:
    image = Image("sha256:1", "sha256:1", {"PATH": "/home/kernel/.venv/bin:/usr/bin"})
    assert late.hidden_by(("/data", "/home"), image) == "/home/kernel/.venv/bin"
    assert late.hidden_by(("/data", "/home/jovyan"), image) == ""


def test_packages_at_home_come_before_the_image_s_as_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYTHONUSERBASE", raising=False)
    for name in ("USER_BASE", "USER_SITE"):
        monkeypatch.setattr(site, name, None)
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    path = list(sys.path)
    monkeypatch.setattr(sys, "path", path)
    folder = Path(site.getusersitepackages())
    assert folder.is_relative_to(tmp_path)
    standby.add_packages_at_home()
    assert sys.path == path  # nothing was ever installed there
    folder.mkdir(parents=True)
    (folder / "more.pth").write_text(f"{tmp_path}\n")
    standby.add_packages_at_home()
    position = sys.path.index(str(folder))
    assert sys.path[position : position + 2] == [str(folder), str(tmp_path)]
    assert os.path.realpath(sys.path[position + 2]) in map(os.path.realpath, site.getsitepackages())


def test_what_is_not_the_very_folder_is_not_seen(tmp_path: Path) -> None:
    found = tmp_path.stat()
    folder = {"path": str(tmp_path), "device": found.st_dev, "inode": found.st_ino, "read_only": False}
    standby.see(folder)
    for change in ({"inode": found.st_ino + 1}, {"device": found.st_dev + 1}, {"path": str(tmp_path / "none")}):
        with pytest.raises(standby.Unseen):
            standby.see({**folder, **change})
    with pytest.raises(standby.Unseen, match="can be written to"):
        standby.see({**folder, "read_only": True})
