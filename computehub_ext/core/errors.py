"""Every failure that a person can cause or meet, as one tree.

    ComputeHubError
    ├── NotFound                     404  no such thing, or not yours
    ├── Conflict                     409
    │   ├── SlotTaken                     the calendar has no room for this
    │   ├── IdempotencyMismatch           this key came with another input before
    │   ├── IllegalMove                   the state machine has no such arrow
    │   └── OfferExpired                  the price or place quoted is gone
    ├── Invalid                      422  names the field and what would be right
    ├── Forbidden                    403
    │   └── NeedsApproval                 above the standing allowance: the browser is asked
    ├── InsufficientCredits          402
    ├── TooManyRequests              429
    ├── Unavailable                  503  the control plane can't be reached or is starting
    └── BackendError                 502
        ├── NoCapacity               503  this place has no room now
        ├── SkipPlace                502  this place can't, another may
        ├── NotYetEnded              409  asked to end; still going
        ├── Refused                  502  the place said no; asking again won't help
        ├── Unreachable              503  no answer; it may or may not have happened
        └── NotHeard                 503  the place answers, but not for this placement

Each carries a stable ``code`` for programs, a sentence for people and ``details`` (JSON) for both.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ComputeHubError(Exception):
    """An expected failure.

    Parameters
    ----------
    message:
        One sentence for a person: what was wrong, and what would be right.
    details:
        JSON values that a program can act on.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def as_json(self) -> dict[str, Any]:
        return {"message": self.message, "code": self.code, "details": self.details}


class NotFound(ComputeHubError):
    code, status = "not_found", 404


class Conflict(ComputeHubError):
    code, status = "conflict", 409


class SlotTaken(Conflict):
    code = "slot_taken"


class IdempotencyMismatch(Conflict):
    code = "idempotency_mismatch"


class IllegalMove(Conflict):
    code = "illegal_move"


class OfferExpired(Conflict):
    code = "offer_expired"


class Invalid(ComputeHubError):
    """Well-formed nonsense. ``field`` names the input at fault, as the caller spelled it."""

    code, status = "invalid", 422

    def __init__(self, message: str, *, field: str | None = None, **details: Any) -> None:
        if field is not None:
            details["field"] = field
        super().__init__(message, **details)


class Forbidden(ComputeHubError):
    code, status = "forbidden", 403


class NeedsApproval(Forbidden):
    """A kernel asked to spend more than its standing allowance. ``details["approval_id"]`` waits in the browser."""

    code = "needs_approval"


class InsufficientCredits(ComputeHubError):
    code, status = "insufficient_credits", 402


class TooManyRequests(ComputeHubError):
    code, status = "too_many_requests", 429


class Unavailable(ComputeHubError):
    code, status = "unavailable", 503


class BackendError(ComputeHubError):
    code, status = "backend_error", 502


class NoCapacity(BackendError):
    code, status = "no_capacity", 503


class SkipPlace(BackendError):
    code = "skip_place"


class NotYetEnded(BackendError):
    code, status = "not_yet_ended", 409


class Refused(BackendError):
    code = "refused"


class Unreachable(BackendError):
    """The place does not answer. It is left alone for some seconds, whoever asks next."""

    code, status = "unreachable", 503


class NotHeard(BackendError):
    """One placement does not answer, at a place that does: nobody else's has to wait for it."""

    code, status = "not_heard", 503
