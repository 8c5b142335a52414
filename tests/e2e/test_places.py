"""The same tour on each kind of place: what people see differs by the pool's name alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from computehub_ext.testing.docker_engine import docker_engine
from computehub_ext.testing.slurm_cluster import slurm_cluster
from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually, running_lab
from tests.e2e.panel import Panel

KERNEL_UID = 12345
POOL = {"name": "the tour's T4", "model": "T4", "devices": 2, "rate_credits_per_hour": 1, "simulated": True}
TOUR = [
    "import os, socket\nfirst = (socket.gethostname(), os.getpid())\nrows = [[1, 2], [3, 4]]\nalias = rows[0]\n"
    "def total(): return sum(map(sum, rows))",
    "%gpu on T4 --for 30m --yes\nprint('asked')",
    "there = (socket.gethostname(), os.getpid())\nalias.append(10)\nprint(total(), there != first, os.getcwd())",
    "%gpu",
    "print(sorted(name for name in os.environ if 'TOKEN' in name or name.startswith('JUPYTERHUB')))",
    "%gpu off --yes",
    "print(total(), alias is rows[0], (socket.gethostname(), os.getpid()) != there)",
]


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.needs("docker")),
                        pytest.param("slurm", marks=pytest.mark.needs("slurm"))])  # fmt: skip
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Only this differs from one kind of place to the next."""
    with ExitStack() as stack:
        if request.param == "docker":
            engine = stack.enter_context(docker_engine())
            work = tmp_path / "work"
            work.mkdir()
            os.chown(work, KERNEL_UID, KERNEL_UID)
            place = {
                "kind": "docker",
                "image": engine.image,
                "engine_url": engine.url,
                "python": engine.python,
                "user": f"{KERNEL_UID}:{KERNEL_UID}",
                "mounts": [{"source": str(work)}],
                "memory_mib": 1024,
            }
        elif request.param == "slurm":
            cluster = stack.enter_context(slurm_cluster())
            place = {"kind": "slurm", "slurm_conf": str(cluster.conf), "listen_host": "127.0.0.1", "memory_mib": 500}
        else:
            yield {"simulated": "always"}
            return
        yield {"places": {"far": place}, "pools": [{**POOL, "place": "far"}], "simulated": "auto"}


def test_the_tour_is_the_same_wherever_the_gpu_is(
    tmp_path: Path, person: Callable[..., Person], place: dict[str, Any]
) -> None:
    with running_lab(tmp_path, **place) as lab:
        lab.write_notebook("tour.ipynb", TOUR)
        alice = person(lab, "alice")
        tab = alice.open("tour.ipynb")
        tab.run_all()
        tab.wait_for_output(7, "20 True True")
        assert tab.output(3) == f"20 True {lab.work}"
        tab.wait_for_output(4, "T4")
        assert tab.output(5) == "['COMPUTEHUB_KERNEL_TOKEN']"
        lease = lab.closed_lease(lab.api("leases", user="alice")["items"][0]["id"])
        assert lease["end_reason"] == "returned"
        far = "far" if "places" in place else "local"
        assert lease["place"]["name"] == far
        assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
        lab.assert_books_agree()
        eventually("nothing runs there any more", lambda: nothing_open(lab))
        alice.leave()


@pytest.mark.parametrize("place", ["docker"], indirect=True)
@pytest.mark.needs("docker")
def test_the_panel_says_where_it_is_and_what_its_kernel_wrote(
    tmp_path: Path, person: Callable[..., Person], place: dict[str, Any]
) -> None:
    with running_lab(tmp_path, **place) as lab:
        said = "import os\nos.write(2, b'beside the channels\\n')\nprint('written')"
        lab.write_notebook("log.ipynb", ["%gpu on T4 --for 30m --yes", said])
        alice = person(lab, "alice")
        tab = alice.open("log.ipynb")
        tab.run_all()
        tab.wait_for_output(2, "written")
        panel = Panel(tab).open()
        card = panel.sidebar.get_by_role("article")
        expect(card.get_by_text("far", exact=True)).to_be_visible()
        assert "image_digest: sha256:" in str(card.get_by_text("far", exact=True).locator("..").get_attribute("title"))
        card.get_by_role("button", name="Kernel's log").click()
        expect(panel.dialog).to_contain_text("beside the channels")
        panel.both_looks("panel-log")
        panel.answer("Close")
        lab.end_everything()
        alice.leave()


def nothing_open(lab: Lab) -> bool:
    return lab.query("SELECT count(*) FROM placements WHERE state <> 'ended'") == [(0,)]
