"""What each word of %gpu asks of the API and shows: through a real HTTP connection to a small server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from computehub_ext.kernel import commands
from computehub_ext.kernel.arguments import split
from computehub_ext.kernel.link import Link
from computehub_ext.kernel.problems import GpuProblem
from tests.unit.desks import RecordingDesk
from tests.unit.fake_api import (
    KERNEL_ID,
    NOW,
    TOKEN,
    Asked,
    FakeApi,
    Json,
    M,
    Refusal,
    booking,
    lease,
    offer,
    serving,
    switch,
)

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


def refused(desk: RecordingDesk, line: str) -> str:
    with pytest.raises(GpuProblem) as caught:
        run(desk, line)
    return "\n".join(caught.value.lines())


def test_status_on_the_cpu(desk: RecordingDesk) -> None:
    assert run(desk, "").splitlines() == [
        "This notebook runs on the CPU",
        "Balance: 10.00 credits available",
        "",
        "  %gpu offers  what there is and what it costs",
        "  %gpu on      move to a GPU",
    ]


def test_status_on_a_gpu(api: FakeApi, desk: RecordingDesk) -> None:
    api.lease = lease()
    assert run(desk, "status").splitlines() == [
        "This notebook runs on T4 (simulated)",
        "  GPU           T4 (simulated)",
        "  Price         1.00 credits an hour, by the second",
        "  Spent so far  0.2500 credits",
        "  Held for it   1.75 credits",
        "  Ends          Mon 2 Mar 2026, 11:45 CET (10:45 UTC), in 1 h 45 min",
        "  Given back    when no cell has run for 20 min",
        "Balance: 10.00 credits available",
        "",
        "  %gpu off  back to the CPU with the variables",
    ]


def test_status_warns_when_little_time_is_left(api: FakeApi, desk: RecordingDesk) -> None:
    api.lease = lease(ends_at="2026-03-02T09:09:00Z")
    assert "Warning: It ends in 9 min; `%gpu extend 1h` keeps it." in run(desk, "status")


def test_status_says_why_the_last_gpu_was_given_back(api: FakeApi, desk: RecordingDesk) -> None:
    ended = lease(state="closed", end_reason="idle", end_message="No cell ran for a while.")
    kernel = {"kernel_id": KERNEL_ID, "place": "cpu", "notebook_path": "a.ipynb", "lease": None, "switch": None}
    api.answers["GET", f"kernels/{KERNEL_ID}"] = lambda asked: {**kernel, "last_lease": ended}
    assert "It was on T4 (simulated). No cell ran for a while." in run(desk, "")


def test_status_names_the_limit_of_memory_and_a_place_with_more(api: FakeApi, desk: RecordingDesk) -> None:
    said = "The kernel was ended: it needed more than its 4 GiB of main memory (RAM)."
    roomier = {**offer("V100", 2.5), "kernel_limits": {"memory_mib": 16384, "cpus": 4}}
    ended = lease(state="closed", end_reason="out_of_memory", end_message=said, roomier=roomier)
    kernel = {"kernel_id": KERNEL_ID, "place": "cpu", "notebook_path": "a.ipynb", "lease": None, "switch": None}
    api.answers["GET", f"kernels/{KERNEL_ID}"] = lambda asked: {**kernel, "last_lease": ended}
    shown = run(desk, "")
    assert f"Warning: It was on T4 (simulated). {said}" in shown
    assert "%gpu on V100" in shown
    assert "16 GiB of RAM, 2.50 credits an hour, simulated, free now" in shown


def test_offers_are_sorted_by_price_and_called_simulated(api: FakeApi, desk: RecordingDesk) -> None:
    api.offers = [offer("A100", 4, free=0, memory=80), offer("T4", 1, count=2, free=2, simulated=False)]
    assert run(desk, "offers").splitlines()[2:7] == [
        "Price for one GPU, an hour",
        "  Model               Free  Credits/h  GPU memory  From                                   Billed in",
        "  ----------------  ------  ---------  ----------  -------------------------------------  ---------",
        "  T4                2 of 2       1.00      16 GiB  now                                    credits",
        "  A100 (simulated)  0 of 1       4.00      80 GiB  Mon 2 Mar 2026, 12:30 CET (11:30 UTC)  credits",
    ]
    assert "Simulated GPUs behave like real ones in everything but CUDA" in desk.said


def test_offers_show_main_memory_and_cores_apart_from_the_gpus_memory(api: FakeApi, desk: RecordingDesk) -> None:
    limits = {"memory_mib": 6144, "cpus": 1.5}
    api.offers = [{**offer("T4", 1, simulated=False), "kernel_limits": limits}, offer("V100", 2, simulated=False)]
    assert run(desk, "offers").splitlines()[3:7] == [
        "  Model    Free  Credits/h  GPU memory       RAM     Cores  From  Billed in",
        "  -----  ------  ---------  ----------  --------  --------  ----  ---------",
        "  T4     1 of 1       1.00      16 GiB     6 GiB       1.5  now   credits",
        "  V100   1 of 1       2.00      16 GiB  no limit  no limit  now   credits",
    ]
    assert "GPU memory is the device's own." in desk.said


def test_real_gpus_are_not_explained_as_simulated(api: FakeApi, desk: RecordingDesk) -> None:
    api.offers = [offer("H100", 6, simulated=False)]
    assert "imulated" not in run(desk, "offers")


def test_no_offers(api: FakeApi, desk: RecordingDesk) -> None:
    api.offers = []
    assert "This server has no GPU to offer" in run(desk, "offers")


def test_balance_says_where_credits_came_from(api: FakeApi, desk: RecordingDesk) -> None:
    api.me["balance"] = {
        "posted_microcredits": 12 * M,
        "held_microcredits": 2 * M,
        "available_microcredits": 10 * M,
        "by_origin": {"granted": 7 * M, "purchased": 5 * M, "earned": 0},
    }
    assert run(desk, "balance").splitlines() == [
        "Balance of Ada",
        "  Available            10.00 credits",
        "  Held for bookings    2.00 credits",
        "  In all               12.00 credits",
        "  Of it                7.00 granted, 5.00 bought",
        "  Notebooks may spend  5.00 credits in 24 hours without asking you, 5.00 left",
    ]


def test_bookings_and_their_absence(api: FakeApi, desk: RecordingDesk) -> None:
    assert '%gpu book T4 "tomorrow 14:00" --for 2h' in run(desk, "bookings")
    api.bookings = [booking(count=2)]
    said = run(desk, "bookings --limit 5")
    assert "booking_01jd2vabcd  2 × T4  Tue 3 Mar 2026, 14:00 CET (13:00 UTC)  2 h        2.00  confirmed" in said
    assert "%gpu cancel booking_01jd2vabcd" in said
    assert api.sent("GET", "bookings")[-1].query == {"limit": "5"}


def test_history(api: FakeApi, desk: RecordingDesk) -> None:
    api.history = [
        {
            "id": "e2",
            "at": NOW,
            "kind": "draw",
            "amount_microcredits": -278,
            "memo": "T4 for <b>x</b>",
            "origin": "granted",
        },
        {"id": "e1", "at": NOW, "kind": "grant", "amount_microcredits": 10 * M, "memo": "Welcome", "origin": "granted"},
    ]
    said = run(desk, "history")
    assert "charged   -0.0002  T4 for <b>x</b>  granted" in said
    assert "granted  +10.0000  Welcome" in said
    assert "<b>" not in desk.pages[0].html()


def test_history_waits_for_the_charge_of_a_gpu_that_was_just_left(api: FakeApi, desk: RecordingDesk) -> None:
    def leases(asked: Asked) -> Json:
        charged = len(api.sent("GET", "leases")) == 3
        if charged:
            api.history = [charge(0)]
        state = "closing" if charged else "running"
        return {"items": [{"id": "lease_1", "kernel_id": KERNEL_ID, "state": state}], "next": None}

    api.answers["GET", "leases"] = leases
    assert "charged" in run(desk, "history")
    assert api.sent("GET", "leases")[0].query == {"state": "open"}


def test_history_does_not_wait_for_a_gpu_that_another_notebook_is_on(api: FakeApi, desk: RecordingDesk) -> None:
    there = {"items": [{"id": "lease_2", "kernel_id": "another", "state": "running"}], "next": None}
    api.answers["GET", "leases"] = lambda asked: there
    run(desk, "history")
    assert len(api.sent("GET", "leases")) == 1


def charge(second: int, memo: str = "T4 for a.ipynb", origin: str = "granted") -> Json:
    at = (datetime.fromisoformat(NOW) + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")
    return {"id": f"e{second}", "at": at, "kind": "draw", "amount_microcredits": -1000, "memo": memo, "origin": origin}


def test_the_meters_small_charges_are_one_row_of_history(api: FakeApi, desk: RecordingDesk) -> None:
    stay = [charge(second) for second in range(6000, 5000, -5)]
    stay_before = [charge(second) for second in range(1000, 0, -5)]
    api.history = [charge(6005, origin="purchased"), *stay, *stay_before, charge(0, memo="T4 for b.ipynb")]
    rows = run(desk, "history").splitlines()[5:]
    assert [row.split()[9:] for row in rows] == [
        ["-0.0010", "T4", "for", "a.ipynb", "purchased"],
        ["-0.2000", "T4", "for", "a.ipynb", "granted"],
        ["-0.2000", "T4", "for", "a.ipynb", "granted"],
        ["-0.0010", "T4", "for", "b.ipynb", "granted"],
    ]


def test_history_asks_for_further_pages_only_as_far_as_needed(api: FakeApi, desk: RecordingDesk) -> None:
    def page(asked: Asked) -> Json:
        number = int(asked.query.get("cursor", "0"))
        found = [charge(9000 - number * 1000 - second) for second in range(200)]
        return {"items": found, "next": str(number + 1)}

    api.answers["GET", "history"] = page
    assert len(run(desk, "history --limit 2").splitlines()) == 5 + 2
    assert len(api.sent("GET", "history")) == 3


def test_estimate_uses_this_notebooks_past(api: FakeApi, desk: RecordingDesk) -> None:
    said = run(desk, "estimate V100 --for 2h")
    assert "At most  2.00 credits" in said
    assert "this notebook held a GPU 3 times, usually for 15 min" in said
    assert api.sent("GET", "estimates")[0].query == {
        "model": "V100",
        "duration_seconds": "7200",
        "notebook_path": "work/train.ipynb",
    }


def test_book_sends_the_users_words_and_zone_and_echoes_the_moment(api: FakeApi, desk: RecordingDesk) -> None:
    said = run(desk, "book t4 tomorrow 14:00 --for 2h --count 2")
    asked = api.sent("POST", "bookings")[0]
    assert asked.body == {
        "model": "t4",
        "count": 2,
        "when": "tomorrow 14:00",
        "time_zone": "Europe/Berlin",
        "duration_seconds": 7200,
        "notebook_path": "work/train.ipynb",
    }
    assert asked.key
    assert "Start        Tue 3 Mar 2026, 14:00 CET (13:00 UTC)" in said
    assert "%gpu cancel booking_01jd2vabcd" in said


def test_book_in_another_zone(api: FakeApi, desk: RecordingDesk) -> None:
    said = run(desk, "book T4 14:00 --zone America/New_York")
    assert api.sent("POST", "bookings")[0].body["time_zone"] == "America/New_York"
    assert "Tue 3 Mar 2026, 08:00 EST (13:00 UTC)" in said


def test_book_says_what_else_there_is(api: FakeApi, desk: RecordingDesk) -> None:
    def full(asked: Asked) -> None:
        raise Refusal(
            409, "slot_taken", "No A100 is free then.", **{**api.quote({"model": "A100"}), "available": False}
        )

    api.answers["POST", "bookings"] = full
    said = refused(desk, "book A100 14:00")
    assert said.startswith("No A100 is free then.")
    assert '%gpu book A100 "2026-03-02T12:30+01:00" --for 2h' in said
    assert "%gpu on T4 --for 2h" in said


@pytest.mark.parametrize("given", ["booking_01jd2vabcd", "2vabcd", "…2VABCD"])
def test_cancel_a_booking_by_its_id_or_its_end(api: FakeApi, desk: RecordingDesk, given: str) -> None:
    api.bookings = [booking(), booking(id="booking_01jd2vother")]
    assert "cancelled" in run(desk, f"cancel {given}")
    assert api.sent("POST", "bookings/booking_01jd2vabcd/cancel")[0].key


def test_cancel_refuses_what_is_not_clear(api: FakeApi, desk: RecordingDesk) -> None:
    api.bookings = [booking(id="booking_1abcd"), booking(id="booking_2abcd")]
    assert "2 bookings end in abcd" in refused(desk, "cancel abcd")
    assert "No booking of yours has the id nope" in refused(desk, "cancel nope")
    assert "No booking of yours has the id d;" in refused(desk, "cancel d")


def test_cancel_a_switch(api: FakeApi, desk: RecordingDesk) -> None:
    api.switch = switch(id="sw_9x8y7z")
    assert "The notebook stays where it was." in run(desk, "cancel 8y7z")
    assert api.sent("POST", "switches/sw_9x8y7z/cancel")


@pytest.mark.parametrize(("word", "ends"), [("extend", "12:45 CET"), ("shorten", "11:15 CET")])
def test_the_end_can_be_moved(api: FakeApi, desk: RecordingDesk, word: str, ends: str) -> None:
    api.lease = lease()
    assert ends in run(desk, f"{word} 30m")
    asked = api.sent("POST", f"leases/lease_1/{word}")[0]
    assert (asked.body, bool(asked.key)) == ({"seconds": 1800}, True)


def test_there_is_nothing_to_extend_on_the_cpu(desk: RecordingDesk) -> None:
    assert "on the CPU, so there is nothing to extend; `%gpu on` moves it" in refused(desk, "extend 1h")


def test_no_notebook_sets_its_own_allowance(api: FakeApi, desk: RecordingDesk) -> None:
    assert "no notebook can change it" in refused(desk, "allowance 100")
    assert "They may spend  5.00 credits in 24 hours without asking you" in run(desk, "allowance")
    assert not api.sent("PUT", "me/allowance")


def test_a_shell_sets_the_allowance(api: FakeApi, desk: RecordingDesk) -> None:
    desk.from_kernel = False
    assert "2.50 credits in 24 hours" in run(desk, "allowance 2.5")
    assert api.sent("PUT", "me/allowance")[0].body == {"per_day_microcredits": 2_500_000}


def test_defaults_say_whose_they_are(api: FakeApi, desk: RecordingDesk) -> None:
    said = run(desk, "defaults")
    assert "Given back  when no cell has run for 20 min, the administrator's default" in said
    assert "Held for    2 h, the administrator's default" in said
    assert "Price       no limit but the price you are shown" in said
    api.me["defaults"] = {"idle_timeout_seconds": 900, "duration_seconds": 1800}
    said = run(desk, "defaults")
    assert "Given back  when no cell has run for 15 min, your default" in said
    assert "Held for    30 min, your default" in said


def test_no_notebook_sets_its_owners_defaults(api: FakeApi, desk: RecordingDesk) -> None:
    said = refused(desk, "defaults --idle 2h --for default --max-price 1.5")
    assert "no notebook can change them" in said
    assert "`computehub gpu defaults --idle 2h --for default --max-price 1.5`" in said
    assert not api.sent("PUT", "me/defaults")


def test_a_shell_sets_the_defaults_that_it_names(api: FakeApi, desk: RecordingDesk) -> None:
    desk.from_kernel = False
    assert "15 min, your default" in run(desk, "defaults --idle 15m")
    assert "15 min, your default" in run(desk, "defaults --for 90m"), "what is not named stays"
    assert "20 min, the administrator's" in run(desk, "defaults --idle default")
    assert "at most 2.50 credits an hour each" in run(desk, "defaults --max-price 2.5")
    assert [asked.body for asked in api.sent("PUT", "me/defaults")] == [
        {"idle_timeout_seconds": 900},
        {"duration_seconds": 5400},
        {"idle_timeout_seconds": None},
        {"max_rate_microcredits_per_hour": 2_500_000},
    ]


def test_allowance_shows_what_waits_for_an_answer(api: FakeApi, desk: RecordingDesk) -> None:
    api.approvals["a1"] = {
        "id": "a1",
        "state": "pending",
        "purpose": "1 × A100 for 2 h",
        "amount_microcredits": 8 * M,
        "notebook_path": "x.ipynb",
        "expires_at": NOW,
    }
    assert "1 × A100 for 2 h" in run(desk, "allowance")


def test_an_unknown_word_is_no_traceback(desk: RecordingDesk) -> None:
    assert refused(desk, "onn") == '"onn" is not a word of %gpu; did you mean `%gpu on`?'


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (Refusal(500, "internal", "Something went wrong in the server."), "Something went wrong in the server."),
        (Refusal(429, "too_many_requests", "Too fast.", retry_after_seconds=0), "Too fast."),
        (Refusal(402, "insufficient_credits", "You have 1 credit and need 2."), "`%gpu balance` says what you have"),
        (Refusal(403, "forbidden", "Not from this kernel."), "Not from this kernel."),
    ],
)
def test_refusals_become_messages(api: FakeApi, desk: RecordingDesk, refusal: Refusal, said: str) -> None:
    def refuse(asked: Asked) -> None:
        raise refusal

    api.answers["GET", "offers"] = refuse
    assert said in refused(desk, "offers")


def test_a_wrong_token_is_told_in_words(api: FakeApi, desk: RecordingDesk) -> None:
    desk.link = Link(api.url, "chk_old", KERNEL_ID)
    assert "does not accept this token any more" in refused(desk, "offers")


def test_another_server_is_told_in_words(api: FakeApi, desk: RecordingDesk) -> None:
    desk.link = Link(api.url.replace("/v1/", "/v9/"), TOKEN, KERNEL_ID)
    assert "has no ComputeHub under that address" in refused(desk, "offers")


def test_a_server_that_is_gone_is_told_in_words(desk: RecordingDesk) -> None:
    desk.link = Link("http://127.0.0.1:9/api/computehub/v1/", TOKEN, KERNEL_ID)
    assert "gave no answer" in refused(desk, "offers")


def test_a_lost_answer_is_asked_for_again_under_the_same_key(api: FakeApi, desk: RecordingDesk) -> None:
    api.lease = lease()
    lost = [Refusal(502, "backend_error", "lost"), Refusal(504, "gateway", "lost")]

    def flaky(asked: Asked) -> object:
        if lost:
            raise lost.pop()
        return lease()

    api.answers["POST", "leases/lease_1/extend"] = flaky
    run(desk, "extend 1h")
    keys = {asked.key for asked in api.sent("POST", "leases/lease_1/extend")}
    assert len(api.sent("POST", "leases/lease_1/extend")) == 3
    assert len(keys) == 1


WHY = "Alice pays for this GPU, so only they can move the notebook back, extend, shorten or end it."


@pytest.fixture
def somebody_elses(api: FakeApi) -> FakeApi:
    """The notebook is on a GPU that alice pays for, and who asks is at the notebook too."""
    api.lease = lease(ends_at="2026-03-02T09:09:00Z")
    shared = {"payer": {"username": "alice", "display_name": "Alice"}, "is_mine": False}
    may = {"move": False, "extend": False, "shorten": False, "end": False, "why": WHY}
    place = {"kernel_id": KERNEL_ID, "place": "gpu", "notebook_path": None, "lease": api.lease, "switch": None}
    api.answers["GET", f"kernels/{KERNEL_ID}"] = lambda asked: {**place, **shared, "may": may}
    return api


def test_status_on_a_gpu_that_somebody_else_pays_for(somebody_elses: FakeApi, desk: RecordingDesk) -> None:
    said = run(desk, "status")
    assert "  Paid by       Alice" in said.splitlines()
    assert "It ends in 9 min." in said
    assert WHY in said
    assert "%gpu off" not in said
    assert "%gpu extend" not in said


@pytest.mark.parametrize("words", ["extend 1h", "shorten 10min", "off"])
def test_what_somebody_else_pays_for_is_not_changed(somebody_elses: FakeApi, desk: RecordingDesk, words: str) -> None:
    with pytest.raises(GpuProblem) as refusal:
        run(desk, words)
    assert str(refusal.value) == WHY
    assert not [asked for asked in somebody_elses.asked if asked.method == "POST"]
