"""A notebook's session moves between two real kernels, and a page that is open on it notices nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernels import Kernel, move

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client.*")


@pytest.fixture
def kernels(tmp_path: Path) -> Iterator[tuple[Kernel, Kernel]]:
    work = tmp_path / "work"
    work.mkdir()
    with Kernel(work) as source, Kernel(work) as target:
        yield source, target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "transfer"
    made.mkdir(mode=0o700)
    return made


def test_a_session_of_an_afternoon_moves_there_and_back(kernels: tuple[Kernel, Kernel], folder: Path) -> None:
    here, there = kernels
    here.run("%matplotlib inline\nimport numpy as np, pandas as pd, matplotlib.pyplot as plt\nimport random, os, sys")
    here.run("""
from __future__ import annotations
import dataclasses, enum, functools, collections, threading, logging
from IPython.display import display

class Kind(enum.Enum):
    TRAIN, TEST = "train", "test"

@dataclasses.dataclass
class Experiment:
    name: str
    kind: Kind
    scores: list[float] = dataclasses.field(default_factory=list)
    def best(self) -> float: return max(self.scores)

def evaluate(x):
    return x / scale

def accumulate():
    total = 0
    def add(x):
        nonlocal total
        total += x
        return total
    return add
add = accumulate(); add(5)
scale = 4
run = Experiment("first", Kind.TRAIN, [0.5, 0.75])
runs = {"best": run, "all": [run]}
data = np.arange(1_000_000.0); window = data[1000:2000]
frame = pd.DataFrame({"a": data[:100], "b": ["x"] * 100})
figure, axes = plt.subplots(); axes.plot([1, 2]); handle = display("shown", display_id=True)
guard = threading.Lock()
cache = {"model": [guard]}
words = collections.Counter("hello")
logger = logging.getLogger("mine")
__private = 1
""")
    here.run(
        "np.random.seed(1); random.seed(2); np.set_printoptions(precision=3); pd.set_option('display.max_rows', 7)"
    )
    here.run("plt.rcParams['figure.figsize'] = (3, 3); os.environ['MINE'] = '1'; sys.path.append('/somewhere/mine')")
    here.run("Ellipsis; 6 * 7")
    manifest, result = move(here, there, folder)

    assert {item["name"]: item["reason"] for item in manifest["lost"]} == {
        "guard": "a lock, which belongs to this process: make a new one there",
        "cache": "cache['model'][0] is a lock, which belongs to this process: make a new one there",
    }
    assert result["failed"] == []
    assert result["restored"][:3] == ["np", "pd", "plt"]
    assert {"numpy", "pandas", "matplotlib"} <= {module["name"] for module in manifest["modules"]}

    assert there.run("run.best(), evaluate(8), add(1), runs['best'] is runs['all'][0] is run, __private") == (
        "(0.75, 2.0, 6, True, 1)"
    )
    assert there.run("isinstance(run, Experiment), run.kind is Kind.TRAIN, type(run).__module__") == (
        "(True, True, '__main__')"
    )
    assert there.run("data[1000] = -1; window[0], np.shares_memory(data, window)") == "(np.float64(-1.0), True)"
    assert there.run("frame['a'].sum(), words['l'], logger is logging.getLogger('mine')") == (
        "(np.float64(4950.0), 2, True)"
    )
    assert (
        there.run("os.environ['MINE'], sys.path[-1], np.get_printoptions()['precision']")
        == "('1', '/somewhere/mine', 3)"
    )
    assert there.run("pd.get_option('display.max_rows'), plt.rcParams['figure.figsize']") == "(7, [3.0, 3.0])"
    assert there.run("axes.plot([3, 4]); figure").endswith("<Figure size 640x480 with 1 Axes>")
    # The numbering goes on, and what cells gave before is still there.
    assert there.run("Out[5], In[5]") == "(42, 'Ellipsis; 6 * 7')"
    assert manifest["execution_count"] == 6
    assert there.run("get_ipython().execution_count") == "15", "the number of the cell after this, the ninth"
    draw = "np.random.random(), random.random()"
    assert there.run(draw) == here.run(draw)
    failing = there.run("scale = 0; evaluate(1)")
    assert "return x / scale" in re.sub(r"\x1b\[[0-9;]*m", "", failing)

    _manifest, back = move(there, here, folder)
    assert back["failed"] == []
    assert here.run("run.best(), add(0), data[1000], window[0], isinstance(run, Experiment)") == (
        "(0.75, 6, np.float64(-1.0), np.float64(-1.0), True)"
    )


def test_widgets_in_the_open_page_stay_alive(kernels: tuple[Kernel, Kernel], folder: Path) -> None:
    here, there = kernels
    here.run("""
import ipywidgets as W
from IPython.display import display
heard = []
slider = W.IntSlider(value=3, description="n")
def on_change(change): heard.append(change["new"])
slider.observe(on_change, "value")
button = W.Button(description="go"); button.on_click(lambda b: heard.append(b.description))
text = W.IntText(); link = W.link((slider, "value"), (text, "value"))
box = W.VBox([slider, button]); out = W.Output()
class Counter(W.HBox):
    def __init__(self):
        self.count = 0
        self.plus = W.Button(description="+"); self.plus.on_click(self.up)
        super().__init__([self.plus])
    def up(self, _): self.count += 1
counter = Counter()
display(box, out, counter)
@W.interact(x=(0, 10))
def shown(x): print("x is", x)
""")
    ids = here.ask("{'slider': slider.model_id, 'button': button.model_id, 'plus': counter.plus.model_id}")
    nameless = here.ask(
        "[key for key, widget in __import__('sys').modules['ipywidgets.widgets.widget']._instances.items()"
        " if isinstance(widget, W.IntSlider) and widget is not slider]"
    )
    manifest, result = move(here, there, folder)
    assert manifest["lost"] == []
    assert result["failed"] == []
    comms = [message for message in there.published if message["msg_type"].startswith("comm")]
    assert comms == [], "nothing is said to the page while it is carried over"

    assert there.ask("[slider.model_id, slider.value, box.children[0] is slider]") == [ids["slider"], 3, True]
    answers = there.page_says(ids["slider"], {"method": "update", "state": {"value": 7}, "buffer_paths": []})
    assert there.ask("[slider.value, text.value, heard]") == [7, 7, [7]]
    linked = [m["content"]["data"]["state"] for m in answers if m["msg_type"] == "comm_msg"]
    assert {"value": 7} in linked
    there.page_says(ids["button"], {"method": "custom", "content": {"event": "click"}})
    there.page_says(ids["plus"], {"method": "custom", "content": {"event": "click"}})
    assert there.ask("[heard, counter.count]") == [[7, "go"], 1]

    # One that no name holds: made by interact, and alive in the page.
    answers = there.page_says(nameless[0], {"method": "update", "state": {"value": 9}, "buffer_paths": []})
    assert "x is 9\n" in [m["content"]["text"] for m in answers if m["msg_type"] == "stream"]

    # And from the kernel to the page.
    there.run("slider.value = 2")
    said = [m["content"] for m in there.published if m["msg_type"] == "comm_msg"]
    assert {"comm_id": ids["slider"], "data": {"method": "update", "state": {"value": 2}, "buffer_paths": []}} in said

    _manifest, back = move(there, here, folder)
    assert back["failed"] == []
    here.page_says(ids["slider"], {"method": "update", "state": {"value": 5}, "buffer_paths": []})
    assert here.ask("[slider.value, heard[-1]]") == [5, 5]


def test_folder_local_modules_and_scripts_come_along(
    kernels: tuple[Kernel, Kernel], folder: Path, tmp_path: Path
) -> None:
    here, there = kernels
    project = tmp_path / "project"
    (project / "lib").mkdir(parents=True)
    (project / "helpers.py").write_text("class Helper:\n    def help(self): return 'helped'\n")
    (project / "lib" / "more.py").write_text("value = 3\n")
    (project / "script.py").write_text("setting = 5\ndef from_script(): return setting\n")
    here.run(f"%cd {project}")
    here.run(
        "import sys; sys.path.insert(0, 'lib')\nimport helpers, more\nfrom helpers import Helper\nhelper = Helper()"
    )
    here.run("%run script.py")
    here.run("def from_script_too(): return from_script()")
    manifest, result = move(here, there, folder)
    assert result["failed"] == []
    assert manifest["cwd"] == str(project)
    assert there.run("helper.help(), type(helper) is helpers.Helper, more.value, from_script_too()") == (
        "('helped', True, 3, 5)"
    )
    assert there.run("import os; os.getcwd()") == repr(str(project))


def test_magics_and_callbacks_of_the_user_s_own_functions(kernels: tuple[Kernel, Kernel], folder: Path) -> None:
    here, there = kernels
    here.run("""
from IPython.core.magic import register_line_magic
import warnings; warnings.filterwarnings("ignore", "noise")
ran = []
@register_line_magic
def shout(line): return line.upper()
def after(result): ran.append(result.result)
get_ipython().events.register("post_run_cell", after)
""")
    _manifest, result = move(here, there, folder)
    assert result["failed"] == []
    assert there.run("%shout hello") == "'HELLO'"
    assert there.ask("ran[-1]") == "HELLO"
    assert there.run("warnings.warn('noise')") == ""
    assert "Warning" in there.run("warnings.warn('louder')")


def test_a_restore_that_fails_leaves_the_kernel_as_it_was(kernels: tuple[Kernel, Kernel], folder: Path) -> None:
    here, there = kernels
    here.run("""
import os, sys, ipywidgets as W
os.environ["MINE"] = "1"; sys.path.append("/mine"); os.chdir("/")
slider = W.IntSlider()
class Fussy:
    def __init__(self): self.inside = slider
    def __setstate__(self, state): raise ValueError("not here")
fussy = Fussy()
""")
    look = (
        "[sorted(name for name in globals() if not name.startswith('_')), __import__('os').getcwd(),"
        " __import__('os').environ.get('MINE'), '/mine' in __import__('sys').path]"
    )
    before = there.ask(look)
    _manifest, result = move(here, there, folder)
    assert (result["restored"], result["failed"]) == ([], [{"name": "fussy", "reason": "ValueError: not here"}])
    assert there.ask(look) == before
    closed = [message for message in there.published if message["msg_type"] == "comm_close"]
    assert closed == [], "the page's widgets still belong to the kernel that it had"
    assert here.ask("slider.value") == 0


def test_check_says_what_the_other_place_lacks(tmp_path: Path, kernels: tuple[Kernel, Kernel]) -> None:
    here, there = kernels
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "nowhere_else.py").write_text("__version__ = '1.2'\nclass Thing: pass\n")
    here.run(f"import sys; sys.path.append({str(gone)!r})\nimport nowhere_else, json\nthing = nowhere_else.Thing()")
    seen = here.ask("__import__('_computehub').preview(globals())")
    assert there.ask(f"__import__('_computehub').check({seen!r})") == []
    shutil.rmtree(gone)
    problems = there.ask(f"__import__('_computehub').check({ {**seen, 'cwd': '/no/such/folder'}!r})")
    assert problems == [
        {
            "kind": "folder",
            "message": "This notebook works in /no/such/folder, which does not exist there. "
            "Ask the administrator to add it to the mounts of the pool.",
        },
        {"kind": "package", "message": "The package nowhere_else 1.2 is not installed there."},
    ]
    assert there.ask("'nowhere_else' in __import__('sys').modules") is False


def test_a_wrong_ticket_and_changed_bytes_restore_nothing(kernels: tuple[Kernel, Kernel], folder: Path) -> None:
    here, there = kernels
    here.run("import numpy as np\nx = np.zeros(100_000)")
    manifest = here.ask(f"__import__('_computehub').offer(globals(), 'all', 'right', {str(folder)!r})")
    package = "__import__('_computehub')"
    with pytest.raises(AssertionError, match=r"half way|reset"):
        there.ask(f"{package}.fetch(globals(), {manifest!r}, 'wrong')")
    here.run("x[5] = 1")
    with pytest.raises(AssertionError, match="its hash differs"):
        there.ask(f"{package}.fetch(globals(), {manifest!r}, 'right')")
    assert there.ask("[name for name in ('x', 'np') if name in globals()]") == []
    assert there.ask("'numpy' in __import__('sys').modules") in (True, False)
    assert here.ask("len(__import__('_computehub.transfer', fromlist=['x'])._open_offers)") == 0
