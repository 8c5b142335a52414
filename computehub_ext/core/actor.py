"""Who asks, as the authenticated connection says; never as a message, a header or an environment claims."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Via(StrEnum):
    """How the person reached us. A kernel runs whatever the notebook holds, so it may spend only an allowance."""

    BROWSER = "browser"
    """A login with a cookie, and with XSRF on writes."""
    TOKEN = "token"
    """An API token of the server, as the shell command sends it."""
    KERNEL = "kernel"
    """The token that one kernel was given at its start."""


@dataclass(frozen=True)
class Actor:
    """A person on one connection.

    Parameters
    ----------
    username:
        The authenticated name; the server owner's account name where the server knows no people.
    display_name:
        As claimed; shown, never decided by.
    via:
        The kind of connection.
    kernel_id:
        The kernel that asks, when ``via`` is ``KERNEL``; requests about another kernel are refused.
    is_admin:
        May see and change what belongs to others.
    """

    username: str
    display_name: str
    via: Via
    kernel_id: str | None = None
    is_admin: bool = False
