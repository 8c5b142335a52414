"""The use cases of people. Each runs in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from computehub_ext.core.database import Unit
from computehub_ext.core.errors import IdempotencyMismatch, NotFound, TooManyRequests
from computehub_ext.core.ids import new_id
from computehub_ext.core.settings import Settings
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import Origin, check_amount, check_key, input_hash, storable
from computehub_ext.people import store
from computehub_ext.people.model import (
    ALLOWANCE_MICROCREDITS,
    ALLOWANCE_WINDOW,
    APPROVAL_LIFETIME,
    NAME_LENGTH_MAX,
    PENDING_APPROVALS_MAX,
    WELCOME_MICROCREDITS,
    Allowance,
    Approval,
    ApprovalState,
    ApprovalWanted,
    Defaults,
    Person,
    Spent,
    tidy_name,
)

APPROVALS_SHOWN_MAX = 100


def ensure_person(
    unit: Unit,
    *,
    username: str,
    display_name: str,
    now: datetime,
    welcome_microcredits: int = WELCOME_MICROCREDITS,
) -> Person:
    """The person of this name; one who is new gets an account and the welcome grant, once."""
    username = tidy_name(username, "username")
    # As claimed and only shown: cut to what can be stored rather than refused, or a long name would lock its owner out.
    display_name = storable(display_name.strip(), NAME_LENGTH_MAX)
    known = store.find(unit, username)
    if known is not None:
        if display_name in ("", known.display_name):
            return known
        store.rename(unit, known.id, display_name)
        return replace(known, display_name=display_name)
    person = Person(new_id("person"), username, display_name or username, now)
    store.add(unit, person)
    ledger.open_account(unit, account_id=person.account_id, now=now)
    if welcome_microcredits:
        ledger.grant(
            unit,
            account_id=person.account_id,
            amount_microcredits=welcome_microcredits,
            origin=Origin.GRANTED,
            key="welcome",
            memo="Welcome to ComputeHub",
            now=now,
        )
    return person


def find_person(unit: Unit, username: str) -> Person | None:
    return store.find(unit, username.strip())


def get_person(unit: Unit, person_id: str) -> Person:
    """The person of an id that another table holds."""
    return _get(unit, person_id)[0]


def account_of(person: Person) -> str:
    return person.account_id


def allowance(
    unit: Unit, person_id: str, *, default_microcredits: int = ALLOWANCE_MICROCREDITS, now: datetime
) -> Allowance:
    """What the person's kernels may put on hold within any 24 hours, and what is left of it at ``now``.

    ``default_microcredits``, the administrator's setting, holds for those who chose none of their own.
    """
    _, own = _get(unit, person_id)
    per_day = default_microcredits if own is None else own
    return Allowance(per_day, max(0, per_day - store.spent_since(unit, person_id, now - ALLOWANCE_WINDOW)))


def set_allowance(unit: Unit, *, person_id: str, amount_microcredits: int, now: datetime) -> None:
    """The payer's own choice, made in their browser; zero lets kernels spend nothing unasked."""
    check_amount(amount_microcredits, least=0)
    _get(unit, person_id)
    store.set_allowance(unit, person_id, amount_microcredits)
    unit.emit("person", action="allowance", person_id=person_id)


def set_defaults(
    unit: Unit, *, person: Person, changes: Mapping[str, timedelta | int | None], settings: Settings, now: datetime
) -> Person:
    """The person's own choice for what says nothing else; what ``changes`` does not name stays as it is.

    Only what is named is held against the administrator's bounds: an older choice that these no longer allow is no
    reason to refuse another.
    """
    named: dict[str, Any] = dict(changes)
    Defaults(**named).check(settings)
    if not named:
        return person
    chosen = replace(person.defaults, **named, changed_at=now)
    store.set_defaults(unit, person.id, chosen)
    if chosen != replace(person.defaults, changed_at=now):
        unit.emit("person", action="defaults", person_id=person.id)
    return replace(person, defaults=chosen)


def spend_allowance(
    unit: Unit,
    *,
    person_id: str,
    amount_microcredits: int,
    purpose: str,
    key: str,
    approval_id: str | None = None,
    kernel_id: str | None = None,
    notebook_path: str | None = None,
    reference: str | None = None,
    default_microcredits: int = ALLOWANCE_MICROCREDITS,
    lifetime: timedelta = APPROVAL_LIFETIME,
    now: datetime,
) -> Spent | ApprovalWanted:
    """Count a hold that a kernel wants to open against the allowance, or use an approval for it.

    Above the allowance the browser is asked: the caller commits the ``ApprovalWanted`` and then raises
    ``NeedsApproval``. An approval for exactly this, once given, is found without its id; a kernel that asks again
    while nobody answered gets the same request.

    Parameters
    ----------
    key:
        The person's own; with the same input it counts once.
    reference:
        What this is spent for, so that ``release_allowance`` finds it; ``refer_spending`` sets it later.
    """
    check_amount(amount_microcredits, least=0)
    check_key(key)
    purpose = storable(purpose)
    left = allowance(unit, person_id, default_microcredits=default_microcredits, now=now).left_microcredits
    digest = input_hash("spend", amount=amount_microcredits, kernel_id=kernel_id or "", purpose=purpose)
    known = store.spending(unit, person_id, key)
    if known is not None:
        if known.input_hash != digest:
            raise IdempotencyMismatch("This key was used before, for something else.", key=key)
        return Spent(known.amount_microcredits, left, known.approval_id)
    if approval_id is None and amount_microcredits > left:
        asked = store.open_approval(unit, person_id, digest, now)
        if asked is None:
            asked = _ask(unit, person_id, kernel_id, notebook_path, purpose, amount_microcredits, digest, lifetime, now)
        if asked.state is ApprovalState.PENDING:
            return ApprovalWanted(asked, amount_microcredits, left)
        approval_id = asked.id
    if approval_id is not None:
        approval = _own_approval(unit, approval_id, person_id)
        if approval.seen_at(now).state is ApprovalState.PENDING:
            return ApprovalWanted(approval, amount_microcredits, left)
        store.save_approval(unit, approval.used(kernel_id=kernel_id, amount_microcredits=amount_microcredits, now=now))
    else:
        left -= amount_microcredits
    store.add_spending(
        unit,
        person_id=person_id,
        key=key,
        input_hash=digest,
        purpose=purpose,
        amount_microcredits=amount_microcredits,
        at=now,
        approval_id=approval_id,
        reference=reference,
    )
    return Spent(amount_microcredits, left, approval_id)


def refer_spending(unit: Unit, *, person_id: str, key: str, reference: str) -> None:
    """Say what a spending was for, now that it exists: a booking's id."""
    store.change_spending(unit, person_id, key, reference=reference)


def release_allowance(
    unit: Unit, *, reference: str, amount_microcredits: int, now: datetime, kept_microcredits: int = 0
) -> None:
    """Let flow back what was held for ``reference`` but is not used.

    ``amount_microcredits`` is all of it so far, not what is added: told again, nothing flows back twice. The newest
    spending gets it first. A reference that no kernel spent for is fine: it was paid for in the browser.

    ``kept_microcredits`` is what is still held or was used of what the reference stands for, and does not flow back:
    a part that became dearer since may have cost more than was spent for it here.
    """
    check_amount(amount_microcredits, least=0)
    spendings = store.spendings_for(unit, reference)
    spent = sum(spending.amount_microcredits for spending in spendings)
    left = min(amount_microcredits, max(0, spent - kept_microcredits))
    for spending in spendings:
        part = min(left, spending.amount_microcredits)
        left -= part
        if part > spending.released_microcredits:
            store.change_spending(unit, spending.person_id, spending.key, released_microcredits=part)


def list_approvals(unit: Unit, person_id: str, *, now: datetime) -> list[Approval]:
    """The latest approvals asked of this person, newest first."""
    return [approval.seen_at(now) for approval in store.approvals_of(unit, person_id, APPROVALS_SHOWN_MAX)]


def decide_approval(unit: Unit, *, approval_id: str, person_id: str, approve: bool, now: datetime) -> Approval:
    """The person's answer. Callers make sure that it comes from their own browser.

    Raises
    ------
    NotFound
        There is no such approval, or it is another person's.
    IllegalMove
        It was answered otherwise, used, or has expired.
    """
    decided = _own_approval(unit, approval_id, person_id).decided(approve, now)
    store.save_approval(unit, decided)
    unit.emit("approval", action=decided.state.value, approval_id=approval_id, person_id=person_id)
    return decided


def _ask(
    unit: Unit,
    person_id: str,
    kernel_id: str | None,
    notebook_path: str | None,
    purpose: str,
    amount: int,
    digest: str,
    lifetime: timedelta,
    now: datetime,
) -> Approval:
    if store.count_pending(unit, person_id, now) >= PENDING_APPROVALS_MAX:
        raise TooManyRequests(
            f"{PENDING_APPROVALS_MAX} requests wait for your answer in the browser already; answer those first.",
            pending=PENDING_APPROVALS_MAX,
        )
    approval = Approval(
        id=new_id("approval"),
        person_id=person_id,
        kernel_id=kernel_id,
        notebook_path=notebook_path and storable(notebook_path, 4096),
        purpose=purpose,
        amount_microcredits=amount,
        state=ApprovalState.PENDING,
        created_at=now,
        decided_at=None,
        expires_at=now + lifetime,
    )
    store.add_approval(unit, approval, digest)
    unit.emit("approval", action="asked", approval_id=approval.id, person_id=person_id)
    return approval


def _get(unit: Unit, person_id: str) -> tuple[Person, int | None]:
    found = store.get(unit, person_id)
    if found is None:
        raise NotFound(f"There is no person {person_id}.", person_id=person_id)
    return found


def _own_approval(unit: Unit, approval_id: str, person_id: str) -> Approval:
    found = store.approval(unit, approval_id)
    if found is None or found.person_id != person_id:
        raise NotFound(f"There is no approval {approval_id} of yours.", approval_id=approval_id)
    return found
