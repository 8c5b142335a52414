"""%gpu on and %gpu off: the preview, the question, the approval, the refusals with what would fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from computehub_ext.kernel import commands, moving
from computehub_ext.kernel.arguments import split
from computehub_ext.kernel.problems import Declined, GpuProblem
from tests.unit.desks import NOTHING_LOST, ONE_LOST, RecordingDesk
from tests.unit.fake_api import KERNEL_ID, Asked, FakeApi, M, Refusal, booking, lease, offer, serving, switch

pytestmark = pytest.mark.allow_network


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with serving(FakeApi()) as api:
        yield api


@pytest.fixture
def desk(api: FakeApi) -> RecordingDesk:
    return RecordingDesk(api)


def run(desk: RecordingDesk, line: str) -> str:
    desk.pages.clear()
    commands.run(split(line), desk)
    return desk.said


def refused(desk: RecordingDesk, line: str, kind: type[GpuProblem] = GpuProblem) -> str:
    with pytest.raises(kind) as caught:
        run(desk, line)
    return "\n".join(caught.value.lines())


def test_on_shows_price_and_load_and_asks_nothing_when_nothing_is_lost(api: FakeApi, desk: RecordingDesk) -> None:
    assert run(desk, "on T4 --for 2h").splitlines() == [
        "T4 (simulated) for this notebook",
        "  Price        1.00 credits an hour, charged by the second",
        "  At most      2.00 credits of 10.00 available, until Mon 2 Mar 2026, 12:00 CET (11:00 UTC)",
        "  Comes along  2 names, 12.3 MB, about 0.1 s",
        "  Given back   when no cell has run for 20 min, the administrator's default",
    ]
    assert desk.questions == []
    asked = api.sent("POST", "switches")[0]
    assert asked.key
    assert asked.body == {
        "kernel_id": KERNEL_ID,
        "target": "gpu",
        "keep": "all",
        "strict": False,
        "accept_loss": False,
        "accept_problems": False,
        "accept_failures": False,
        "model": "T4",
        "count": 1,
        "duration_seconds": 7200,
        "max_rate_microcredits_per_hour": M,
    }
    assert desk.begun_with[0]["id"] == "switch_1"


def test_without_a_model_the_server_chooses_within_the_cap(api: FakeApi, desk: RecordingDesk) -> None:
    run(desk, "on --max-price 1.5")
    assert api.sent("POST", "quotes")[0].body == {"count": 1, "max_rate_microcredits_per_hour": 1_500_000}
    assert api.sent("POST", "switches")[0].body["max_rate_microcredits_per_hour"] == 1_500_000


def test_all_options_are_sent(api: FakeApi, desk: RecordingDesk) -> None:
    run(desk, "on T4 --keep model,data --idle 10m --count 2 --yes")
    body = api.sent("POST", "switches")[0].body
    assert (body["keep"], body["idle_timeout_seconds"], body["count"]) == (["model", "data"], 600, 2)
    assert body["accept_loss"] is True
    assert desk.kept == [["model", "data"]]


def test_what_is_lost_is_named_and_asked_about(api: FakeApi, desk: RecordingDesk) -> None:
    desk.previewed = ONE_LOST
    said = run(desk, "on T4")
    assert "file  TextIOWrapper  an open file stays here" in said
    assert desk.questions == ["Switch and leave 1 name behind?"]
    assert api.sent("POST", "switches")[0].body["accept_loss"] is True


def test_a_no_changes_nothing(api: FakeApi, desk: RecordingDesk) -> None:
    desk.previewed, desk.answer = ONE_LOST, False
    assert "nothing was charged" in refused(desk, "on T4", Declined)
    assert not api.sent("POST", "switches")


def test_yes_answers_in_advance(api: FakeApi, desk: RecordingDesk) -> None:
    desk.previewed = ONE_LOST
    assert "an open file stays here" in run(desk, "on T4 --yes")
    assert desk.questions == []


def test_strict_refuses(api: FakeApi, desk: RecordingDesk) -> None:
    desk.previewed = ONE_LOST
    assert "nothing may stay behind, and this would: file" in refused(desk, "on T4 --strict")
    assert not api.sent("POST", "switches")


def test_problems_of_the_place_are_told_and_asked_about(api: FakeApi, desk: RecordingDesk) -> None:
    desk.previewed = {**NOTHING_LOST, "problems": [{"kind": "package", "message": "torch is not installed there."}]}
    assert "Warning: torch is not installed there." in run(desk, "on T4")
    assert desk.questions == ["Switch and go on all the same?"]


def test_nothing_free_gives_the_earliest_slot_and_the_next_best_model(api: FakeApi, desk: RecordingDesk) -> None:
    assert refused(desk, "on A100 --for 2h").splitlines() == [
        "No A100 is free for the next 2 h.",
        "",
        "Earliest with A100:",
        '  %gpu book A100 "2026-03-02T12:30+01:00" --for 2h  from Mon 2 Mar 2026, 12:30 CET (11:30 UTC)',
        "",
        "Another model:",
        "  %gpu on T4 --for 2h  2.00 credits, simulated, free now",
    ]
    assert not api.sent("POST", "switches")


def test_the_commands_offered_can_be_given_as_they_stand(api: FakeApi, desk: RecordingDesk) -> None:
    for line in refused(desk, "on A100 --for 2h").splitlines():
        if line.startswith("  %gpu "):
            run(desk, line.strip()[len("%gpu ") :].split("  ")[0])
    assert len(api.sent("POST", "bookings")) == len(api.sent("POST", "switches")) == 1


def test_a_price_above_the_cap_is_refused_with_what_would_fit(api: FakeApi, desk: RecordingDesk) -> None:
    api.offers = [offer("T4", 1), offer("L4", 1.2, free=0), offer("A100", 4)]
    assert refused(desk, "on A100 --max-price 1.5 --for 1h").splitlines() == [
        "A100 costs 4.00 credits an hour, more than --max-price 1.50.",
        "",
        "What would fit:",
        "  %gpu on T4 --for 1h                  1.00 credits an hour",
        "  %gpu on L4 --for 1h                  1.20 credits an hour, not free now",
        "  %gpu on A100 --max-price 4 --for 1h  to pay its price",
    ]


def test_too_little_money_says_for_how_long_it_is_enough(api: FakeApi, desk: RecordingDesk) -> None:
    api.me["balance"]["available_microcredits"] = 1_500_000
    said = refused(desk, "on T4 --for 2h")
    assert said.startswith("T4 (simulated) for 2 h needs 2.00 credits and you have 1.50.")
    assert "%gpu on T4 --for 1h30m" in said


def test_without_a_length_the_money_decides(api: FakeApi, desk: RecordingDesk) -> None:
    api.me["balance"]["available_microcredits"] = 1_500_000
    assert "At most      1.50 credits of 1.50 available" in run(desk, "on T4")
    assert api.sent("POST", "switches")[0].body["duration_seconds"] == 5400


def test_no_money_at_all(api: FakeApi, desk: RecordingDesk) -> None:
    api.me["balance"]["available_microcredits"] = 0
    assert "needs 2.00 credits and you have 0.00" in refused(desk, "on T4")


def test_an_unknown_model_is_answered_by_the_server(desk: RecordingDesk) -> None:
    assert refused(desk, "on T5") == 'There is no GPU model "T5" here; did you mean T4?'


def test_on_the_gpu_already(api: FakeApi, desk: RecordingDesk) -> None:
    api.lease = lease()
    assert run(desk, "on").startswith("This notebook is on T4 (simulated) already")
    assert run(desk, "on t4 --for 3h").endswith("`%gpu extend 1h` keeps the GPU for longer.")
    assert "`%gpu off` first, then `%gpu on V100`" in refused(desk, "on V100")
    assert "`%gpu on T4 --count 2`" in refused(desk, "on --count 2")
    assert not api.sent("POST", "switches")


def test_while_it_moves_no_second_switch_begins(api: FakeApi, desk: RecordingDesk) -> None:
    api.switch = switch(state="capturing")
    said = refused(desk, "on T4")
    assert "is moving to a GPU already" in said
    assert "%gpu cancel switch_1" in said
    assert "is moving to a GPU already" in refused(desk, "off")


def test_a_booking_is_used_by_name(api: FakeApi, desk: RecordingDesk) -> None:
    api.bookings = [booking()]
    run(desk, "on --booking 2vabcd")
    body = api.sent("POST", "switches")[0].body
    assert body["booking_id"] == "booking_01jd2vabcd"
    assert "model" not in body
    assert "duration_seconds" not in body
    api.switch = None
    assert "leave the model out" in refused(desk, "on V100 --booking 2vabcd")


def test_a_booking_that_runs_now_is_used_before_a_new_one_is_made(api: FakeApi, desk: RecordingDesk) -> None:
    api.bookings = [booking(starts_at="2020-01-01T00:00:00Z", ends_at="2120-01-01T00:00:00Z")]
    assert "2.00 credits (held by the booking already)" in run(desk, "on --for 1h")
    assert api.sent("POST", "switches")[0].body["booking_id"] == "booking_01jd2vabcd"
    assert not api.sent("POST", "quotes")


@pytest.mark.parametrize("line", ["on V100", "on --count 2", "on --max-price 0.5"])
def test_a_booking_that_does_not_fit_is_left_alone(api: FakeApi, desk: RecordingDesk, line: str) -> None:
    api.offers = [offer("V100", 0.5, count=2, free=2)]
    api.bookings = [booking(starts_at="2020-01-01T00:00:00Z", ends_at="2120-01-01T00:00:00Z")]
    run(desk, line)
    assert "booking_id" not in api.sent("POST", "switches")[0].body


# --- approval ---------------------------------------------------------------------------------------------------------


def test_the_preview_says_which_idle_time_holds(api: FakeApi, desk: RecordingDesk) -> None:
    api.me["defaults"]["idle_timeout_seconds"] = 900
    assert "Given back   when no cell has run for 15 min, your default" in run(desk, "on T4")
    assert "idle_timeout_seconds" not in api.sent("POST", "switches")[0].body, "the control plane knows it"
    api.switch = None
    said = run(desk, "on T4 --idle 10m")
    assert "Given back   when no cell has run for 10 min" in said
    assert "your default" not in said
    assert api.sent("POST", "switches")[1].body["idle_timeout_seconds"] == 600


def test_a_default_of_what_it_may_cost_holds_unless_the_command_says_more(api: FakeApi, desk: RecordingDesk) -> None:
    api.offers = [offer("A100", 4, count=1, free=1), offer("T4", 1, count=2, free=2)]
    api.me["defaults"]["max_rate_microcredits_per_hour"] = 2 * M
    said = refused(desk, "on A100")
    assert "A100 costs 4.00 credits an hour, more than your default of at most 2.00." in said
    assert "%gpu on A100 --max-price 4" in said
    assert not api.sent("POST", "switches")
    run(desk, "on A100 --max-price 4 --for 1h")
    assert api.sent("POST", "switches")[0].body["max_rate_microcredits_per_hour"] == 4 * M
    api.switch = None
    run(desk, "on T4")
    assert api.sent("POST", "switches")[1].body["max_rate_microcredits_per_hour"] == M, "no more than was shown"
    api.switch = None
    desk.pages.clear()
    with pytest.raises(GpuProblem):  # the cheapest that the fake finds is its first, and the limit went along
        run(desk, "on")
    assert api.sent("POST", "quotes")[-1].body["max_rate_microcredits_per_hour"] == 2 * M


def above_the_allowance(api: FakeApi) -> None:
    def ask_the_browser(asked: Asked) -> Any:
        if asked.body.get("approval_id") == "appr_1":
            return switch()
        raise Refusal(403, "needs_approval", "Approve it in your browser.", approval_id="appr_1",
                      needed_microcredits=8 * M, left_microcredits=5 * M)  # fmt: skip

    api.approvals["appr_1"] = {"id": "appr_1", "state": "pending"}
    api.answers["POST", "switches"] = ask_the_browser


def test_above_the_allowance_the_browser_is_asked_and_the_cell_goes_on(api: FakeApi, desk: RecordingDesk) -> None:
    above_the_allowance(api)
    desk.on_wait = lambda: api.approvals["appr_1"].update(state="approved")
    said = run(desk, "on T4")
    assert "It needs 8.00 credits, and 5.00 of the allowance are left." in said
    assert f"Approve or decline it in ComputeHub: {api.url.replace('api/computehub/v1/', 'computehub/')}" in said
    assert 'href="/user/ada/computehub/"' in desk.pages[-2].html()
    assert desk.pages[-1].title == "Approved: going on"
    assert [asked.body.get("approval_id") for asked in api.sent("POST", "switches")] == [None, "appr_1"]
    assert len(desk.begun_with) == 1


@pytest.mark.parametrize("state", ["declined", "expired"])
def test_a_declined_approval_ends_the_cell(api: FakeApi, desk: RecordingDesk, state: str) -> None:
    above_the_allowance(api)
    desk.on_wait = lambda: api.approvals["appr_1"].update(state=state)
    assert f"the approval was {state}" in refused(desk, "on T4", Declined)


def test_nobody_answers(api: FakeApi, desk: RecordingDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    above_the_allowance(api)
    monkeypatch.setattr(moving, "APPROVAL_WAIT_SECONDS", 0.05)
    assert "Nobody approved it" in refused(desk, "on T4")


def test_the_wait_can_be_interrupted(api: FakeApi, desk: RecordingDesk) -> None:
    above_the_allowance(api)

    def interrupt() -> None:
        raise KeyboardInterrupt

    desk.on_wait = interrupt
    assert "you stopped waiting" in refused(desk, "on T4", Declined)


def test_a_booking_may_need_approval_too(api: FakeApi, desk: RecordingDesk) -> None:
    above_the_allowance(api)
    api.answers["POST", "bookings"] = lambda asked: (
        booking() if asked.body.get("approval_id") else api.answers["POST", "switches"](asked)
    )
    desk.on_wait = lambda: api.approvals["appr_1"].update(state="approved")
    assert "Booked: T4" in run(desk, "book T4 14:00")


# --- what the server finds ------------------------------------------------------------------------------------------


def test_what_only_the_server_can_find_is_asked_about_and_accepted(api: FakeApi, desk: RecordingDesk) -> None:
    desk.previewed = None  # as in a shell
    answers = [
        switch(
            state="failed",
            error={
                "code": "loss_not_accepted",
                "message": "1 name would be lost.",
                "details": {"lost": ONE_LOST["lost"]},
            },
        ),
        switch(state="done"),
    ]
    api.answers["POST", "switches"] = lambda asked: answers.pop(0)
    assert "an open file stays here" in run(desk, "on T4")
    assert desk.questions == ["Switch and leave 1 name behind?"]
    assert [asked.body["accept_loss"] for asked in api.sent("POST", "switches")] == [False, True]
    assert len({asked.key for asked in api.sent("POST", "switches")}) == 2


def test_a_yes_to_what_was_shown_is_none_to_what_was_not(api: FakeApi, desk: RecordingDesk) -> None:
    desk.previewed = None
    found: list[dict[str, Any]] = [
        {"lost": ONE_LOST["lost"], "problems": []},
        {"lost": ONE_LOST["lost"], "problems": [{"kind": "package", "message": "The package torch is not there."}]},
        {"lost": [{"name": "frame", "reason": "not here"}], "problems": [], "only_there": True},
    ]
    errors = [{"code": "loss_not_accepted", "message": "", "details": each} for each in found]
    answers = [*[switch(state="failed", error=error) for error in errors], switch(state="done")]
    api.answers["POST", "switches"] = lambda asked: answers.pop(0)
    run(desk, "on T4")
    words = ("accept_loss", "accept_problems", "accept_failures")
    assert [[asked.body[word] for word in words] for asked in api.sent("POST", "switches")] == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert len(desk.questions) == 3


def test_with_yes_nothing_is_asked_and_nothing_refused(api: FakeApi, desk: RecordingDesk) -> None:
    run(desk, "on T4 --yes")
    body = api.sent("POST", "switches")[0].body
    assert [body[word] for word in ("accept_loss", "accept_problems", "accept_failures")] == [True, True, True]


def test_a_failed_switch_fails_the_command(api: FakeApi, desk: RecordingDesk) -> None:
    failed = switch(
        state="failed", error={"code": "backend_error", "message": "The kernel did not start.", "details": {}}
    )
    api.answers["POST", "switches"] = lambda asked: failed
    assert "The kernel did not start." in refused(desk, "on T4")


# --- back -------------------------------------------------------------------------------------------------------------


def test_off_names_what_cannot_come_back(api: FakeApi, desk: RecordingDesk) -> None:
    api.lease = lease()
    desk.previewed = ONE_LOST
    assert run(desk, "off").splitlines() == [
        "Back to the CPU",
        "  Comes along  2 names, 12.3 MB, about 0.1 s",
        "",
        "Cannot come back (1 name)",
        "  Name  Type           Why",
        "  ----  -------------  -----------------------",
        "  file  TextIOWrapper  an open file stays here",
    ]
    assert len(desk.questions) == 1
    assert api.sent("POST", "switches")[0].body == {
        "kernel_id": KERNEL_ID,
        "target": "cpu",
        "keep": "all",
        "strict": False,
        "accept_loss": True,
        "accept_problems": False,
        "accept_failures": False,
    }


def test_off_on_the_cpu_is_no_failure(api: FakeApi, desk: RecordingDesk) -> None:
    assert "on the CPU already" in run(desk, "off")
    assert not api.sent("POST", "switches")
