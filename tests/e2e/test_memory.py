"""A kernel that needs more main memory than it may use: told before, told after, and the way on to a larger place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from computehub_ext.testing.docker_engine import docker_engine
from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually, running_lab
from tests.e2e.panel import SLOW_MS, Panel

KERNEL_UID = 12345


@contextmanager
def two_places(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """One engine with a place whose kernels may use 256 MiB, and one where they may use four times that."""
    work = tmp_path / "work"
    work.mkdir()
    os.chown(work, KERNEL_UID, KERNEL_UID)
    with docker_engine() as engine:
        place = {
            "kind": "docker",
            "image": engine.image,
            "engine_url": engine.url,
            "python": engine.python,
            "user": f"{KERNEL_UID}:{KERNEL_UID}",
            "mounts": [{"source": str(work)}],
        }
        pool = {"devices": 1, "simulated": True}
        yield {
            "places": {
                "narrow": {**place, "memory_mib": 256, "cpus": 1.0},
                "wide": {**place, "memory_mib": 1024, "cpus": 2.0},
            },
            "pools": [
                {**pool, "name": "narrow T4", "place": "narrow", "model": "T4", "rate_credits_per_hour": 1,
                 "memory_mib": 15360},
                {**pool, "name": "wide V100", "place": "wide", "model": "V100", "rate_credits_per_hour": 2.5,
                 "memory_mib": 32768},
            ],
            "simulated": "auto",
        }  # fmt: skip


@pytest.mark.needs("docker")
def test_a_kernel_that_needs_too_much_memory_is_told_the_limit_and_a_place_with_more(
    tmp_path: Path, person: Callable[..., Person]
) -> None:
    with two_places(tmp_path) as places, running_lab(tmp_path, **places) as lab:
        cells = ["%gpu on T4 --for 30m --yes", "print('there')", "hog = b'x' * (600 * 2**20)", "%gpu"]
        lab.write_notebook("hog.ipynb", cells)
        alice = person(lab, "alice")
        tab = alice.open("hog.ipynb")
        panel = Panel(tab).open()
        offers = panel.unfold("GPUs to use or book")
        expect(offers.get_by_role("listitem", name="T4")).to_contain_text("15 GiB GPU memory")
        expect(offers.get_by_role("listitem", name="T4")).to_contain_text("256 MiB RAM, 1 core")
        expect(offers.get_by_role("listitem", name="V100")).to_contain_text("1 GiB RAM")
        panel.both_looks("offers-with-room")
        for number in (1, 2):
            tab.run_cell(number)
        tab.wait_for_output(2, "there")
        tab.run_cell(3)
        ended = eventually("the lease is settled", lambda: closed(lab), within_seconds=60)
        assert "256 MiB of main memory (RAM)" in ended["end_message"]
        assert ended["roomier"]["model"] == "V100"
        notice = panel.told("it needed more than its 256 MiB of main memory (RAM)")
        tab.wait_for_output(3, "`%gpu on V100` has more room: 1 GiB of RAM, 2.50 credits an hour")
        tab.errors.clear()  # JupyterLab tells of a dead kernel on the console as well
        panel.answer("Ok")  # JupyterLab's own word that the kernel restarts
        tab.wait_for_kernel()
        tab.run_cell(4)
        tab.wait_for_output(4, "256 MiB of main memory (RAM)")
        panel.both_looks("out-of-memory")
        notice.get_by_role("button", name="Move to V100…").click()
        expect(panel.dialog.get_by_role("radio", name="V100 ")).to_be_checked(timeout=SLOW_MS)
        go = panel.dialog.get_by_role("button", name="Move the notebook")
        expect(go).not_to_have_attribute("aria-disabled", "true", timeout=SLOW_MS)
        go.click()
        expect(panel.dialog.get_by_text("The notebook is on V100 (simulated) now.")).to_be_visible(timeout=SLOW_MS)
        panel.answer("Close")
        lab.assert_books_agree()
        lab.end_everything()
        alice.leave()


@pytest.mark.needs("docker")
def test_a_move_of_too_much_is_warned_of_before_it_costs_anything(
    tmp_path: Path, person: Callable[..., Person]
) -> None:
    with two_places(tmp_path) as places, running_lab(tmp_path, **places) as lab:
        lab.write_notebook("large.ipynb", ["data = bytearray(250 * 10**6)\nprint('made')", "%gpu on T4 --for 30m"])
        alice = person(lab, "alice")
        tab = alice.open("large.ipynb")
        tab.run_cell(1)
        tab.wait_for_output(1, "made")
        panel = Panel(tab)
        warning = panel.dialog.get_by_role("alert").filter(has_text="main memory (RAM)")

        def warned() -> bool:
            """A notebook that is asked on a busy machine may not answer in time; then it is asked again."""
            panel.move_button("Move to a GPU").click()
            expect(panel.dialog.get_by_text(re.compile("would probably|in time"))).to_be_visible(timeout=SLOW_MS)
            if warning.count() == 0:
                panel.answer("Not now")
            return warning.count() > 0

        eventually("the notebook says what it holds", warned, within_seconds=120)
        expect(warning).to_contain_text("256 MiB of main memory (RAM) that a kernel may use on narrow")
        panel.both_looks("move-too-large")
        warning.get_by_role("button", name="Take V100 now (1 GiB RAM").click()
        expect(panel.dialog.get_by_role("radio", name="V100 ")).to_be_checked()
        expect(warning).to_have_count(0, timeout=SLOW_MS)
        panel.answer("Not now")
        tab.run_cell(2)
        tab.wait_for_output(2, "%gpu on V100")
        assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
        assert lab.query("SELECT count(*) FROM leases WHERE billed_from_at IS NOT NULL") == [(0,)]
        lab.assert_books_agree()
        alice.leave()


def closed(lab: Lab) -> dict[str, Any] | None:
    leases: list[dict[str, Any]] = lab.api("leases", user="alice")["items"]
    return next((each for each in leases if (each["state"], each["end_reason"]) == ("closed", "out_of_memory")), None)
