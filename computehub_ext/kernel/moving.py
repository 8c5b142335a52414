"""``on`` and ``off``: show what it costs and what is lost, ask where something would be, then ask for the switch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from . import pages
from .card import STATES_ENDED, device_words, loss_table, page_of, problem_notes, ways_on
from .desk import Desk
from .ids import booking_named
from .link import LinkProblem, new_key
from .problems import Declined, GpuProblem
from .report import Commands, Facts, Note, Page, WebLink
from .wording import affordable_seconds, as_typed, counted, credits_as_typed, in_credits, in_words, read_time

APPROVAL_WAIT_SECONDS = 120.0
APPROVAL_POLL_SECONDS = 1.0
HOLD_SECONDS_MIN = 300


def move_on(desk: Desk, given: SimpleNamespace) -> None:
    """Move the notebook to a GPU; raises unless the switch was begun (in the shell: unless it was done)."""
    kernel = desk.kernel()
    if _already_there(desk, kernel, given):
        return
    quote, booking_id = _price(desk, given)
    preview = desk.preview(given.keep)
    idle = pages.idle_words(desk.link.get("me") or {}, given.idle_seconds)
    page = pages.quote_page(quote, preview, quote.get("balance_microcredits"), desk.zone, idle)
    desk.show(page)
    accepted = _loss_accepted(desk, preview, given)
    body: dict[str, Any] = {"target": "gpu", "keep": given.keep, "strict": given.strict, "accept_loss": accepted}
    # What the other place lacks is found by the server alone: a yes to the names above is none to that.
    body["accept_problems"] = body["accept_failures"] = given.yes
    if booking_id is not None:
        body["booking_id"] = booking_id
    else:
        cap = given.max_rate_microcredits_per_hour
        rate = int(quote["rate_microcredits_per_hour"])
        body.update(
            model=quote["model"],
            count=given.count,
            duration_seconds=_seconds_of(quote),
            # Without a cap of their own nobody pays more than the price that they were just shown.
            max_rate_microcredits_per_hour=rate if cap is None else cap,
        )
    if given.idle_seconds is not None:
        body["idle_timeout_seconds"] = given.idle_seconds
    _switch(desk, body, {name: quote.get(name) for name in ("model", "count", "simulated")}, given)


def move_off(desk: Desk, given: SimpleNamespace) -> None:
    """Move the notebook back to the CPU."""
    kernel = desk.kernel()
    _refuse_while_moving(desk, kernel)
    if kernel.get("place") != "gpu":
        desk.show(Page("This notebook is on the CPU already").add(Note("Nothing is held or charged for it.", "quiet")))
        return
    if (why := pages.withheld(kernel, "move")) is not None:
        raise GpuProblem(why)
    preview = desk.preview(given.keep)
    if preview is not None:
        page = Page("Back to the CPU").add(Facts("Preview", tuple(pages.preview_facts(preview))))
        desk.show(
            page.add(loss_table(preview.get("lost"), "Cannot come back"), *problem_notes(preview.get("problems")))
        )
    accepted = _loss_accepted(desk, preview, given)
    body = {"target": "cpu", "keep": given.keep, "strict": given.strict, "accept_loss": accepted}
    body["accept_problems"] = body["accept_failures"] = given.yes
    _switch(desk, body, kernel.get("lease") or {}, given)


# --- before it ----------------------------------------------------------------------------------------------------


def _already_there(desk: Desk, kernel: Mapping[str, Any], given: SimpleNamespace) -> bool:
    _refuse_while_moving(desk, kernel)
    lease = kernel.get("lease") or {}
    if kernel.get("place") != "gpu":
        return False
    model, count = str(lease.get("model") or ""), int(lease.get("count") or 1)
    other_model = given.model is not None and given.model.lower() != model.lower()
    other_count = "--count" in given.given and given.count != count
    if other_model or other_count:
        raise GpuProblem(
            f"This notebook is on {device_words(lease)} already. `{desk.command} off` first, then "
            f"`{desk.command} on {given.model or model}{f' --count {given.count}' if given.count > 1 else ''}`."
        )
    page = pages.status_page(kernel, desk.link.get("me"), desk.zone, desk.command)
    page.title = f"This notebook is on {device_words(lease)} already"
    if given.seconds is not None:
        page.add(Note(f"--for changes nothing now; `{desk.command} extend 1h` keeps the GPU for longer.", "quiet"))
    desk.show(page)
    return True


def _refuse_while_moving(desk: Desk, kernel: Mapping[str, Any]) -> None:
    switch = kernel.get("switch")
    if switch and switch.get("state") not in STATES_ENDED:
        where = "the CPU" if switch.get("target") == "cpu" else "a GPU"
        rows = Commands("", ((f"{desk.command} cancel {switch.get('id')}", "cancels it"),))
        raise GpuProblem(f"This notebook is moving to {where} already.", Page().add(rows))


def _price(desk: Desk, given: SimpleNamespace) -> tuple[dict[str, Any], str | None]:
    """What it will cost: the quote, and the booking to use when one is there."""
    booking = _booking_to_use(desk, given)
    if booking is not None:
        return dict(booking), str(booking["id"])
    me = desk.link.get("me") or {}
    own = (me.get("defaults") or {}).get("max_rate_microcredits_per_hour")
    cap, whose = given.max_rate_microcredits_per_hour, "--max-price"
    if cap is None and own:
        cap, whose = int(own), "your default of at most"
    quote = _quote(desk, given, given.seconds, cap)
    _refuse_dear(desk, given, quote, cap, whose)
    if not quote.get("available"):
        seconds = _seconds_of(quote)
        page = Page().add(*_choices(desk, quote, str(quote.get("model")), seconds, given.count))
        many = f"{given.count} × " if given.count > 1 else ""
        raise GpuProblem(f"No {many}{quote.get('model')} is free for the next {in_words(seconds)}.", page)
    available = int((me.get("balance") or {}).get("available_microcredits") or 0)
    if int(quote.get("amount_microcredits") or 0) > available:
        quote = _affordable(desk, given, quote, available, cap)
    quote["balance_microcredits"] = available
    return quote, None


def _quote(desk: Desk, given: SimpleNamespace, seconds: int | None, cap: int | None) -> dict[str, Any]:
    body = {"model": given.model, "count": given.count, "duration_seconds": seconds}
    if given.model is None:  # a model that was named is quoted as it is, so that a refusal can say its price
        body["max_rate_microcredits_per_hour"] = cap
    return dict(desk.link.post("quotes", {k: v for k, v in body.items() if v is not None}))


def _affordable(
    desk: Desk, given: SimpleNamespace, quote: dict[str, Any], available: int, cap: int | None
) -> dict[str, Any]:
    """Where nobody named a length, what the money lasts for; else a refusal that says how long that is."""
    rate, count = int(quote["rate_microcredits_per_hour"]), int(quote.get("count") or 1)
    lasts = affordable_seconds(available, rate, count)
    if given.seconds is None and lasts >= HOLD_SECONDS_MIN:
        return _quote(desk, given, lasts, cap)
    needed = in_credits(int(quote["amount_microcredits"]))
    raise GpuProblem(
        f"{device_words(quote)} for {in_words(_seconds_of(quote))} needs {needed} credits and you have "
        f"{in_credits(available)}.",
        Page().add(pages.shorter_commands(available, quote, desk.command) if lasts >= HOLD_SECONDS_MIN else None),
    )


def _refuse_dear(desk: Desk, given: SimpleNamespace, quote: Mapping[str, Any], cap: int | None, whose: str) -> None:
    rate = int(quote.get("rate_microcredits_per_hour") or 0)
    if cap is None or rate <= cap:
        return
    offers = pages.items_of(desk.link.get("offers"))
    counts = f" --count {given.count}" if given.count > 1 else ""
    length = f" --for {as_typed(given.seconds)}" if given.seconds is not None else ""
    fitting = sorted(
        (int(o["rate_microcredits_per_hour"]), str(o["model"]), int(o.get("free_now") or 0))
        for o in offers
        if int(o.get("rate_microcredits_per_hour") or 0) <= cap
    )
    rows = [
        (
            f"{desk.command} on {model}{length}{counts}",
            f"{in_credits(each)} credits an hour{'' if free else ', not free now'}",
        )
        for each, model, free in fitting
    ]
    dear = f"--max-price {credits_as_typed(rate)}"
    rows.append((f"{desk.command} on {quote.get('model')} {dear}{length}{counts}", "to pay its price"))
    raise GpuProblem(
        f"{quote.get('model')} costs {in_credits(rate)} credits an hour, more than {whose} {in_credits(cap)}.",
        Page().add(Commands("What would fit:" if fitting else "Nothing costs so little.", tuple(rows))),
    )


def _booking_to_use(desk: Desk, given: SimpleNamespace) -> dict[str, Any] | None:
    """The slot named by ``--booking``, or one that runs now and fits: it is paid for already."""
    if given.booking_id is not None:
        booking = dict(desk.link.get(f"bookings/{booking_named(desk, given.booking_id)}"))
        if given.model is not None and given.model.lower() != str(booking.get("model")).lower():
            raise GpuProblem(f"That booking is for {device_words(booking)}, not {given.model}; leave the model out.")
        return booking
    for booking in pages.items_of(desk.link.get("bookings", limit=20)):
        if booking.get("state") == "confirmed" and _runs_now(booking) and _fits(booking, given):
            return booking
    return None


def _runs_now(booking: Mapping[str, Any]) -> bool:
    start, end = read_time(booking.get("starts_at")), read_time(booking.get("ends_at"))
    return start is not None and end is not None and start.timestamp() <= time.time() < end.timestamp()


def _fits(booking: Mapping[str, Any], given: SimpleNamespace) -> bool:
    cap = given.max_rate_microcredits_per_hour
    if cap is not None and int(booking.get("rate_microcredits_per_hour") or 0) > cap:
        return False
    named = given.model is None or given.model.lower() == str(booking.get("model")).lower()
    return named and int(booking.get("count") or 1) == given.count


def _loss_accepted(desk: Desk, preview: Mapping[str, Any] | None, given: SimpleNamespace) -> bool:
    """Ask where something would be lost; nothing lost, nothing asked."""
    if preview is None:
        return bool(given.yes)
    lost, problems = preview.get("lost") or [], preview.get("problems") or []
    if lost and given.strict:
        names = ", ".join(str(item.get("name")) for item in lost[:12])
        raise GpuProblem(f"With --strict nothing may stay behind, and this would: {names}. Nothing was switched.")
    if not lost and not problems:
        return bool(given.yes)
    if given.yes:
        return True
    what = f"leave {counted(len(lost), 'name')} behind" if lost else "go on all the same"
    if not desk.ask(f"Switch and {what}?"):
        raise Declined("Not switched: you said no. The notebook stays where it is and nothing was charged.")
    return True


# --- the switch ---------------------------------------------------------------------------------------------------


def _switch(desk: Desk, body: dict[str, Any], place: Mapping[str, Any], given: SimpleNamespace) -> None:
    """Ask for it; ``place`` is what the card calls the GPU by: a lease, or the quote of one to come."""
    body = {"kernel_id": desk.kernel_id, **body}
    for _ in range(4):  # as asked, and once more for each of the three kinds of what was found and accepted
        switch = post_with_approval(desk, "switches", body)
        ended = desk.begun(switch, place)
        if ended.get("state") != "failed":
            return
        error = ended.get("error") or {}
        details = error.get("details") or {}
        found = _found(details)
        wants_yes = error.get("code") == "loss_not_accepted" and not given.strict
        if not wants_yes or all(body[word] for word in found):
            raise GpuProblem(str(error.get("message") or "The switch failed."))
        preview = {**(ended.get("preview") or {}), **details}
        page = Page("What would be lost").add(loss_table(preview.get("lost")), *problem_notes(preview.get("problems")))
        desk.show(page.add(ways_on(preview.get("problems"), desk.zone, desk.command)))
        _loss_accepted(desk, preview, given)
        body = {**body, **dict.fromkeys(found, True)}
    raise GpuProblem("The switch failed again and again; the notebook stays where it is.")


def _found(details: Mapping[str, Any]) -> list[str]:
    """What has to be accepted for a move to go on: a yes to what was shown is none to what nobody has seen yet."""
    if details.get("only_there"):
        return ["accept_failures"]
    shown = {"accept_loss": details.get("lost"), "accept_problems": details.get("problems")}
    return [word for word, what in shown.items() if what]


def post_with_approval(desk: Desk, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Post; where the allowance does not cover it, wait for the person's answer in the browser and post again."""
    sent = {name: value for name, value in body.items() if value is not None}
    try:
        return dict(desk.link.post(path, sent, key=new_key()) or {})
    except LinkProblem as problem:
        if problem.code != "needs_approval":
            raise
        approval_id = str(problem.details.get("approval_id") or "")
        _await_approval(desk, approval_id, problem)
        return dict(desk.link.post(path, {**sent, "approval_id": approval_id}, key=new_key()) or {})


def _await_approval(desk: Desk, approval_id: str, problem: LinkProblem) -> None:
    needed, left = (problem.details.get(name) for name in ("needed_microcredits", "left_microcredits"))
    sums = ""
    if needed is not None and left is not None:
        sums = f" It needs {in_credits(int(needed))} credits, and {in_credits(int(left))} of the allowance are left."
    if not desk.from_kernel or not approval_id:
        raise GpuProblem(problem.message + sums)
    page = Page("Your approval is needed", tone="warning")
    page.add(
        Note(f"A notebook may spend only your allowance without asking you.{sums}"),
        WebLink("Approve or decline it in ComputeHub", desk.link.page_url, desk.link.page_path),
        Note(f"This cell waits for {in_words(APPROVAL_WAIT_SECONDS)}; interrupt it to stop waiting.", "quiet"),
    )
    desk.show(page)
    deadline = time.monotonic() + APPROVAL_WAIT_SECONDS
    try:
        while time.monotonic() < deadline:
            state = str((desk.link.get(f"approvals/{approval_id}") or {}).get("state"))
            if state in ("approved", "used"):
                desk.show(Page("Approved: going on", tone="good"))
                return
            if state in ("declined", "expired"):
                raise Declined(f"Not done: the approval was {state} in the browser.")
            desk.wait(APPROVAL_POLL_SECONDS)
    except KeyboardInterrupt:
        raise Declined("Not done: you stopped waiting for the approval. Nothing was charged.") from None
    raise GpuProblem(
        f"Nobody approved it within {in_words(APPROVAL_WAIT_SECONDS)}, so nothing was done. Approve it at "
        f"{desk.link.page_url} and run the cell again."
    )


# --- refusals -----------------------------------------------------------------------------------------------------


def problem_of(problem: LinkProblem, desk: Desk) -> GpuProblem:
    """A refusal of the API as a message with what would be right."""
    details = problem.details
    page = Page()
    if details.get("earliest") or details.get("alternatives"):
        model, seconds = str(details.get("model") or "GPU"), _seconds_of(details)
        page.add(*_choices(desk, details, model, seconds, int(details.get("count") or 1)))
    if problem.code == "insufficient_credits":
        page.add(Note(f"`{desk.command} balance` says what you have; an administrator can grant more.", "quiet"))
    return GpuProblem(problem.message, page if page.blocks else None)


def _choices(desk: Desk, details: Mapping[str, Any], model: str, seconds: int, count: int) -> list[Any]:
    return pages.nothing_free_blocks(
        details, model=model, seconds=seconds, count=count, zone=desk.zone, command=desk.command
    )


def _seconds_of(quote: Mapping[str, Any]) -> int:
    start, end = read_time(quote.get("starts_at")), read_time(quote.get("ends_at"))
    return int((end - start).total_seconds()) if start and end else 3600


def ended_problem(switch: Mapping[str, Any], desk: Desk) -> GpuProblem | None:
    """How a switch that did not come about is told in a cell that is still running."""
    if switch.get("state") not in ("failed", "cancelled"):
        return None
    page = page_of(switch, None, zone=desk.zone, command=desk.command)
    return GpuProblem(page.title, Page(blocks=page.blocks))
