"""Images made on the real engine: our recipes, a course's folder, what fails and how it is told, and the check."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker import APIClient

from computehub_ext.backends.docker import images
from computehub_ext.cli import main
from computehub_ext.core.errors import Invalid, NotFound, Refused
from computehub_ext.testing import docker_base
from computehub_ext.testing.docker_engine import Engine, docker_engine

pytestmark = [pytest.mark.needs("docker"), pytest.mark.slow]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


@pytest.fixture
def api(engine: Engine) -> Iterator[APIClient]:
    api = images.connect(engine.url)
    yield api
    api.close()


@pytest.fixture(scope="module")
def index(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Build arguments that lead to an index on this machine: the base image's wheels and a package of our own."""
    root = tmp_path_factory.mktemp("index")
    tiny(root / "tiny_course-1.0-py3-none-any.whl")
    for wheel in (root / "tiny_course-1.0-py3-none-any.whl", *docker_base.wheels().glob("*.whl")):
        name = wheel.name.split("-")[0].lower().replace("_", "-").replace(".", "-")
        folder = root / "simple" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / wheel.name).symlink_to(wheel)
        (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer((engine.host_address, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://{engine.host_address}:{server.server_port}/simple"
        yield {"PIP_INDEX_URL": url, "PIP_TRUSTED_HOST": engine.host_address}
        server.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def tiny(path: Path) -> None:
    """Write a package of one module as a wheel."""
    with zipfile.ZipFile(path, "w") as wheel:
        info = "tiny_course-1.0.dist-info"
        wheel.writestr("tiny_course.py", "ANSWER = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-course\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"tiny_course.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def tag(api: APIClient, request: pytest.FixtureRequest) -> Iterator[str]:
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    yield f"computehub-test/{name}:latest"
    api.prune_images({"dangling": True})
    if api.images(name=f"computehub-test/{name}"):
        api.remove_image(f"computehub-test/{name}:latest", force=True)


@pytest.fixture
def said() -> list[str]:
    return []


Run = Callable[..., str]


@pytest.fixture
def run_in(api: APIClient) -> Run:
    def run(tag: str, code: str) -> str:
        container = api.create_container(tag, ["-c", code], entrypoint=["python3"], network_disabled=True)["Id"]
        try:
            api.start(container)
            assert api.wait(container)["StatusCode"] == 0, api.logs(container).decode()
            return api.logs(container).decode().strip()
        finally:
            api.remove_container(container, force=True)

    return run


@pytest.mark.parametrize("recipe", images.RECIPES)
def test_our_recipes_make_images_that_kernels_start_in(
    api: APIClient, engine: Engine, index: dict[str, str], tag: str, said: list[str], recipe: str
) -> None:
    built = images.build_recipe(api, recipe, tag=tag, write=said.append, base=engine.image, arguments=index)
    assert built.id.startswith("sha256:")
    assert any(line.startswith("Step 1/") for line in said), "its output comes step by step"
    found = images.check_image(api, tag)
    assert found.ipykernel_version.startswith("7.")
    assert found.can_encrypt
    assert [(image.kind, image.id) for image in images.list_images(api) if image.tag == tag] == [(recipe, built.id)]
    config = api.inspect_image(tag)["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["tini", "--"]


def test_a_course_s_requirements_are_in_its_image_and_the_kernel(
    api: APIClient, engine: Engine, index: dict[str, str], tag: str, said: list[str], tmp_path: Path, run_in: Run
) -> None:
    (tmp_path / "requirements.txt").write_text("tiny-course==1.0\n")
    (tmp_path / "runtime.txt").write_text(f"python-{docker_base.PYTHON_VERSION}\n")
    (tmp_path / "solutions.ipynb").write_text("{}")
    images.build_course(api, tmp_path, tag=tag, write=said.append, base=engine.image, arguments=index)
    images.check_image(api, tag)
    assert run_in(tag, "import tiny_course; print(tiny_course.ANSWER)") == "42"
    assert run_in(tag, "import os; print(os.path.exists('/tmp/course'))") == "False"
    assert not api.containers(all=True, filters={"ancestor": tag}), "no step's container is left"


def test_a_course_s_own_dockerfile_gets_the_kernel_and_keeps_its_user(
    api: APIClient, engine: Engine, index: dict[str, str], tag: str, said: list[str], tmp_path: Path
) -> None:
    # A Python without ipykernel: Debian's own, beside the one that the base's kernels use.
    path = "/own/bin:/usr/bin:/bin"
    lines = [f"FROM {engine.image}", "USER root", "RUN /usr/bin/python3 -m venv /own", f"ENV PATH={path}", "USER 1234"]
    (tmp_path / "binder").mkdir()
    (tmp_path / "data.csv").write_text("1\n")
    (tmp_path / "binder" / "Dockerfile").write_text("\n".join([*lines, "COPY data.csv /data.csv"]) + "\n")
    images.build_course(api, tmp_path, tag=tag, write=said.append, arguments=index)
    assert images.check_image(api, tag).python_version.startswith(docker_base.PYTHON_VERSION)
    assert api.inspect_image(tag)["Config"]["User"] == "1234"
    assert f"PATH={path}" in api.inspect_image(tag)["Config"]["Env"]


def test_an_environment_is_installed_by_micromamba(
    api: APIClient, engine: Engine, tag: str, said: list[str], tmp_path: Path, run_in: Run
) -> None:
    """No conda channel can be reached from a test: a stand-in writes down how it was called."""
    stand_in = tmp_path / "base"
    stand_in.mkdir()
    script = '#!/bin/sh\\necho "$@" >> /called\\nfor f; do case $f in *.yml) cat $f >> /called;; esac; done\\n'
    prepare = [f"RUN printf '{script}' > /usr/local/bin/micromamba && chmod 755 /usr/local/bin/micromamba"]
    lines = [f"FROM {engine.image}", "USER root", *prepare, "USER 1000"]
    (stand_in / "Dockerfile").write_text("\n".join(lines) + "\n")
    base = images.build_course(api, stand_in, tag=tag, write=said.append)
    (tmp_path / "environment.yml").write_text("dependencies:\n  - python=3.11\n  - pip\n")
    images.build_course(api, tmp_path, tag=tag, write=said.append, base=base.id)
    called = run_in(tag, "print(open('/called').read())")
    assert "install --yes --name base --file /tmp/course/environment.yml" in called
    assert "- python=3.11" in called
    images.check_image(api, tag)


FAILING = {
    "a package that is nowhere": (
        {"requirements.txt": "tiny-course\n\nno-such-thing==9\n"},
        "requirements.txt, line 3",
    ),
    "a line that is none": ({"requirements.txt": "tiny-course\n??\n"}, "requirements.txt, line 2"),
    "a contradiction": ({"requirements.txt": "ipykernel==6.0\n"}, "requirements.txt"),
    "another Python": ({"requirements.txt": "", "runtime.txt": "python-3.9"}, "This base has Python 3.11"),
    "an unknown instruction": ({"Dockerfile": "FROM {image}\n\nINSTALL numpy\n"}, "Dockerfile, line 3"),
    "a failing step": (
        {"Dockerfile": "FROM {image}\n# why\nRUN true \\\n && :\nRUN exit 3\n"},
        "Dockerfile, line 5",
    ),
    "a file that is not there": ({"Dockerfile": "FROM {image}\nCOPY gone /gone\n"}, "Dockerfile, line 2"),
    "an image that is nowhere": ({"Dockerfile": "FROM computehub-test/gone:1\n"}, "Dockerfile, line 1"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_build_that_fails_names_the_file_and_line(
    api: APIClient, engine: Engine, index: dict[str, str], tag: str, said: list[str], tmp_path: Path, case: str
) -> None:
    files, told = FAILING[case]
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace("{image}", engine.image))
    base = "" if "Dockerfile" in files else engine.image
    with pytest.raises(Refused) as refused:
        images.build_course(api, tmp_path, tag=tag, write=said.append, base=base, arguments=index)
    assert told in refused.value.message
    assert not [one for one in images.list_images(api) if one.tag == tag]


def test_a_password_does_not_get_into_an_image_s_history(api: APIClient, engine: Engine, tag: str) -> None:
    arguments = {"PIP_INDEX_URL": "https://me:secret@index.example/simple"}
    with pytest.raises(Invalid, match="history") as refused:
        images.build_recipe(api, "slim", tag=tag, write=print, base=engine.image, arguments=arguments)
    assert "secret" not in refused.value.message


def test_the_check_says_why_no_kernel_can_start(api: APIClient, engine: Engine, tag: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no image computehub-test/gone"):
        images.check_image(api, "computehub-test/gone")
    with pytest.raises(Refused, match="has no /no/python"):
        images.check_image(api, engine.image, python="/no/python")
    with pytest.raises(Refused, match="has no ipykernel"):
        images.check_image(api, engine.image, python="/usr/bin/python3")
    # A package that only its installer can read: seen here, and not when a student's first cell runs.
    (tmp_path / "Dockerfile").write_text(
        f"FROM {engine.image}\nUSER root\nRUN chmod -R go-rx /opt/kernel/lib/python3.11/site-packages/zmq\n"
    )
    images.build_course(api, tmp_path, tag=tag, write=lambda text: None)
    with pytest.raises(Refused, match="an unknown user can't load ipykernel"):
        images.check_image(api, tag)


def test_the_shell_s_words(
    engine: Engine, index: dict[str, str], tag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "requirements.txt").write_text("tiny-course\n")
    arguments = [word for name, value in index.items() for word in ("--build-arg", f"{name}={value}")]
    where = ["--engine", engine.url]
    build = ["image", "build", "--from", str(tmp_path), "--tag", tag, "--base", engine.image]
    assert main([*build, *arguments, *where]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Using {tmp_path / 'requirements.txt'}"
    assert lines[-1].startswith(f"{tag} sha256:")
    assert main(["image", "list", *where]) == 0
    assert f"{tag}  " in capsys.readouterr().out
    assert main(["image", "check", tag, *where]) == 0
    assert f"A kernel starts in {tag}: Python 3." in capsys.readouterr().out
    (tmp_path / "requirements.txt").write_text("no-such-thing\n")
    assert main([*build, "--quiet", *arguments, *where]) == 1
    told = capsys.readouterr()
    assert f"{tmp_path / 'requirements.txt'}, line 1: " in told.err
    assert not told.out
