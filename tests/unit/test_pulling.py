"""How a pull is told, and how often it is tried."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from computehub_ext.backends.docker import pulling
from computehub_ext.backends.docker.engine import Image
from computehub_ext.backends.docker.pulling import Progress, Puller, sizes, told
from computehub_ext.core.errors import NoCapacity, Refused, Unreachable
from computehub_ext.testing.kernels import wait_for

NAME = "registry.example/course:1"


def _line(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    detail = {"current": current, "total": total} if total else {}
    return {"id": layer, "status": status, "progressDetail": detail}


def test_how_far_it_is_counts_what_is_known() -> None:
    progress = Progress()
    assert str(progress) == ""
    progress.note({"status": "Pulling from course", "id": "1"})
    assert str(progress) == ""
    for layer in ("a", "b", "c"):
        progress.note(_line(layer, "Pulling fs layer"))
    progress.note(_line("a", "Already exists"))
    progress.note(_line("b", "Downloading", 400_000_000, 2_000_000_000))
    assert str(progress) == "400 MB so far, 1 of 3 layers"
    progress.note(_line("c", "Downloading", 770_000_000, 600_000_000 + 170_000_000))
    progress.note(_line("c", "Download complete"))
    progress.note(_line("b", "Downloading", 430_000_000, 2_000_000_000))
    assert str(progress) == "43 %, 1.2 of 2.8 GB"
    progress.note(_line("b", "Download complete"))
    progress.note(_line("b", "Extracting", 1_000_000_000, 2_000_000_000))
    assert str(progress) == "all 2.8 GB are there, 36 % unpacked"
    progress.note(_line("c", "Pull complete"))
    progress.note(_line("b", "Pull complete"))
    assert str(progress) == "all 2.8 GB are there, 100 % unpacked"


@pytest.mark.parametrize(
    ("there", "of", "said"),
    [
        (0, 2_600_000_000, "0.0 of 2.6 GB"),
        (12_300_000, 240_000_000, "12 of 240 MB"),
        (1_230_000, 0, "1.2 MB"),
        (1_230_000_000, 0, "1.2 GB"),
    ],
)
def test_sizes_are_told_as_people_read_them(there: int, of: int, said: str) -> None:
    assert sizes(there, of) == said


@pytest.mark.parametrize(
    ("said", "sentence", "may_pass"),
    [
        ("manifest for course:1 not found: manifest unknown", "There is no image", False),
        ("pull access denied for course, repository does not exist", "`docker login registry.example`", False),
        ("Get https://registry.example/v2/: unauthorized: authentication required", "does not give", False),
        ("Get https://registry.example/v2/: no basic auth credentials", "does not give", False),
        ("dial tcp: lookup registry.example: no such host", "can't be reached", True),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "can't be reached", True),
        ("write /var/lib/docker/tmp/x: no space left on device", "disk is too full", True),
        ("toomanyrequests: You have reached your pull rate limit", "too many were asked for", True),
        ("something new.", "could not be pulled: something new.", True),
    ],
)
def test_a_failure_has_a_sentence(said: str, sentence: str, may_pass: bool) -> None:
    found, found_may_pass = told(NAME, said)
    assert sentence in found
    assert found_may_pass is may_pass


class Engine:
    """What a puller asks of an engine; each try is one list of lines."""

    def __init__(self, *tries: list[dict[str, Any]] | Exception) -> None:
        self.tries, self.pulled = list(tries), 0
        self.has_it = False
        self.go_on = threading.Event()
        self.go_on.set()

    def image(self, name: str) -> Image:
        if not self.has_it:
            raise Refused(f"The engine does not have the image {name}.", kind="image")
        return Image("sha256:1", "sha256:1", {})

    def pull(self, name: str) -> Iterator[Mapping[str, Any]]:
        self.pulled += 1
        lines = self.tries.pop(0)
        if isinstance(lines, Exception):
            raise lines
        yield from lines
        assert self.go_on.wait(10)
        self.has_it = not any("error" in line for line in lines)


def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "WAITS_SECONDS", (0.0, 0.0))


def test_it_is_pulled_once_however_many_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine([_line("a", "Downloading", 5_000_000, 10_000_000)])
    engine.go_on.clear()
    puller = Puller(engine, NAME, is_wanted=True)
    for _ in range(5):
        with pytest.raises(NoCapacity, match="is being pulled"):
            puller.image(NAME)
    wait_for(lambda: "50 %" in puller.said())
    engine.go_on.set()
    wait_for(lambda: engine.has_it)
    assert puller.image(NAME).id == "sha256:1"
    assert engine.pulled == 1
    puller.close()


def test_what_may_pass_is_tried_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_wait(monkeypatch)
    failed = [{"error": "connection refused"}]
    engine = Engine(failed, Unreachable("The engine does not answer."), failed)
    puller = Puller(engine, NAME, is_wanted=True)
    with pytest.raises((NoCapacity, Refused)):
        puller.image(NAME)
    wait_for(lambda: "not tried again" in puller.said())
    assert engine.pulled == 3
    with pytest.raises(Refused, match="can't be reached"):
        puller.image(NAME)
    assert engine.pulled == 3
    engine.has_it = True  # somebody got it in another way
    puller.image(NAME)
    engine.has_it, engine.tries = False, [[{"status": "Pulling"}]]

    def asked_again() -> bool:
        with contextlib.suppress(NoCapacity):  # the first time perhaps while the last try is still going away
            puller.image(NAME)
        return engine.has_it

    wait_for(asked_again)
    puller.close()


def test_what_will_not_pass_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_wait(monkeypatch)
    engine = Engine([{"error": "manifest unknown"}])
    puller = Puller(engine, NAME, is_wanted=True)
    with pytest.raises((NoCapacity, Refused)):  # it may have failed by then
        puller.image(NAME)
    wait_for(lambda: "not tried again" in puller.said())
    assert engine.pulled == 1
    puller.close()


def test_a_wait_for_the_next_try_keeps_nobody_from_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "WAITS_SECONDS", (3600.0,))
    engine = Engine([{"error": "connection refused"}])
    puller = Puller(engine, NAME, is_wanted=True)
    with pytest.raises(NoCapacity):
        puller.image(NAME)
    wait_for(lambda: "tried again in 3" in puller.said())
    puller.close()
    assert puller._thread is None


def test_only_the_place_s_own_image_is_pulled_and_only_where_it_is_wanted() -> None:
    engine = Engine()
    with pytest.raises(Refused, match="does not have"):
        Puller(engine, NAME, is_wanted=False).image(NAME)
    with pytest.raises(Refused, match="does not have"):
        Puller(engine, NAME, is_wanted=True).image("sha256:2")
    assert engine.pulled == 0
