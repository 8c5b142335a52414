"""Where the GPUs are: the demo's tour is the same on each kind of place, and the panel says which one it is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from computehub_ext.demo.launch import HERE, TOUR
from computehub_ext.testing.docker_engine import docker_engine
from computehub_ext.testing.slurm_cluster import slurm_cluster
from tests.e2e.browser import Person, Tab
from tests.e2e.demo import ENDED_IN_SECONDS, running_demo, site
from tests.e2e.lab import ROOT, Lab, eventually, running_lab
from tests.e2e.panel import Panel

KERNEL_UID = 12345
POOL = {"name": "the far T4", "model": "T4", "devices": 2, "rate_credits_per_hour": 1, "simulated": True}
ENGINES = [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in ("docker", "slurm")]
ENVIRONMENT = (
    "print('secrets:', sorted(name for name in os.environ if 'TOKEN' in name or name.startswith('JUPYTERHUB')))"
)


@pytest.mark.parametrize("kind", ["local", *ENGINES])
def test_the_tour_runs_wherever_the_gpu_is_and_ctrl_c_ends_all_of_it(
    kind: str, tmp_path: Path, person: Callable[..., Person]
) -> None:
    """``make demo`` on each kind of place. Nothing differs but the file of settings, which is the example's own."""
    with site(kind, tmp_path) as at, running_demo(tmp_path, at) as (lab, process):
        tab = person(lab, "alice", width=1100, height=1800).open(TOUR)
        cells = tab.notebook.locator(".jp-Cell").count()
        tab.run_all()
        tab.wait_for_output(cells, "Welcome to ComputeHub")
        assert "charged" in tab.output(cells)
        lease = lab.closed_lease(lab.api("leases", user="alice")["items"][0]["id"])
        if kind == "local":
            tab.screenshot("tour")
        outputs = [tab.output(number) for number in range(1, cells + 1)]
        cards = [output for output in outputs if "This notebook is on" in output]
        assert len(cards) == 2, "one card for %gpu on and one for %gpu off, each drawn to its end"
        assert "came along" in cards[0]
        assert "(simulated)" in cards[0]
        assert "This notebook is on the CPU now" in cards[1]
        printed, pids = without_pids("\n".join(outputs))
        assert len(set(pids)) == 2, "the cells behind %gpu on and %gpu off ran in one and the same kernel"
        for line in without_pids(run_in_one_process())[0].splitlines():
            assert line in printed, "what it prints is otherwise than without a move"
        assert lab.place(TOUR)["place"] == "cpu"
        assert (lease["place"]["name"], lease["end_reason"]) == (at.place, "returned")
        assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
        lab.assert_books_agree()
        eventually("nothing runs there any more", lambda: nothing_open(lab) and not at.left())

        # The shell's words do the same; and what the tour does not print: in whose hands its cells are there.
        ran(tab, cells, "rows = [[1, 2], [3, 4]]\nalias = rows[0]\nprint('made')", "made")
        assert "This notebook is on" in in_a_shell(lab, "on", "--for", "30m", "--yes")
        there = f"alias.append(10)\nprint(rows, {at.is_there}, os.getcwd())"
        ran(tab, cells, there, f"[[1, 2, 10], [3, 4]] True {lab.work}")
        assert at.left() or kind == "local", "what is looked for in the end is found while it runs"
        ran(tab, cells, ENVIRONMENT, "secrets: ['COMPUTEHUB_KERNEL_TOKEN']")

        # Ctrl-C while a GPU is held: it is given back and paid to the second.
        tab.page.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(ENDED_IN_SECONDS) == 0
        eventually("every process of the demo has ended", lambda: not lab.processes(), within_seconds=15)
        assert lab.query("SELECT DISTINCT state FROM leases") == [("closed",)]
        assert lab.query("SELECT count(*) FROM holds WHERE state = 'open'") == [(0,)]
        assert nothing_open(lab)
        lab.assert_books_agree()
        eventually("nothing of it runs there", lambda: not at.left())


def run_in_one_process() -> str:
    """What the tour's cells print where nothing moves, and which the moves may not change."""
    cells = [each for each in json.loads((HERE / TOUR).read_text())["cells"] if each["cell_type"] == "code"]
    sources = ["".join(each["source"]) for each in cells]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec("\n".join(source for source in sources if not source.startswith("%")), {})
    return printed.getvalue()


def without_pids(text: str) -> tuple[str, list[str]]:
    process = re.compile(r"(?<=kernel process )\d+")
    return process.sub("PID", text), process.findall(text)


def ran(tab: Tab, number: int, source: str, said: str) -> None:
    """Write something else into a cell, run it, and wait for what it says."""
    tab.type_into(number, source)
    tab.run_cell(number)
    tab.wait_for_output(number, said)


def in_a_shell(lab: Lab, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "computehub_ext.cli", "gpu", *words, "--url", lab.url],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COMPUTEHUB_TOKEN": lab.users["alice"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings of a server whose GPUs are there."""
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
        else:
            cluster = stack.enter_context(slurm_cluster())
            place = {
                "kind": "slurm",
                "slurm_conf": str(cluster.conf),
                "listen_host": "127.0.0.1",
                "gres": {"T4": "gpu:t4:{count}"},
                "memory_mib": 500,
            }
        yield {"places": {"far": place}, "pools": [{**POOL, "place": "far"}], "simulated": "auto"}


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


@pytest.mark.parametrize("place", ENGINES, indirect=True)
def test_a_terminal_is_opened_from_the_card_and_ends_with_the_gpu(
    tmp_path: Path, person: Callable[..., Person], place: dict[str, Any]
) -> None:
    place["places"]["far"]["terminals"] = True
    with running_lab(tmp_path, **place) as lab:
        lab.write_notebook(
            "shell.ipynb", ["%gpu on T4 --for 30m --yes", "import os; print('as', os.getuid())", "%gpu off --yes"]
        )
        alice = person(lab, "alice")
        tab = alice.open("shell.ipynb")
        tab.run_cell(1)
        tab.run_cell(2)
        uid = tab.wait_for_output(2, "as ").split()[-1]
        panel = Panel(tab).open()
        card = panel.sidebar.get_by_role("article")
        card.get_by_role("button", name="Terminal").focus()
        tab.page.keyboard.press("Enter")
        shell = LeaseTerminal(tab)
        expect(tab.page.get_by_role("tab", name="T4 at far")).to_be_visible()
        expect(tab.page.locator(".jp-Terminal .xterm-helper-textarea")).to_be_focused()
        shell.type("echo $((6*7)) [$(id -u)] [$PWD]")
        shell.until(f"42 [{uid}] [{lab.work}]")
        panel.both_looks("panel-terminal")
        shell.type("sleep 98769")
        eventually("something runs in the tab", lambda: running("sleep", "98769"))
        tab.page.get_by_role("tab", name="T4 at far").locator(".jp-icon-hover, .lm-TabBar-tabCloseIcon").first.click()
        eventually("what ran in the tab that was closed has ended", lambda: not running("sleep", "98769"))
        panel.execute("computehub:open-terminal")
        shell = LeaseTerminal(tab)
        tab.page.get_by_role("tab", name="shell.ipynb").click()
        tab.run_cell(3)
        shell.until("this terminal ended with it.")
        expect(card).to_have_count(0)
        panel.execute("computehub:open-terminal")
        expect(tab.page.get_by_text("No GPU runs for you.").last).to_be_visible()
        alice.leave()


def running(*argv: str) -> bool:
    wanted = "\0".join((*argv, "")).encode()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{name}/cmdline").read_bytes() == wanted:
                return True
        except OSError:
            continue
    return False


class LeaseTerminal:
    """The terminal before the person; what it shows is drawn, so that it is read from its buffer."""

    def __init__(self, tab: Any) -> None:
        self.page = tab.page
        eventually("the terminal shows a prompt", lambda: self.shown().strip() != "")

    def shown(self) -> str:
        lines = (
            "() => { const widget = [...window.jupyterapp.shell.widgets('main')]"
            ".find(({ id }) => id.startsWith('computehub-terminal'));"
            " const buffer = widget?.content._term?.buffer?.active;"
            " return buffer ? [...Array(buffer.length).keys()].map((at) => {"
            " const line = buffer.getLine(at); const text = line.translateToString(true);"
            " return (line.isWrapped ? '' : '\\n') + text; }).join('') : ''; }"
        )
        return str(self.page.evaluate(lines))

    def type(self, line: str) -> None:
        self.page.locator(".jp-Terminal .xterm-helper-textarea").press_sequentially(line)
        self.page.keyboard.press("Enter")

    def until(self, text: str) -> None:
        eventually(f"the terminal shows {text!r}", lambda: text in self.shown())
