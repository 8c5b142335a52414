"""A place whose image is on its way: what people see of it, until they can go there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from docker import APIClient
from playwright.sync_api import expect

from computehub_ext.testing.docker_engine import docker_engine
from computehub_ext.testing.registry import registry
from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually, running_lab
from tests.e2e.panel import SLOW_MS, Panel
from tests.support.pushed import pushed

KERNEL_UID = 12345
POOL = {"name": "T4 of the course", "place": "course", "model": "T4", "devices": 2, "rate_credits_per_hour": 1}


@pytest.mark.needs("docker")
@pytest.mark.needs("registry")
def test_an_offer_says_how_far_its_image_is_and_then_the_notebook_moves_there(
    tmp_path: Path, person: Callable[..., Person]
) -> None:
    store, work = tmp_path / "registry", tmp_path / "work"
    for folder in (store, work):
        folder.mkdir()
    os.chown(work, KERNEL_UID, KERNEL_UID)
    with (
        docker_engine() as engine,
        registry(engine, store) as images,
        closing(APIClient(engine.url, version="auto", timeout=120)) as api,
    ):
        name = f"{images.name}/physics:2026"
        pushed(api, name, base=engine.image)
        images.hold()
        place = {
            "kind": "docker",
            "engine_url": engine.url,
            "image": name,
            "pull": "missing",
            "python": engine.python,
            "user": f"{KERNEL_UID}:{KERNEL_UID}",
            "mounts": [{"source": str(work)}],
        }
        pools = [{**POOL, "simulated": True}]
        with running_lab(tmp_path, places={"course": place}, pools=pools, simulated="auto") as lab:
            lab.write_notebook("course.ipynb", ["import os; print(os.environ.get('COURSE'), os.path.exists('/1.bin'))"])
            alice = person(lab, "alice", width=1280, height=760)
            tab = alice.open("course.ipynb")
            panel = Panel(tab)
            # Half of each layer comes before it is held back.
            eventually("half of it is there", lambda: re.search(r" (4\d|50) %, [78] of 16 MB", unwell(lab)))
            panel.open()
            offer = panel.section("GPUs to use or book").get_by_role("listitem", name="T4")
            expect(offer).to_contain_text(f"The image {name} is being pulled: ", timeout=SLOW_MS)
            expect(offer).to_contain_text(re.compile(r" (4\d|50) %, [78] of 16 MB\."))
            expect(offer).to_contain_text("Not available now")
            expect(offer.get_by_role("button", name="Move here")).to_have_count(0)
            panel.both_looks("panel-pulling")
            images.let_go()
            expect(offer).to_contain_text("2 of 2 free", timeout=SLOW_MS)
            panel.move("T4")
            panel.answer("Close")
            tab.run_cell(1)
            tab.wait_for_output(1, "physics True")
            lab.end_everything()
            alice.leave()
        api.remove_image(name, force=True)


def unwell(lab: Lab) -> str:
    return str(lab.api("offers", user="alice")["items"][0]["unwell"])
