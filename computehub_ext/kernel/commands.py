"""What each word does, once for the magic and the shell command: ask the API, show a page."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from . import arguments, offered, pages
from .card import device_words, lease_facts
from .desk import Desk
from .ids import booking_named, switch_named
from .link import LinkProblem, new_key
from .moving import move_off, move_on, post_with_approval, problem_of
from .problems import GpuProblem
from .report import Facts, Note, Page
from .wording import as_typed, credits_as_typed, in_words

HISTORY_PAGE = 200
HISTORY_PAGES_MAX = 25
CHARGE_SECONDS, CHARGE_SECONDS_MAX = 0.1, 3.0


def run(words: Sequence[str], desk: Desk) -> None:
    """Do what the words say.

    Raises
    ------
    GpuProblem
        When it could not be done, or the words were wrong.
    """
    name, given = arguments.parse(words, desk.command)
    try:
        VERBS[name](desk, given)
    except LinkProblem as problem:
        raise problem_of(problem, desk) from None


def show_status(desk: Desk, given: SimpleNamespace) -> None:
    desk.show(pages.status_page(desk.kernel(), desk.link.get("me"), desk.zone, desk.command))


def show_offers(desk: Desk, given: SimpleNamespace) -> None:
    desk.show(offered.offers_page(pages.items_of(desk.link.get("offers")), desk.zone, desk.command))


def show_balance(desk: Desk, given: SimpleNamespace) -> None:
    desk.show(pages.balance_page(desk.link.get("me")))


def show_bookings(desk: Desk, given: SimpleNamespace) -> None:
    found = pages.items_of(desk.link.get("bookings", limit=given.limit))
    desk.show(pages.bookings_page(found, desk.zone, desk.command))


def show_history(desk: Desk, given: SimpleNamespace) -> None:
    _until_charged(desk)
    lines = list(itertools.islice(pages.merged(_history_lines(desk)), given.limit))
    desk.show(pages.history_page(lines, desk.zone))


def _until_charged(desk: Desk) -> None:
    """Wait a moment for the charge of a GPU that this notebook just left: it is made behind the cells that run on."""
    try:
        kernel = desk.kernel()
    except GpuProblem:
        return  # a shell that names no kernel
    give_up = time.monotonic() + CHARGE_SECONDS_MAX
    while kernel.get("place") == "cpu" and time.monotonic() < give_up:
        leases = pages.items_of(desk.link.get("leases", state="open"))
        if not any((lease.get("kernel_id"), lease.get("state")) == (desk.kernel_id, "running") for lease in leases):
            return
        time.sleep(CHARGE_SECONDS)


def _history_lines(desk: Desk) -> Iterator[dict[str, Any]]:
    """Line after line, page after page, as far as they are asked for."""
    cursor = None
    for _ in range(HISTORY_PAGES_MAX):
        answer = desk.link.get("history", limit=HISTORY_PAGE, cursor=cursor)
        yield from pages.items_of(answer)
        cursor = answer.get("next") if isinstance(answer, dict) else None
        if not cursor:
            return


def show_estimate(desk: Desk, given: SimpleNamespace) -> None:
    estimate = desk.link.get(
        "estimates", model=given.model, duration_seconds=given.seconds, notebook_path=desk.notebook_path()
    )
    desk.show(pages.estimate_page(estimate, desk.command))


def allowance(desk: Desk, given: SimpleNamespace) -> None:
    if given.per_day_microcredits is not None:
        if desk.from_kernel:
            raise GpuProblem(
                "The allowance says what notebooks may spend, so no notebook can change it: set it in the browser "
                f"({desk.link.page_url}) or in the shell with `computehub gpu allowance CREDITS`."
            )
        desk.link.put("me/allowance", {"per_day_microcredits": given.per_day_microcredits})
    approvals = pages.items_of(desk.link.get("approvals"))
    desk.show(pages.allowance_page(desk.link.get("me"), approvals, desk.zone))


def defaults(desk: Desk, given: SimpleNamespace) -> None:
    named = {
        "--idle": ("idle_timeout_seconds", given.idle_seconds),
        "--for": ("duration_seconds", given.seconds),
        "--max-price": ("max_rate_microcredits_per_hour", given.max_rate_microcredits_per_hour),
    }
    changes = dict(named[flag] for flag in given.given)
    if changes:
        if desk.from_kernel:
            raise GpuProblem(
                "Your defaults hold for all your notebooks, so no notebook can change them: set them in JupyterLab's "
                f"Settings, or in the shell with `computehub gpu defaults {' '.join(_typed(given))}`."
            )
        desk.link.put("me/defaults", changes)
    desk.show(pages.defaults_page(desk.link.get("me")))


def _typed(given: SimpleNamespace) -> list[str]:
    rate = given.max_rate_microcredits_per_hour
    values = {
        "--idle": given.idle_seconds and as_typed(given.idle_seconds),
        "--for": given.seconds and as_typed(given.seconds),
        "--max-price": rate and credits_as_typed(rate),
    }
    return [f"{flag} {values[flag] or 'default'}" for flag in given.given]


def extend(desk: Desk, given: SimpleNamespace) -> None:
    _change_end(desk, "extend", given.seconds)


def shorten(desk: Desk, given: SimpleNamespace) -> None:
    _change_end(desk, "shorten", given.seconds)


def _change_end(desk: Desk, verb: str, seconds: int) -> None:
    kernel = desk.kernel()
    lease = kernel.get("lease")
    if not lease or lease.get("state") == "closed":
        raise GpuProblem(f"This notebook is on the CPU, so there is nothing to {verb}; `{desk.command} on` moves it.")
    if (why := pages.withheld(kernel, verb)) is not None:
        raise GpuProblem(why)
    path = f"leases/{lease['id']}/{verb}"
    changed = post_with_approval(desk, path, {"seconds": seconds}) if verb == "extend" else desk.link.post(
        path, {"seconds": seconds}, key=new_key()
    )  # fmt: skip
    length = in_words(seconds)
    page = Page(f"{device_words(changed)}: {length} {'longer' if verb == 'extend' else 'shorter'}", tone="good")
    desk.show(page.add(Facts("The GPU and its price", lease_facts(changed, desk.zone))))


def book(desk: Desk, given: SimpleNamespace) -> None:
    body = {
        "model": given.model,
        "count": given.count,
        "when": given.when,
        "time_zone": given.zone or desk.zone,
        "duration_seconds": given.seconds,
        "notebook_path": desk.notebook_path(),
    }
    booking = post_with_approval(desk, "bookings", body)
    desk.show(pages.booked_page(booking, given.zone or desk.zone, desk.command))


def cancel(desk: Desk, given: SimpleNamespace) -> None:
    switch = switch_named(desk, given.id)
    if switch is not None:
        answer = desk.link.post(f"switches/{switch}/cancel", key=new_key())
        state = (answer or {}).get("state")
        note = "The notebook stays where it was." if state == "cancelled" else f"The switch is {state or 'ending'}."
        desk.show(Page("Cancelling the switch").add(Note(note)))
        return
    booking_id = booking_named(desk, given.id)
    booking = desk.link.post(f"bookings/{booking_id}/cancel", key=new_key())
    page = Page(f"Booking {booking.get('id', booking_id)}: {booking.get('state', 'cancelled')}", tone="good")
    if booking.get("state") == "cancelled":
        page.add(Note("What was held for it and not used is available again."))
    desk.show(page)


def show_help(desk: Desk, given: SimpleNamespace) -> None:
    desk.show_text(arguments.help_text(given.word, desk.command))


VERBS: dict[str, Callable[[Desk, Any], None]] = {
    "status": show_status,
    "offers": show_offers,
    "balance": show_balance,
    "bookings": show_bookings,
    "history": show_history,
    "on": move_on,
    "extend": extend,
    "shorten": shorten,
    "off": move_off,
    "book": book,
    "cancel": cancel,
    "estimate": show_estimate,
    "allowance": allowance,
    "defaults": defaults,
    "help": show_help,
}
