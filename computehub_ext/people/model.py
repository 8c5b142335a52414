"""People, allowances and approvals: no database, no clock.

approval    pending ──approve──> approved ──spend──> used
               └─────decline──> declined
            (pending or approved, too old) ──> expired
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT, in_credits
from computehub_ext.core.errors import Forbidden, IllegalMove, Invalid
from computehub_ext.core.settings import Settings

WELCOME_MICROCREDITS = 10 * MICROCREDITS_PER_CREDIT
ALLOWANCE_MICROCREDITS = 5 * MICROCREDITS_PER_CREDIT
ALLOWANCE_WINDOW = timedelta(hours=24)
APPROVAL_LIFETIME = timedelta(minutes=15)
PENDING_APPROVALS_MAX = 20
"""A notebook that asks in a loop fills no more of its owner's browser than this."""
NAME_LENGTH_MAX = 255
IDLE_TIMEOUT_MIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a person chose for all that says nothing else; None follows the administrator, also when that changes.

    ``max_rate_microcredits_per_hour`` is for a move that takes a GPU on the spot: who books chooses by the price.
    ``changed_at`` is None until they chose anything: who went back to the administrator's did choose.
    """

    idle_timeout: timedelta | None = None
    duration: timedelta | None = None
    max_rate_microcredits_per_hour: int | None = None
    changed_at: datetime | None = None

    def check(self, settings: Settings) -> None:
        """Refuse what the administrator would not let anybody ask for."""
        if self.idle_timeout is not None:
            check_idle_timeout(self.idle_timeout, settings)
        _check_length("length", self.duration, settings.min_duration, settings.max_duration, "duration_seconds")
        if self.max_rate_microcredits_per_hour is not None and self.max_rate_microcredits_per_hour < 1:
            field = "max_rate_microcredits_per_hour"
            raise Invalid("The most that a GPU may cost an hour is above zero; null is no limit.", field=field)

    def within(self, settings: Settings) -> Defaults:
        """As they hold now: brought to the administrator's bounds, which may have become narrower since."""
        return replace(
            self,
            idle_timeout=_brought_to(self.idle_timeout, IDLE_TIMEOUT_MIN, settings.idle_timeout_max),
            duration=_brought_to(self.duration, settings.min_duration, settings.max_duration),
        )


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account. ``display_name`` is as claimed: shown, never decided by."""

    id: str
    username: str
    display_name: str
    created_at: datetime
    defaults: Defaults = Defaults()

    @property
    def account_id(self) -> str:
        return f"person:{self.id}"

    def idle_timeout(self, settings: Settings) -> timedelta:
        """After how long without a running cell a GPU goes back, where the wish says nothing."""
        return self.defaults.within(settings).idle_timeout or settings.idle_timeout

    def duration(self, settings: Settings) -> timedelta:
        """How long a GPU is held, where the wish says nothing."""
        return self.defaults.within(settings).duration or settings.default_duration


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"
    USED = "used"


@dataclass(frozen=True, slots=True)
class Approval:
    """One purchase above the allowance that a kernel asked for, and what its owner said in the browser."""

    id: str
    person_id: str
    kernel_id: str | None
    notebook_path: str | None
    purpose: str
    amount_microcredits: int
    state: ApprovalState
    created_at: datetime
    decided_at: datetime | None
    expires_at: datetime

    def seen_at(self, now: datetime) -> Approval:
        """The approval as it counts at ``now``: an open one that is too old has expired."""
        if self.state in (ApprovalState.PENDING, ApprovalState.APPROVED) and now >= self.expires_at:
            return replace(self, state=ApprovalState.EXPIRED)
        return self

    def decided(self, approve: bool, now: datetime) -> Approval:
        """The same decision again changes nothing; another one comes too late."""
        state = ApprovalState.APPROVED if approve else ApprovalState.DECLINED
        seen = self.seen_at(now)
        if seen.state is state:
            return seen
        if seen.state is not ApprovalState.PENDING:
            raise IllegalMove(f"The request is {seen.state.value} already.", approval_id=self.id, state=seen.state)
        return replace(seen, state=state, decided_at=now)

    def used(self, *, kernel_id: str | None, amount_microcredits: int, now: datetime) -> Approval:
        """Spend it: once, by the kernel that asked, and no more than was approved."""
        seen = self.seen_at(now)
        if seen.state is not ApprovalState.APPROVED:
            words = {"pending": "has not been answered yet", "used": "was used already"}
            said = words.get(seen.state.value, f"was {seen.state.value}")
            raise Forbidden(f"The approval {said}.", approval_id=self.id, state=seen.state.value)
        if kernel_id != self.kernel_id:
            raise Forbidden("The approval was given to another notebook.", approval_id=self.id)
        if amount_microcredits > self.amount_microcredits:
            raise Forbidden(
                f"{in_credits(self.amount_microcredits)} credits were approved, not {in_credits(amount_microcredits)}.",
                approval_id=self.id,
                approved_microcredits=self.amount_microcredits,
            )
        return replace(seen, state=ApprovalState.USED)


class Allowance(NamedTuple):
    """What kernels may put on hold within 24 hours, and what of it is left now."""

    per_day_microcredits: int
    left_microcredits: int


@dataclass(frozen=True, slots=True)
class Spent:
    """The amount may be held: from the allowance, or with ``approval_id`` beyond it."""

    amount_microcredits: int
    left_microcredits: int
    approval_id: str | None


@dataclass(frozen=True, slots=True)
class ApprovalWanted:
    """The browser has to be asked. Commit first, then raise ``NeedsApproval``: the request must not be lost with it."""

    approval: Approval
    needed_microcredits: int
    left_microcredits: int


def tidy_name(name: str, field: str) -> str:
    """A name without blanks around it; Invalid if nothing is left, or what no database keeps."""
    name = name.strip()
    if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise Invalid(f"A name has 1 to {NAME_LENGTH_MAX} printable characters.", field=field)
    return name


def check_idle_timeout(idle_timeout: timedelta, settings: Settings) -> None:
    """Refuse an idle timeout that the administrator lets nobody have."""
    _check_length("idle timeout", idle_timeout, IDLE_TIMEOUT_MIN, settings.idle_timeout_max, "idle_timeout_seconds")


def _check_length(what: str, asked: timedelta | None, least: timedelta, most: timedelta, field: str) -> None:
    if asked is not None and not least <= asked <= most:
        minutes = [int(bound.total_seconds() // 60) for bound in (least, most)]
        raise Invalid(
            f"The {what} is between {minutes[0]} and {minutes[1]} minutes.", field=field, max_seconds=minutes[1] * 60
        )


def _brought_to(asked: timedelta | None, least: timedelta, most: timedelta) -> timedelta | None:
    return None if asked is None else max(least, min(asked, most))
