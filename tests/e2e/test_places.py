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


ENGINES = [pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in ("docker", "slurm")]


@pytest.fixture(params=["local", *ENGINES])
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
            place = {
                "kind": "slurm",
                "slurm_conf": str(cluster.conf),
                "listen_host": "127.0.0.1",
                "gres": {"T4": "gpu:t4:{count}"},
                "memory_mib": 500,
            }
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
