"""The shell command: finding server and notebook, following a switch, Ctrl-C, and its exit statuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from computehub_ext.cli import gpu, main, servers
from computehub_ext.cli.servers import Server, base_of
from tests.unit.fake_api import API_PATH, KERNEL_ID, TOKEN, Asked, FakeApi, Refusal, lease, serving, switch

pytestmark = pytest.mark.allow_network

LOST = [{"name": "file", "type": "TextIOWrapper", "reason": "an open file stays here"}]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with serving(FakeApi()) as api:
        for name in ("COMPUTEHUB_URL", "COMPUTEHUB_KERNEL_TOKEN", "COMPUTEHUB_KERNEL_ID", "JUPYTER_SERVER_URL",
                     "COMPUTEHUB_TOKEN", "JUPYTERHUB_API_TOKEN"):  # fmt: skip
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("COMPUTEHUB_TIME_ZONE", "Europe/Berlin")
        monkeypatch.setattr(gpu, "POLL_SECONDS", 0.01)
        running(monkeypatch, Server(api.base, TOKEN))
        notebooks(api, "work/train.ipynb")
        yield api


def running(monkeypatch: pytest.MonkeyPatch, *found: Server) -> None:
    monkeypatch.setattr(servers, "running_servers", lambda: list(found))


def notebooks(api: FakeApi, *paths: str) -> None:
    """Open these, the first on the kernel that the fake knows."""
    api.sessions = [
        {
            "path": path,
            "kernel": {"id": KERNEL_ID if not n else f"other-{n}", "name": "python3", "execution_state": "idle"},
        }
        for n, path in enumerate(paths)
    ]


def steps(api: FakeApi, *states: dict[str, Any]) -> None:
    """What the switch's resource says, one look after the other."""
    left = list(states)
    api.answers["GET", "switches/switch_1"] = lambda asked: left.pop(0) if len(left) > 1 else left[0]


def test_balance(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "balance"]) == 0
    assert "Available            10.00 credits" in capsys.readouterr().out


def test_on_follows_the_switch_to_its_end(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    done = switch(state="done", result={"restored": ["x"], "lost": [], "bytes": 28, "seconds": 0.3})
    steps(api, switch(state="starting", step_message="Starting the kernel", progress=0.3), done)
    assert main(["gpu", "on", "T4", "--for", "2h"]) == 0
    said = capsys.readouterr().out
    assert "[......" in said
    assert "Starting the kernel" in said
    assert "This notebook is on a T4 (simulated) now" in said
    assert "computehub gpu off" in said
    assert "%gpu" not in said
    assert api.sent("POST", "switches")[0].body["kernel_id"] == KERNEL_ID


def test_what_would_be_lost_is_asked_about_and_the_switch_repeated(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = {"code": "loss_not_accepted", "message": "1 name would be lost.", "details": {"lost": LOST}}
    steps(api, switch(state="failed", error=error), switch(state="done", result=None))
    monkeypatch.setattr(gpu.ShellDesk, "ask", lambda self, question: True)
    assert main(["gpu", "on", "T4"]) == 0
    assert "file  TextIOWrapper  an open file stays here" in capsys.readouterr().out
    assert [asked.body["accept_loss"] for asked in api.sent("POST", "switches")] == [False, True]


def test_without_a_terminal_a_question_fails(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"code": "loss_not_accepted", "message": "1 name would be lost.", "details": {"lost": LOST}}
    steps(api, switch(state="failed", error=error))
    assert main(["gpu", "on", "T4"]) == 1
    assert "Add --yes" in capsys.readouterr().err


def test_a_failed_switch_is_exit_status_1(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    steps(api, switch(state="failed", error={"code": "backend_error", "message": "It did not start.", "details": {}}))
    assert main(["gpu", "on", "T4"]) == 1
    assert "It did not start." in capsys.readouterr().err


def interrupting(times: int) -> Callable[[Any, float], None]:
    left = [times]

    def wait(_self: Any, _seconds: float) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise KeyboardInterrupt

    return wait


def test_ctrl_c_cancels_the_switch(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu.ShellDesk, "wait", interrupting(1))
    assert main(["gpu", "on", "T4"]) == 1
    assert api.sent("POST", "switches/switch_1/cancel")
    captured = capsys.readouterr()
    assert "Cancelling" in captured.out
    assert "Cancelled: the notebook stays where it was" in captured.err


def test_ctrl_c_too_late_sees_it_done(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(asked: Asked) -> None:
        raise Refusal(409, "illegal_move", "It is swapping already.")

    api.answers["POST", "switches/switch_1/cancel"] = too_late
    steps(api, switch(state="done", result=None))
    monkeypatch.setattr(gpu.ShellDesk, "wait", interrupting(1))
    assert main(["gpu", "on", "T4"]) == 0
    assert "now" in capsys.readouterr().out


def test_a_second_ctrl_c_leaves_at_once(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.answers["POST", "switches/switch_1/cancel"] = lambda asked: switch(state="starting")
    monkeypatch.setattr(gpu.ShellDesk, "wait", interrupting(2))
    assert main(["gpu", "on", "T4"]) == 130


def test_a_server_that_pauses_is_waited_for(api: FakeApi) -> None:
    answers: list[Any] = [Refusal(502, "gateway", "lost")] * 2 + [switch(state="done", result=None)]

    def flaky(asked: Asked) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Refusal):
            raise answer
        return answer

    api.answers["GET", "switches/switch_1"] = flaky
    assert main(["gpu", "on", "T4"]) == 0


# --- which notebook -------------------------------------------------------------------------------------------------


def test_more_than_one_notebook_are_listed(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    notebooks(api, "work/train.ipynb", "RTC:b.ipynb")
    assert main(["gpu", "on", "T4"]) == 1
    said = capsys.readouterr().err
    assert "More than one notebook is open; say which with --notebook PATH" in said
    assert "  b.ipynb" in said


@pytest.mark.parametrize(
    "path", ["work/train.ipynb", "train.ipynb", "./work/train.ipynb", "/home/ada/work/train.ipynb"]
)
def test_a_notebook_is_named_as_one_knows_it(api: FakeApi, path: str) -> None:
    notebooks(api, "work/train.ipynb", "RTC:b.ipynb")
    steps(api, switch(state="done", result=None))
    assert main(["gpu", "on", "T4", "--notebook", path]) == 0
    assert api.sent("POST", "switches")[0].body["kernel_id"] == KERNEL_ID


def test_a_notebook_that_is_not_open(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--notebook=none.ipynb", "on"]) == 1
    assert "none.ipynb is not open there" in capsys.readouterr().err


def test_no_notebook_at_all(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    notebooks(api)
    assert main(["gpu", "on"]) == 1
    assert "No notebook is open." in capsys.readouterr().err
    assert main(["gpu", "book", "T4", "14:00"]) == 0  # needs none


def test_in_a_cell_it_speaks_for_its_own_kernel_and_does_not_wait_for_itself(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPUTEHUB_URL", api.url)
    monkeypatch.setenv("COMPUTEHUB_KERNEL_TOKEN", TOKEN)
    monkeypatch.setenv("COMPUTEHUB_KERNEL_ID", KERNEL_ID)
    assert main(["gpu", "on", "T4"]) == 0
    assert "as soon as this cell is done" in capsys.readouterr().out
    assert not api.sent("GET", "switches/switch_1")
    assert main(["gpu", "allowance", "100"]) == 1


# --- which server -----------------------------------------------------------------------------------------------------


def test_no_server(api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch)
    assert main(["gpu", "offers"]) == 1
    assert "No Jupyter server of yours is running" in capsys.readouterr().err


def test_of_several_servers_the_one_with_computehub_is_meant(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch, Server("http://127.0.0.1:9/", "x"), Server(api.base, TOKEN))
    assert main(["gpu", "offers"]) == 0


def test_several_servers_with_computehub_are_listed(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    running(monkeypatch, Server(api.base, TOKEN), Server(api.base + "?b", TOKEN))
    assert main(["gpu", "offers"]) == 1
    said = capsys.readouterr().err
    assert "say which with --url" in said
    assert api.base in said


def test_a_server_can_be_named(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    running(monkeypatch)
    assert main(["gpu", "offers", "--url", api.base + "lab?x=1", "--token", TOKEN]) == 0
    monkeypatch.setenv("COMPUTEHUB_TOKEN", TOKEN)
    assert main(["gpu", "--url", api.url, "offers"]) == 0


def test_a_wrong_token_says_where_to_give_the_right_one(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "offers", "--token", "wrong"]) == 1
    assert "Give yours with --token or in COMPUTEHUB_TOKEN" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "http://h:1/u/",
        "http://h:1/u",
        "http://h:1/u/lab?token=1",
        "http://h:1/u/api/computehub/v1/",
        "http://h:1/u/tree#a",
    ],
)
def test_any_of_a_servers_addresses_will_do(url: str) -> None:
    assert base_of(url) == "http://h:1/u/"


# --- words ------------------------------------------------------------------------------------------------------------


def test_wrong_words_are_exit_status_2(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "onn"]) == 2
    assert capsys.readouterr().err == '"onn" is not a word of computehub gpu; did you mean `computehub gpu on`?\n'
    assert main(["gpu", "offers", "--url"]) == 2


def test_help_needs_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--help"]) == 0
    said = capsys.readouterr().out
    assert "computehub gpu extend TIME" in said
    assert "--notebook PATH" in said


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().out
    for word in ("gpu", "demo", "grant", "verify", "migrate"):
        assert f"    {word}" in said


def test_off(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.lease = lease()
    steps(api, switch(target="cpu", state="done", result={"restored": ["x"], "lost": [], "bytes": 1, "seconds": 0.1}))
    assert main(["gpu", "off"]) == 0
    assert "This notebook is on the CPU now" in capsys.readouterr().out


def test_the_fake_serves_below_a_base_url() -> None:
    assert API_PATH.startswith("/user/")  # so that addresses are not right by luck
