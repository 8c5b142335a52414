"""An image that the engine does not have, from a real registry."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from docker import APIClient

from computehub_ext.backends.docker import DockerBackend, pulling
from computehub_ext.cli import main
from computehub_ext.core.errors import NoCapacity, Refused
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import wait_for
from computehub_ext.testing.registry import Registry, registry
from tests.support.containers import Place, nothing_left_of, state_folder
from tests.support.pushed import pushed

pytestmark = [pytest.mark.needs("docker"), pytest.mark.needs("registry")]

LOGIN, HTPASSWD = "alice:secret", "alice:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


@pytest.fixture
def api(engine: Engine) -> Iterator[APIClient]:
    with closing(APIClient(engine.url, version="auto", timeout=120)) as api:
        yield api


@pytest.fixture
def open_registry(engine: Engine, tmp_path: Path) -> Iterator[Registry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry(engine, folder) as found:
        yield found


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[Place]:
    folder = tmp_path / "work"
    folder.mkdir()
    with state_folder() as state_dir:
        place = Place(engine, state_dir, folder)
        yield place
        nothing_left_of(place.backends)


def _ready(backend: DockerBackend) -> bool:
    return backend.health().ok


def test_an_image_that_is_missing_is_pulled_and_offers_say_how_far_it_is(
    place: Place, api: APIClient, open_registry: Registry
) -> None:
    name = f"{open_registry.name}/course:1"
    pushed(api, name)
    open_registry.hold()
    backend = place.backend(image=name, pull="missing", python="python3", warm_count=1)
    sentence = re.compile(rf"The image {name} is being pulled: (4\d|50) %, [78] of 16 MB\.")
    wait_for(lambda: sentence.fullmatch(backend.health().message), 20, "half of it was never told")
    with pytest.raises(NoCapacity, match=sentence.pattern):
        backend.start(place.ask())
    open_registry.let_go()
    wait_for(lambda: _ready(backend), 20, "it never came")
    assert backend.containers.image().environment["COURSE"] == "physics"
    assert backend.containers.image().digest.startswith(f"{open_registry.name}/course@sha256:")
    with pytest.raises(Refused, match="does not have the Python"):  # so that is what would be started
        backend.start(place.ask())
    api.remove_image(name, force=True)


def test_a_pull_that_was_cut_off_goes_on_with_the_next_control_plane(
    place: Place, api: APIClient, open_registry: Registry
) -> None:
    name = f"{open_registry.name}/course:2"
    pushed(api, name)
    open_registry.hold()
    first = place.backend(image=name, pull="missing")
    wait_for(lambda: " of 16 MB" in first.health().message, 20)
    first.close()
    open_registry.let_go()
    successor = place.backend(image=name, pull="missing")
    wait_for(lambda: _ready(successor), 20)
    api.remove_image(name, force=True)


def test_without_the_setting_nothing_is_pulled(place: Place, api: APIClient, open_registry: Registry) -> None:
    name = f"{open_registry.name}/course:3"
    pushed(api, name)
    backend = place.backend(image=name)
    assert f"`computehub image pull {name}`" in backend.health().message
    with pytest.raises(Refused, match="does not have the image"):
        backend.start(place.ask())
    assert not api.images(name=name)


def test_what_a_registry_gives_only_to_some_is_got_with_the_account_s_own_login(
    engine: Engine, place: Place, api: APIClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "docker"
    config.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(config))
    folder = tmp_path / "registry"
    folder.mkdir()
    user, _, password = LOGIN.partition(":")
    with registry(engine, folder, htpasswd=HTPASSWD) as closed:
        name = f"{closed.name}/course:4"
        pushed(api, name, auth_config={"username": user, "password": password})
        backend = place.backend(image=name, pull="missing")
        wait_for(lambda: "is not tried again" in backend.health().message, 20)
        assert f"`docker login {closed.name}`" in backend.health().message
        with pytest.raises(Refused, match="docker login"):
            backend.start(place.ask())
        login = base64.b64encode(LOGIN.encode()).decode()
        (config / "config.json").write_text(json.dumps({"auths": {closed.name: {"auth": login}}}))
        assert main(["image", "pull", name, "--engine", engine.url]) == 0
        assert _ready(backend)
        api.remove_image(name, force=True)


def test_a_registry_that_does_not_answer_is_asked_again(
    place: Place, api: APIClient, open_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "WAITS_SECONDS", (3600.0,))
    nowhere = place.backend(image="127.0.0.1:9/course:1", pull="missing")
    wait_for(lambda: "tried again in 3" in nowhere.health().message, 20)
    assert nowhere.health().message.startswith("The registry of 127.0.0.1:9/course:1 can't be reached from the engine.")
    none = place.backend(image=f"{open_registry.name}/no-such:1", pull="missing")
    wait_for(lambda: "not tried again" in none.health().message, 20)
    assert none.health().message.startswith(f"There is no image {open_registry.name}/no-such:1 at its registry.")


def test_the_shell_command_pulls_a_place_s_image_and_says_how_far_it_is(
    engine: Engine,
    api: APIClient,
    open_registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"{open_registry.name}/course:5"
    pushed(api, name)
    places = {"gpu-server": {"kind": "docker", "image": name, "engine_url": engine.url}}
    (tmp_path / "jupyter_server_config.py").write_text(f"c.ComputeHub.places = {places!r}\n")
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    assert main(["image", "pull", "gpu-server"]) == 0
    *progress, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{name} sha256:")
    assert last.endswith(" 16 MB")
    assert any("layers" in line or "MB" in line for line in progress)
    api.remove_image(name, force=True)
    assert main(["image", "pull", f"{open_registry.name}/no-such:1", "--engine", engine.url]) == 1
    said = capsys.readouterr().err
    assert said == f"computehub image pull: There is no image {open_registry.name}/no-such:1 at its registry.\n"
