"""%gpu in a real IPython: messages without a traceback that fail the cell, the card, completion, the memory hint."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output
from traitlets.config import Config

from computehub_ext.kernel import hints, magic
from computehub_ext.kernel.completion import Lookup
from tests.unit.fake_api import KERNEL_ID, TOKEN, FakeApi, Refusal, lease, offer, serving, switch

pytestmark = pytest.mark.allow_network


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with serving(FakeApi()) as api:
        monkeypatch.setenv("COMPUTEHUB_URL", api.url)
        monkeypatch.setenv("COMPUTEHUB_KERNEL_TOKEN", TOKEN)
        monkeypatch.setenv("COMPUTEHUB_KERNEL_ID", KERNEL_ID)
        monkeypatch.setenv("COMPUTEHUB_TIME_ZONE", "Europe/Berlin")
        yield api


@pytest.fixture
def shell(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    magic.load(shell)
    yield shell
    atexit.unregister(shell.atexit_operations)
    shell.atexit_operations()
    InteractiveShell.clear_instance()


def cell(shell: InteractiveShell, code: str) -> tuple[Any, CapturedIO]:
    with capture_output() as captured:
        result = shell.run_cell(code)
    return result, captured


def text_of(captured: CapturedIO) -> str:
    shown = [output.data["text/plain"] for output in captured.outputs]
    return "\n".join([captured.stdout, captured.stderr, *shown])


def test_a_page_is_rich_in_a_notebook_and_plain_in_a_console(api: FakeApi, shell: InteractiveShell) -> None:
    result, captured = cell(shell, "%gpu offers")
    assert result.success
    (output,) = captured.outputs
    assert "T4 (simulated)" in output.data["text/plain"]
    assert "<table" in output.data["text/html"]


def test_help_is_printed_without_a_server(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPUTEHUB_URL", raising=False)
    result, captured = cell(shell, "%gpu --help")
    assert result.success
    assert "%gpu extend TIME" in captured.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%gpu onn", "did you mean `%gpu on`?"),
        ("%gpu on T4 --for 2", "--for needs a unit"),
        ("%gpu on T5", 'There is no GPU model "T5" here'),
        ("%gpu on A100 --for 2h", "%gpu on T4 --for 2h"),
    ],
)
def test_what_is_wrong_fails_the_cell_without_a_traceback(
    api: FakeApi, shell: InteractiveShell, line: str, said: str
) -> None:
    result, captured = cell(shell, f"{line}\nafterwards = 1")
    assert not result.success
    assert said in text_of(captured)
    assert "Traceback" not in text_of(captured)
    assert "File " not in text_of(captured)
    assert "afterwards" not in shell.user_ns


def test_outside_computehub_a_sentence_says_so(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMPUTEHUB_URL", "COMPUTEHUB_KERNEL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    result, captured = cell(shell, "%gpu")
    assert not result.success
    assert "was not started by a Jupyter server with ComputeHub" in text_of(captured)


def test_on_shows_preview_and_card(api: FakeApi, shell: InteractiveShell) -> None:
    cell(shell, "x = list(range(100))")
    result, captured = cell(shell, "%gpu on T4 --for 2h")
    assert result.success, text_of(captured)
    preview, card = captured.outputs
    assert "Comes along  1 name" in preview.data["text/plain"]
    assert "<table" in preview.data["text/html"]
    assert card.transient == {"display_id": "computehub-switch_1"}
    assert "The switch happens as soon as this cell is done" in card.data["text/plain"]
    assert 'role="progressbar"' in card.data["text/html"]


def test_a_switch_that_fails_at_once_fails_the_cell(api: FakeApi, shell: InteractiveShell) -> None:
    failed = switch(state="failed", error={"code": "conflict", "message": "Somebody else was quicker.", "details": {}})
    api.answers["POST", "switches"] = lambda asked: failed
    result, captured = cell(shell, "%gpu on T4")
    assert not result.success
    assert "Somebody else was quicker." in text_of(captured)


def test_a_question_that_nobody_can_answer_says_what_to_add(
    api: FakeApi, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(prompt: str = "") -> str:
        raise StdinNotImplementedError("raw_input was called, but this frontend does not support input requests.")

    monkeypatch.setattr("builtins.input", cannot)
    cell(shell, "generator = (n for n in [1])")
    result, captured = cell(shell, "%gpu on T4")
    assert not result.success
    assert "Add --yes" in text_of(captured)
    assert "generator" in text_of(captured)
    assert not api.sent("POST", "switches")


@pytest.mark.parametrize(("answer", "switched"), [("y", True), ("yes", True), ("", False), ("n", False)])
def test_the_question_is_answered(
    api: FakeApi, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, answer: str, switched: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or answer)
    cell(shell, "generator = (n for n in [1])")
    result, _ = cell(shell, "%gpu on T4")
    assert result.success is switched
    assert asked == ["Switch and leave 1 name behind? [y/N] "]
    assert bool(api.sent("POST", "switches")) is switched


def test_an_interrupted_question_switches_nothing(
    api: FakeApi, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(prompt: str = "") -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    cell(shell, "generator = (n for n in [1])")
    result, captured = cell(shell, "%gpu on T4")
    assert not result.success
    assert "you interrupted the question" in text_of(captured)


def test_keep_names_what_does_not_exist(api: FakeApi, shell: InteractiveShell) -> None:
    result, captured = cell(shell, "%gpu on T4 --keep no_such_name")
    assert not result.success
    assert "no_such_name" in text_of(captured)
    assert "Traceback" not in text_of(captured)


def test_variables_of_the_cell_can_be_used_in_the_line(api: FakeApi, shell: InteractiveShell) -> None:
    cell(shell, "hours = 3")
    result, _ = cell(shell, "%gpu on T4 --for {hours}h")
    assert result.success
    assert api.sent("POST", "switches")[0].body["duration_seconds"] == 3 * 3600


def test_loading_leaves_no_name_and_can_be_repeated(shell: InteractiveShell) -> None:
    before = set(shell.user_ns)
    magic.load(shell)
    magic.load(shell)
    assert set(shell.user_ns) == before
    hooks = [each for each in shell.events.callbacks["post_run_cell"] if getattr(each, "computehub", False)]
    assert len(hooks) == 1
    matchers = [each for each in shell.Completer.custom_matchers if each.matcher_identifier == magic.MATCHER]
    assert len(matchers) == 1


def test_loading_outside_ipython_does_nothing() -> None:
    InteractiveShell.clear_instance()
    magic.load()


def test_importing_the_magic_pulls_in_nothing_slow() -> None:
    import subprocess
    import sys

    code = (
        "import sys; before = set(sys.modules); import computehub_ext.kernel.magic as m; "
        "print(sorted(n for n in ('urllib.request', 'http.client', 'ssl', 'argparse', 'IPython', 'zoneinfo') "
        "if n in sys.modules and n not in before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- completion -------------------------------------------------------------------------------------------------------


def complete(shell: InteractiveShell, line: str) -> list[str]:
    """As ipykernel asks for it."""
    with provisionalcompleter():
        return [each.text for each in rectify_completions(line, shell.Completer.completions(line, len(line)))]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("%gpu exte", ["extend"]),
        ("%gpu on T", ["T4"]),
        ("%gpu on a10", ["A100"]),
        ("%gpu on --max", ["--max-price"]),
        ("x = 1\n  %gpu exte", ["extend"]),
        ("%gpu on --keep=al", ["all"]),
    ],
)
def test_tab_completes(api: FakeApi, shell: InteractiveShell, line: str, found: list[str]) -> None:
    assert complete(shell, line) == found


def test_tab_completes_names_of_variables(api: FakeApi, shell: InteractiveShell) -> None:
    cell(shell, "weights = weather = 1")
    assert complete(shell, "%gpu on --keep wea") == ["weather"]


def test_tab_does_not_wait_for_a_slow_server() -> None:
    release = threading.Event()
    lookup = Lookup(lambda kind: ["T4" if release.wait(10) else "never"], wait_seconds=0.05)
    begun = time.monotonic()
    assert lookup("models") == []
    assert time.monotonic() - begun < 0.5
    release.set()
    deadline = time.monotonic() + 5
    while lookup("models") != ["T4"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lookup("models") == ["T4"]


def test_a_failing_lookup_is_silent_and_asked_again_only_later(api: FakeApi, shell: InteractiveShell) -> None:
    def refuse(asked: object) -> None:
        raise Refusal(500, "internal", "no")

    api.answers["GET", "offers"] = refuse
    assert "T4" not in complete(shell, "%gpu on T")
    complete(shell, "%gpu on T")
    assert len(api.sent("GET", "offers")) == 1


def test_models_are_asked_for_once(api: FakeApi, shell: InteractiveShell) -> None:
    for _ in range(3):
        complete(shell, "%gpu on T")
    assert len(api.sent("GET", "offers")) == 1


# --- memory -----------------------------------------------------------------------------------------------------------


def made_up(name: str, module: str, base: type[Exception] = RuntimeError) -> type[Exception]:
    return type(name, (base,), {"__module__": module})


@pytest.mark.parametrize(
    "error",
    [
        made_up("OutOfMemoryError", "torch")("CUDA out of memory. Tried to allocate 20.00 GiB"),
        made_up("OutOfMemoryError", "torch.cuda")("x"),
        made_up("OutOfMemoryError", "cupy.cuda.memory", MemoryError)("Out of memory allocating 8 bytes"),
        made_up("ResourceExhaustedError", "tensorflow.python.framework.errors_impl", Exception)("OOM when allocating"),
        RuntimeError("CUDA error: out of memory: CUDA out of memory."),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        made_up("XlaRuntimeError", "jaxlib.xla_extension")("RESOURCE_EXHAUSTED: Out of memory while trying"),
    ],
)
def test_gpu_memory_errors_are_known(error: Exception) -> None:
    assert hints.is_gpu_memory_error(error)
    wrapper = ValueError("training failed")
    wrapper.__cause__ = error
    assert hints.is_gpu_memory_error(wrapper)


@pytest.mark.parametrize("error", [None, MemoryError("host"), RuntimeError("other"), ValueError("CUDA out of memory")])
def test_other_errors_are_left_alone(error: Exception | None) -> None:
    assert not hints.is_gpu_memory_error(error)


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__context__, second.__context__ = second, first
    assert not hints.is_gpu_memory_error(first)


def test_a_cell_that_died_of_gpu_memory_gets_advice(shell: InteractiveShell) -> None:
    result, captured = cell(shell, "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')")
    assert not result.success
    assert "The GPU's memory was full" in text_of(captured)
    assert "%gpu offers" in text_of(captured)
    _, captured = cell(shell, "1 / 0")
    assert "memory" not in text_of(captured)


def test_gpus_with_more_memory_are_offered_to_a_cell_that_died_of_it(
    api: FakeApi, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.lease = lease()
    api.offers = [
        offer("T4", 1, memory=16),
        offer("A100", 4, memory=80),
        offer("H100", 6, free=0, memory=80),
        offer("V100", 2, memory=16),
        offer("B200", 9, memory=180),
    ]
    _, captured = cell(shell, "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')")
    said = text_of(captured)
    assert "`%gpu off` comes before" in said
    assert said.index("%gpu on A100") < said.index("%gpu on B200")
    assert "80 GiB of GPU memory, 4.00 credits an hour, simulated, free now" in said
    assert "V100" not in said
    assert "H100" not in said
    monkeypatch.delenv("COMPUTEHUB_URL")
    _, captured = cell(shell, "raise RuntimeError('CUDA out of memory. Tried to allocate 2 GiB')")
    assert "%gpu offers" in text_of(captured), "without a server it says where to look"


def test_the_largest_arrays_are_named() -> None:
    def tensor(size: int) -> Any:
        kind = type("Tensor", (), {"__module__": "torch", "is_cuda": True})
        value = kind()
        value.element_size = lambda: 4
        value.nelement = lambda: size // 4
        return value

    class Liar:
        """Raises from whatever is looked at."""

        __module__ = "torch"

        @property
        def is_cuda(self) -> bool:
            raise RuntimeError

    namespace = {"small": tensor(4), "big": tensor(4_000_000), "_hidden": tensor(8), "n": 1, "liar": Liar()}
    assert hints.largest_on_gpu(namespace) == [("big", 4_000_000), ("small", 4)]
    said = hints.advice(namespace).plain()
    assert "big     4.0 MB" in said


def test_an_older_ipython_completes_by_its_hook(api: FakeApi) -> None:
    class Older:
        Completer = object()
        events = SimpleNamespace(callbacks={}, register=lambda *_: None)
        user_ns: dict[str, object] = {}  # noqa: RUF012
        strdispatchers = {"complete_command": SimpleNamespace(strs={"%gpu": "the one before"})}  # noqa: RUF012

        def register_magic_function(self, *_: object) -> None:
            """As IPython's."""

        def set_hook(self, name: str, hook: Any, str_key: str) -> None:
            self.hook = (name, hook, str_key)

    older = Older()
    magic.load(older)
    name, hook, str_key = older.hook
    assert (name, str_key) == ("complete_command", "%gpu")
    assert older.strdispatchers["complete_command"].strs == {}
    event = SimpleNamespace(text_until_cursor="%gpu ex")
    assert hook(event) == hook(older, event) == ["extend"]
    assert hook(SimpleNamespace(text_until_cursor="%gpux ex")) == []
