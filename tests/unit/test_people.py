"""People: accounts, what their kernels may spend unasked, and what they approve beyond it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Forbidden, IdempotencyMismatch, IllegalMove, Invalid, NotFound, TooManyRequests
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import PENDING_APPROVALS_MAX, ApprovalState, ApprovalWanted, Person, Spent

InUnit = Callable[..., Any]
CREDIT = 1_000_000


@pytest.fixture
def ada(in_unit: InUnit, clock: ManualClock) -> Person:
    return in_unit(people.ensure_person, username="ada", display_name="Ada L.", now=clock.now())


@pytest.fixture
def bob(in_unit: InUnit, clock: ManualClock) -> Person:
    return in_unit(people.ensure_person, username="bob", display_name="Bob", now=clock.now())


@pytest.fixture
def spend(in_unit: InUnit, clock: ManualClock, ada: Person) -> Callable[..., Spent | ApprovalWanted]:
    """``spend("key", 3)``: Ada's kernel k1 wants to hold 3 credits."""

    def spend(key: str, credits: float, **others: Any) -> Spent | ApprovalWanted:
        inputs = {"person_id": ada.id, "kernel_id": "k1", "purpose": "1 × T4", **others}
        return in_unit(
            people.spend_allowance, amount_microcredits=int(credits * CREDIT), key=key, now=clock.now(), **inputs
        )

    return spend


@pytest.fixture
def left(in_unit: InUnit, clock: ManualClock, ada: Person) -> Callable[[], float]:
    return lambda: in_unit(people.allowance, ada.id, now=clock.now()).left_microcredits / CREDIT


@pytest.fixture
def decide(in_unit: InUnit, clock: ManualClock, ada: Person) -> Callable[..., Any]:
    def decide(wanted: ApprovalWanted, approve: bool, person_id: str | None = None) -> Any:
        return in_unit(
            people.decide_approval,
            approval_id=wanted.approval.id,
            person_id=person_id or ada.id,
            approve=approve,
            now=clock.now(),
        )

    return decide


def test_a_new_person_finds_a_welcome_grant_once(in_unit: InUnit, ada: Person, clock: ManualClock) -> None:
    again = in_unit(people.ensure_person, username=" ada ", display_name="", now=clock.advance(days=1))
    assert again == ada
    assert in_unit(people.find_person, "ada") == ada
    assert in_unit(people.find_person, "eve") is None
    balance = in_unit(ledger.balance, people.account_of(ada))
    assert (balance.available_microcredits, balance.by_origin["granted"]) == (10 * CREDIT, 10 * CREDIT)
    [line] = in_unit(ledger.statement, people.account_of(ada))
    assert (line.memo, line.at) == ("Welcome to ComputeHub", ada.created_at)


def test_the_welcome_is_the_administrators_choice(in_unit: InUnit, clock: ManualClock) -> None:
    for username, welcome in (("poor", 0), ("rich", 50 * CREDIT)):
        person = in_unit(
            people.ensure_person, username=username, display_name="", now=clock.now(), welcome_microcredits=welcome
        )
        assert person.display_name == username
        assert in_unit(ledger.balance, person.account_id).available_microcredits == welcome


def test_a_display_name_follows_the_claim_and_decides_nothing(in_unit: InUnit, ada: Person, clock: ManualClock) -> None:
    renamed = in_unit(people.ensure_person, username="ada", display_name="A" * 999, now=clock.now())
    assert (renamed.id, renamed.display_name) == (ada.id, "A" * 254 + "…")
    assert in_unit(people.find_person, "ada") == renamed


@pytest.mark.parametrize("username", ["", "  ", "a" * 256, "a\0b", "a\nb"])
def test_what_is_no_name_is_refused(in_unit: InUnit, clock: ManualClock, username: str) -> None:
    with pytest.raises(Invalid) as refusal:
        in_unit(people.ensure_person, username=username, display_name="", now=clock.now())
    assert refusal.value.details["field"] == "username"


def test_an_allowance_rolls_over_24_hours(spend: Any, left: Any, clock: ManualClock) -> None:
    assert spend("a", 2) == Spent(2 * CREDIT, 3 * CREDIT, None)
    clock.advance(hours=20)
    assert spend("b", 3) == Spent(3 * CREDIT, 0, None)
    assert isinstance(spend("c", 0.000001), ApprovalWanted)
    clock.advance(hours=4)
    assert left() == 2, "the first spending is 24 hours old"
    clock.advance(hours=19, minutes=59)
    assert left() == 2
    clock.advance(minutes=1)
    assert left() == 5


def test_a_key_counts_once(spend: Any, left: Any) -> None:
    first = spend("a", 2)
    assert spend("a", 2) == first
    assert left() == 3
    with pytest.raises(IdempotencyMismatch):
        spend("a", 3)


def test_what_costs_nothing_is_always_allowed(spend: Any, left: Any) -> None:
    spend("a", 5)
    assert spend("b", 0) == Spent(0, 0, None)


def test_the_owner_sets_the_allowance_and_an_administrator_the_default(
    in_unit: InUnit, ada: Person, bob: Person, clock: ManualClock
) -> None:
    now = clock.now()
    in_unit(people.set_allowance, person_id=ada.id, amount_microcredits=0, now=now)
    for person, expected in ((ada, 0), (bob, 7)):
        allowed = in_unit(people.allowance, person.id, default_microcredits=7, now=now)
        assert allowed == (expected, expected)
    with pytest.raises(Invalid):
        in_unit(people.set_allowance, person_id=ada.id, amount_microcredits=-1, now=now)
    with pytest.raises(NotFound):
        in_unit(people.set_allowance, person_id="person_x", amount_microcredits=1, now=now)


def test_a_lowered_allowance_leaves_nothing_rather_than_less(
    in_unit: InUnit, spend: Any, left: Any, ada: Person, clock: ManualClock
) -> None:
    spend("a", 4)
    in_unit(people.set_allowance, person_id=ada.id, amount_microcredits=CREDIT, now=clock.now())
    assert left() == 0


def test_what_was_not_used_flows_back_and_not_twice(
    in_unit: InUnit, spend: Any, left: Any, ada: Person, clock: ManualClock
) -> None:
    def release(credits: int) -> None:
        in_unit(people.release_allowance, reference="booking_1", amount_microcredits=credits * CREDIT, now=clock.now())

    spend("start", 2)
    in_unit(people.refer_spending, person_id=ada.id, key="start", reference="booking_1")
    spend("more", 1, reference="booking_1")
    assert left() == 2
    release(2)
    assert left() == 4
    release(2)
    assert left() == 4, "it is all that flows back so far, not more of it"
    release(3)
    assert left() == 5
    release(9)
    assert left() == 5
    in_unit(people.release_allowance, reference="booking_of_browser", amount_microcredits=5, now=clock.now())


def test_above_the_allowance_the_owner_is_asked_and_may_approve(
    in_unit: InUnit, spend: Any, left: Any, decide: Any, ada: Person, clock: ManualClock
) -> None:
    wanted = spend("a", 6, notebook_path="notes.ipynb")
    assert (wanted.needed_microcredits, wanted.left_microcredits) == (6 * CREDIT, 5 * CREDIT)
    [listed] = in_unit(people.list_approvals, ada.id, now=clock.now())
    assert listed == wanted.approval
    assert (listed.state, listed.notebook_path, listed.purpose) == (ApprovalState.PENDING, "notes.ipynb", "1 × T4")
    assert spend("a", 6, approval_id=listed.id).approval == listed, "not answered yet"
    assert decide(wanted, True).state is ApprovalState.APPROVED
    assert decide(wanted, True).state is ApprovalState.APPROVED, "twice is fine"
    with pytest.raises(IllegalMove):
        decide(wanted, False)
    assert spend("a", 6, approval_id=listed.id) == Spent(6 * CREDIT, 5 * CREDIT, listed.id)
    assert spend("a", 6, approval_id=listed.id).approval_id == listed.id, "the same key again is no second use"
    assert left() == 5, "what was approved is no part of the allowance"
    with pytest.raises(Forbidden, match="used already"):
        spend("b", 6, approval_id=listed.id)


def test_asking_again_finds_the_same_request_and_the_approval_given_to_it(spend: Any, decide: Any) -> None:
    wanted = spend("a", 6)
    assert spend("b", 6).approval == wanted.approval
    assert spend("c", 7).approval != wanted.approval
    decide(wanted, True)
    assert spend("d", 6).approval_id == wanted.approval.id
    assert spend("e", 6).approval != wanted.approval, "it was used; this is another purchase"


def test_an_approval_is_for_one_notebook_and_no_more_than_was_shown(spend: Any, decide: Any) -> None:
    wanted = spend("a", 6)
    decide(wanted, True)
    with pytest.raises(Forbidden, match="another notebook"):
        spend("b", 6, kernel_id="k2", approval_id=wanted.approval.id)
    with pytest.raises(Forbidden, match=r"6\.00 credits were approved, not 6\.50"):
        spend("b", 6.5, approval_id=wanted.approval.id)
    assert spend("b", 5.5, approval_id=wanted.approval.id).approval_id == wanted.approval.id


def test_a_declined_request_stays_declined(spend: Any, decide: Any) -> None:
    wanted = spend("a", 6)
    assert decide(wanted, False).state is ApprovalState.DECLINED
    with pytest.raises(Forbidden, match="declined"):
        spend("a", 6, approval_id=wanted.approval.id)
    with pytest.raises(IllegalMove):
        decide(wanted, True)


def test_nobody_else_decides_or_uses_it(
    in_unit: InUnit, spend: Any, decide: Any, bob: Person, clock: ManualClock
) -> None:
    wanted = spend("a", 6)
    with pytest.raises(NotFound):
        decide(wanted, True, person_id=bob.id)
    decide(wanted, True)
    with pytest.raises(NotFound):
        spend("a", 6, person_id=bob.id, approval_id=wanted.approval.id)
    assert in_unit(people.list_approvals, bob.id, now=clock.now()) == []


@pytest.mark.parametrize("answered", [False, True])
def test_a_request_expires_answered_or_not(
    in_unit: InUnit, spend: Any, decide: Any, ada: Person, clock: ManualClock, answered: bool
) -> None:
    wanted = spend("a", 6, lifetime=timedelta(minutes=10))
    if answered:
        decide(wanted, True)
    clock.advance(minutes=10)
    [listed] = in_unit(people.list_approvals, ada.id, now=clock.now())
    assert listed.state is ApprovalState.EXPIRED
    with pytest.raises(IllegalMove, match="expired"):
        decide(wanted, True)
    with pytest.raises(Forbidden, match="expired"):
        spend("a", 6, approval_id=wanted.approval.id)
    assert spend("a", 6).approval.id != wanted.approval.id


def test_a_notebook_that_asks_in_a_loop_is_stopped(spend: Any, decide: Any, clock: ManualClock) -> None:
    asked = [spend(f"k{number}", 6 + number) for number in range(PENDING_APPROVALS_MAX)]
    with pytest.raises(TooManyRequests):
        spend("one more", 99)
    decide(asked[0], False)
    spend("one more", 99)
    clock.advance(hours=1)
    spend("much later", 99)


def test_the_browser_hears_of_a_request(database: Database, spend: Any, decide: Any) -> None:
    heard: list[Any] = []
    database.listen(lambda event: heard.append((event.kind, event.payload["action"])), in_background=False)
    decide(spend("a", 6), True)
    database.deliver()
    assert heard == [("approval", "asked"), ("approval", "approved")]
