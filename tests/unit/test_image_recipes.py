"""A course's folder read as an image's recipe, and how a failed build is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from computehub_ext.backends.docker.course import line_of_step, line_that_names, read_course
from computehub_ext.backends.docker.images import RECIPES, recipes_folder
from computehub_ext.cli import image, main
from computehub_ext.core.errors import Invalid, NotFound


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def from_line(dockerfile: str) -> str:
    return next(line for line in dockerfile.splitlines() if line.startswith("FROM "))


def test_requirements_are_installed_with_the_kernel_in_one_go(tmp_path: Path) -> None:
    recipe = read_course(write(tmp_path, requirements_txt="numpy\n"))
    assert from_line(recipe.dockerfile) == "FROM python:3.12-slim-bookworm"
    assert '-r requirements.txt "ipykernel>=7.4,<8"' in recipe.dockerfile
    assert recipe.files == {"requirements.txt": b"numpy\n"}


def test_the_files_that_requirements_name_go_with_them_and_no_others(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        requirements_txt="-r parts/base.txt\n# a comment\n-c limits.txt\n",
        parts__base_txt="-r more.txt\n-r ../requirements.txt\n",
        parts__more_txt="attrs\n",
        limits_txt="attrs<30\n",
        secret_txt="not for the engine",
    )
    assert set(read_course(folder).files or ()) == {
        "requirements.txt",
        "parts/base.txt",
        "parts/more.txt",
        "limits.txt",
    }


def test_the_python_is_as_runtime_txt_says_or_the_base_is_asked_for_it(tmp_path: Path) -> None:
    folder = write(tmp_path, requirements_txt="", runtime_txt="python-3.11\n")
    assert from_line(read_course(folder).dockerfile) == "FROM python:3.11-slim-bookworm"
    on_own_base = read_course(folder, base="registry.example/python").dockerfile
    assert from_line(on_own_base) == "FROM registry.example/python"
    assert "3.11" in on_own_base
    assert "sys.exit" in on_own_base


def test_a_binder_folder_is_read_in_the_place_of_the_course_s_own(tmp_path: Path) -> None:
    folder = write(tmp_path, requirements_txt="one\n", binder__requirements_txt="two\n")
    assert read_course(folder).files == {"requirements.txt": b"two\n"}


def test_debian_packages_are_installed_first(tmp_path: Path) -> None:
    folder = write(tmp_path, requirements_txt="", apt_txt="graphviz  # drawn in week 3\nlibgl1=1.6.0-1\n")
    text = read_course(folder).dockerfile
    assert "--no-install-recommends graphviz libgl1=1.6.0-1 " in text
    assert text.index("apt-get") < text.index("-r requirements.txt")


def test_an_environment_goes_before_requirements_and_gets_the_kernel(tmp_path: Path) -> None:
    environment = "dependencies:\n  - python=3.12\n  - pip\n  - pip:\n    - attrs\n"
    recipe = read_course(write(tmp_path, environment_yml=environment, requirements_txt="other\n"))
    assert from_line(recipe.dockerfile) == "FROM mambaorg/micromamba:2-debian12-slim"
    assert "micromamba install --yes --name base --file /tmp/course/environment.yml" in recipe.dockerfile
    assert "ipykernel>=7.4,<8" in recipe.dockerfile
    assert set(recipe.files or ()) == {"environment.yml"}


def test_a_dockerfile_decides_everything(tmp_path: Path) -> None:
    recipe = read_course(write(tmp_path, Dockerfile="FROM x\n", requirements_txt="y", postBuild=""))
    assert recipe.is_own_dockerfile
    assert recipe.dockerfile == "FROM x\n"


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a package of the folder": ({"requirements_txt": "numpy\n-e .\n"}, "requirements.txt, line 2: '-e .' installs"),
    "a missing file": ({"requirements_txt": "\n-r gone.txt\n"}, "requirements.txt, line 2: there is no file gone.txt"),
    "a file elsewhere": ({"requirements_txt": "-r /etc/passwd"}, "line 1: /etc/passwd lies outside"),
    "a file above": ({"requirements_txt": "-r ../other.txt"}, "line 1: ../other.txt lies outside"),
    "a shell's words": ({"requirements_txt": "", "apt_txt": "curl\ngit;reboot\n"}, "apt.txt, line 2: 'git;reboot'"),
    "another runtime": ({"requirements_txt": "", "runtime_txt": "r-4.1\n"}, "runtime.txt, line 1: 'r-4.1'"),
    "broken YAML": ({"environment_yml": "dependencies:\n  - [numpy\n"}, "environment.yml, line 3: expected"),
    "no dependencies": ({"environment_yml": "name: x\n"}, "environment.yml, line 1: it has no list"),
    "no Python": ({"environment_yml": "dependencies:\n  - r-base\n"}, "name no python and pip"),
    "a script": ({"requirements_txt": "", "postBuild": "#!/bin/sh\n"}, "postBuild: this file is not done here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_file_and_line(tmp_path: Path, case: str) -> None:
    files, told = REFUSED[case]
    with pytest.raises(Invalid) as refused:
        read_course(write(tmp_path, **files))
    assert told in refused.value.message
    assert refused.value.message.startswith(str(tmp_path))


def test_a_folder_that_says_nothing_or_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"has no Dockerfile, environment\.yml or requirements"):
        read_course(tmp_path)
    with pytest.raises(NotFound, match="no folder"):
        read_course(tmp_path / "nowhere")


def test_a_base_and_a_dockerfile_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="names its own base"):
        read_course(write(tmp_path, Dockerfile="FROM x\n"), base="y")


def test_a_step_s_line_is_found_over_comments_and_continued_lines() -> None:
    text = "# syntax\nARG A\nFROM x\n\nRUN one \\\n  # said\n  two\nRUN three\n"
    assert [line_of_step(text, step) for step in (1, 2, 3, 4, 5)] == [2, 3, 5, 8, 0]


def test_a_package_s_line_is_found_however_its_name_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, requirements_txt="numpy\n# My_Package\nMy_Package[extra]>=2 ; python_version > '3'\n")
    assert line_that_names(path / "requirements.txt", "my-package>=2") == 3
    assert line_that_names(path / "requirements.txt", "other") == 0


@pytest.mark.parametrize("name", RECIPES)
def test_our_recipes_need_no_computehub_and_end_as_nobody_s_root(name: str) -> None:
    lines = (recipes_folder() / name / "Dockerfile").read_text().splitlines()
    said = [line for line in lines if line and not line.startswith("#")]
    assert said[0].startswith("ARG BASE=")
    assert [line for line in said if line.startswith("USER")][-1] == "USER 1000:1000"
    assert not [
        line for line in said if "computehub" in line and not line.startswith(("LABEL", "ENV", "RUN python3", " &&"))
    ]


@pytest.mark.parametrize(
    ("given", "name", "tag"),
    [
        (None, "slim", "computehub/slim:latest"),
        (None, "Physics & Maths 2026", "computehub/physics-maths-2026:latest"),
        ("registry.example:5000/physics", "x", "registry.example:5000/physics:latest"),
        ("physics:2026", "x", "physics:2026"),
    ],
)
def test_an_image_s_name(given: str | None, name: str, tag: str) -> None:
    assert image.tag_of(given, name) == tag


def test_wrong_names_and_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Invalid, match="no name for an image"):
        image.tag_of("Physics", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert image.build_arguments(["HTTPS_PROXY", "A=b=c"]) == {"HTTPS_PROXY": "http://proxy.example:3128", "A": "b=c"}
    with pytest.raises(Invalid, match="NAME=VALUE"):
        image.build_arguments(["NOT_SET_ANYWHERE"])


def test_no_engine_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "list", "--engine", f"unix://{tmp_path}/none.sock"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("computehub image list: No Docker engine answers at unix://")
    assert len(told.splitlines()) == 1
