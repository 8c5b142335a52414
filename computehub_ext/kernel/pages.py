"""What the API answers, as pages: pure functions of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from .card import device_words, lease_facts, loss_table, problem_notes, seconds_left
from .offered import instead
from .report import Commands, Facts, Note, Page, Table
from .wording import (
    affordable_seconds,
    as_typed,
    counted,
    in_credits,
    in_words,
    moment_as_typed,
    moment_in_words,
    read_time,
    size_in_words,
)

ORIGINS = (("granted", "granted"), ("purchased", "bought"), ("earned", "earned"))
EARLIEST_MAX = 3
CHARGES_APART_MAX = timedelta(minutes=5)
KINDS = {"hold": "held", "draw": "charged", "grant": "granted", "release": "released", "reversal": "reversed"}


def status_page(kernel: Mapping[str, Any], me: Mapping[str, Any], zone: str, command: str) -> Page:
    lease, switch = kernel.get("lease"), kernel.get("switch")
    page = Page()
    if kernel.get("place") == "gpu" and lease:
        page.title = f"This notebook runs on {device_words(lease)}"
        page.tone = "good"
        facts = lease_facts(lease, zone)
        if not kernel.get("is_mine", True):
            facts += (("Paid by", str((kernel.get("payer") or {}).get("display_name") or "somebody else")),)
        page.add(Facts("The GPU and its price", facts))
        left = seconds_left(lease)
        if lease.get("state") == "closing":
            page.add(Note("The notebook is moving back to the CPU.", "warning"))
        elif left is not None and left <= 600:
            keeps = f"; `{command} extend 1h` keeps it" if withheld(kernel, "extend") is None else ""
            page.add(Note(f"It ends in {in_words(left)}{keeps}.", "warning"))
    else:
        page.title = "This notebook runs on the CPU"
        page.add(*_last_lease(kernel.get("last_lease"), zone, command))
    if switch and switch.get("state") not in ("done", "failed", "cancelled"):
        page.add(Note(f"A switch is under way: {switch.get('step_message') or switch.get('state')}."))
    page.add(Note("Balance: " + balance_words(me.get("balance") or {})))
    if kernel.get("place") == "gpu" and (why := withheld(kernel, "move")) is not None:
        page.add(Note(why, "quiet"))
    elif kernel.get("place") == "gpu":
        page.add(Commands("", ((f"{command} off", "back to the CPU with the variables"),)))
    else:
        page.add(
            Commands(
                "",
                ((f"{command} offers", "what there is and what it costs"), (f"{command} on", "move to a GPU")),
            )
        )
    return page


def _last_lease(lease: Mapping[str, Any] | None, zone: str, command: str) -> list[Any]:
    """Why the notebook is on the CPU, where nobody asked for it, and where it could go on."""
    if not lease or not lease.get("end_message"):
        return []
    said = Note(f"It was on {device_words(lease)}. {lease['end_message']}", "warning")
    return [said, instead([lease["roomier"]], zone, command, "With more room:") if lease.get("roomier") else None]


def withheld(kernel: Mapping[str, Any], right: str) -> str | None:
    """Why somebody may not ``extend``, ``shorten`` or ``move`` what another one pays for; None where they may try."""
    may = kernel.get("may") or {}
    if kernel.get("is_mine", True) or may.get(right, True):
        return None
    return str(may["why"]) if may.get("why") else None


def balance_words(balance: Mapping[str, Any]) -> str:
    held = int(balance.get("held_microcredits") or 0)
    words = in_credits(int(balance.get("available_microcredits") or 0)) + " credits available"
    return words + (f", {in_credits(held)} more held" if held else "")


def balance_page(me: Mapping[str, Any]) -> Page:
    balance = me.get("balance") or {}
    origins = balance.get("by_origin") or {}
    pairs = [
        ("Available", in_credits(int(balance.get("available_microcredits") or 0)) + " credits"),
        ("Held for bookings", in_credits(int(balance.get("held_microcredits") or 0)) + " credits"),
        ("In all", in_credits(int(balance.get("posted_microcredits") or 0)) + " credits"),
    ]
    came = [f"{in_credits(int(_amount(origins, key)))} {words}" for key, words in ORIGINS if _amount(origins, key)]
    if came:
        pairs.append(("Of it", ", ".join(came)))
    pairs.append(("Notebooks may spend", _allowance_words(me.get("allowance") or {})))
    return Page(f"Balance of {_who(me)}").add(Facts("Credits", tuple(pairs)))


def allowance_page(me: Mapping[str, Any], approvals: Sequence[Mapping[str, Any]], zone: str) -> Page:
    page = Page(f"What notebooks of {_who(me)} may spend by themselves")
    page.add(Facts("Allowance", (("They may spend", _allowance_words(me.get("allowance") or {})),)))
    waiting = [a for a in approvals if a.get("state") == "pending"]
    if waiting:
        rows = tuple(
            (
                str(a.get("purpose") or ""),
                in_credits(int(a.get("amount_microcredits") or 0)),
                str(a.get("notebook_path") or ""),
                moment_in_words(a.get("expires_at"), zone),
            )
            for a in waiting
        )
        page.add(
            Table("Waiting for your answer in the browser", ("For", "Credits", "Notebook", "Until"), rows, ("Credits",))
        )
    return page


def defaults_page(me: Mapping[str, Any]) -> Page:
    page = Page(f"What holds for {_who(me)} where a move or a booking says nothing else")
    limits, own = me.get("limits") or {}, me.get("defaults") or {}
    length = own.get("duration_seconds")
    held = f"{in_words(int(length or limits.get('default_duration_seconds') or 0))}, {_whose(length)}"
    most = own.get("max_rate_microcredits_per_hour")
    price = f"at most {in_credits(int(most))} credits an hour each" if most else "no limit but the price you are shown"
    page.add(Facts("Defaults", (("Given back", idle_words(me) or "?"), ("Held for", held), ("Price", price))))
    page.add(
        Note("Set in JupyterLab's Settings, or in the shell: `computehub gpu defaults --idle 20m --for 2h`.", "quiet")
    )
    return page


def idle_words(me: Mapping[str, Any], asked_seconds: int | None = None) -> str | None:
    """After how long an idle GPU goes back, and who says so; None where an older server does not tell."""
    if asked_seconds is not None:
        return f"when no cell has run for {in_words(asked_seconds)}"
    own = (me.get("defaults") or {}).get("idle_timeout_seconds")
    seconds = own or (me.get("limits") or {}).get("idle_timeout_seconds")
    return f"when no cell has run for {in_words(int(seconds))}, {_whose(own)}" if seconds else None


def _whose(own: Any) -> str:
    return "your default" if own else "the administrator's default"


def bookings_page(bookings: Sequence[Mapping[str, Any]], zone: str, command: str) -> Page:
    if not bookings:
        example = f'{command} book T4 "tomorrow 14:00" --for 2h'
        return Page("No bookings").add(Commands("", ((example, "books a slot"),)))
    rows = tuple(
        (
            str(b.get("id") or ""),
            device_words(b),
            moment_in_words(b.get("starts_at"), zone),
            _length(b),
            in_credits(int(b.get("amount_microcredits") or 0)),
            str(b.get("state") or ""),
        )
        for b in bookings
    )
    page = Page("Bookings").add(
        Table("Newest first", ("Booking", "GPU", "Start", "Length", "Credits", "State"), rows, ("Credits",))
    )
    ahead = next((b for b in bookings if b.get("state") in ("held", "confirmed")), None)
    if ahead:
        page.add(Commands("", ((f"{command} cancel {ahead.get('id')}", "cancels it"),)))
    return page


def booked_page(booking: Mapping[str, Any], zone: str, command: str) -> Page:
    amount = int(booking.get("amount_microcredits") or 0)
    page = Page(f"Booked: {device_words(booking)}", tone="good")
    page.add(
        Facts(
            "The booking",
            (
                ("Booking", str(booking.get("id") or "")),
                ("Start", moment_in_words(booking.get("starts_at"), zone)),
                ("End", moment_in_words(booking.get("ends_at"), zone)),
                ("Held for it", f"{in_credits(amount)} credits"),
            ),
        ),
        Commands(
            "",
            (
                (f"{command} on --booking {booking.get('id')}", "when it has started"),
                (f"{command} cancel {booking.get('id')}", "before the start all of it comes back"),
            ),
        ),
    )
    return page


def history_page(lines: Sequence[Mapping[str, Any]], zone: str) -> Page:
    """Lines as ``merged`` returns them: the meter's many small charges of one stay are one row."""
    if not lines:
        return Page("No history yet")
    rows = tuple(
        (
            moment_in_words(line.get("at"), zone),
            KINDS.get(str(line.get("kind")), str(line.get("kind") or "")),
            signed(int(line.get("amount_microcredits") or 0)),
            str(line.get("memo") or ""),
            str(line.get("origin") or ""),
        )
        for line in lines
    )
    return Page("History").add(Table("Newest first", ("When", "What", "Credits", "For", "Origin"), rows, ("Credits",)))


def merged(lines: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add charges for the same thing that follow each other closely up to one line, dated by the last of them."""
    current: dict[str, Any] | None = None
    earliest: Any = None
    for line in lines:
        at = read_time(line.get("at"))
        same = current is not None and all(current.get(name) == line.get(name) for name in ("kind", "memo", "origin"))
        if same and line.get("kind") == "draw" and at and earliest and earliest - at <= CHARGES_APART_MAX:
            assert current is not None
            current["amount_microcredits"] = int(current["amount_microcredits"]) + int(line["amount_microcredits"])
        else:
            if current is not None:
                yield current
            current = dict(line)
        earliest = at
    if current is not None:
        yield current


def estimate_page(estimate: Mapping[str, Any], command: str) -> Page:
    seconds = int(estimate.get("duration_seconds") or 0)
    page = Page(f"Estimate: {device_words(estimate)} for {in_words(seconds)}")
    pairs = [
        ("Price", in_credits(int(estimate.get("rate_microcredits_per_hour") or 0)) + " credits an hour each"),
        ("At most", in_credits(int(estimate.get("most_microcredits") or 0)) + " credits"),
    ]
    runs, usual = int(estimate.get("runs") or 0), estimate.get("usual_microcredits")
    if runs and usual is not None:
        length = in_words(int(estimate.get("usual_duration_seconds") or 0))
        pairs.append(("Likely", f"{in_credits(int(usual), 4)} credits"))
        pairs.append(("Because", f"this notebook held a GPU {counted(runs, 'time')}, usually for {length}"))
    page.add(
        Facts("What it would cost", tuple(pairs)),
        None if runs else Note("This notebook has not been on a GPU yet, so there is no past to judge by.", "quiet"),
        Note(
            "Only the time that the GPU is held is charged, by the second; what is left of the hold comes back.",
            "quiet",
        ),
        Commands("", ((f"{command} on {estimate.get('model')} --for {as_typed(seconds)}", "move there"),)),
    )
    return page


def quote_page(
    quote: Mapping[str, Any],
    preview: Mapping[str, Any] | None,
    available_microcredits: int | None,
    zone: str,
    idle: str | None = None,
) -> Page:
    """The preview: what it costs, when it goes back by itself and what is lost."""
    page = Page(f"{device_words(quote)} for this notebook")
    back = (("Given back", idle),) if idle else ()
    page.add(Facts("Preview", (*quote_facts(quote, preview, available_microcredits, zone), *back)))
    if preview:
        page.add(loss_table(preview.get("lost")), *problem_notes(preview.get("problems")))
    return page


def quote_facts(
    quote: Mapping[str, Any], preview: Mapping[str, Any] | None, available: int | None, zone: str
) -> tuple[tuple[str, str], ...]:
    rate, count = int(quote.get("rate_microcredits_per_hour") or 0), int(quote.get("count") or 1)
    each = f" ({in_credits(rate)} for each of {count})" if count > 1 else ""
    of = f" of {in_credits(available)} available" if available is not None else " (held by the booking already)"
    amount = in_credits(int(quote.get("amount_microcredits") or 0))
    pairs = [
        ("Price", f"{in_credits(rate * count)} credits an hour{each}, charged by the second"),
        ("At most", f"{amount} credits{of}, until {moment_in_words(quote.get('ends_at'), zone)}"),
    ]
    pairs += preview_facts(preview)
    return tuple(pairs)


def preview_facts(preview: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if preview is None:
        return []
    carried = preview.get("carried") or []
    seconds = preview.get("seconds")
    took = f", about {float(seconds):.1f} s" if seconds else ""
    size = size_in_words(preview.get("total_bytes"))
    return [("Comes along", f"{counted(len(carried), 'name')}, {size}{took}")]


def nothing_free_blocks(
    details: Mapping[str, Any], *, model: str, seconds: int, count: int, zone: str, command: str
) -> list[Any]:
    """The earliest slots and the next best models, each one command away."""
    counts = f" --count {count}" if count > 1 else ""
    rows: list[tuple[str, str]] = []
    for slot in list(details.get("earliest") or [])[:EARLIEST_MAX]:
        start = slot.get("starts_at")
        if start is None:
            continue
        typed = f'{command} book {model} "{moment_as_typed(start, zone)}" --for {as_typed(seconds)}{counts}'
        rows.append((typed, f"from {moment_in_words(start, zone)}"))
    blocks: list[Any] = [Commands(f"Earliest with {model}:", tuple(rows))] if rows else []
    rows = []
    for other in list(details.get("alternatives") or []):
        name = str(other.get("model") or "?")
        price = in_credits(int(other.get("amount_microcredits") or 0))
        simulated = ", simulated" if other.get("simulated") else ""
        start = other.get("starts_at")
        if _is_later(other, details):
            typed = f'{command} book {name} "{moment_as_typed(start, zone)}" --for {as_typed(seconds)}{counts}'
            rows.append((typed, f"{price} credits{simulated}, from {moment_in_words(start, zone)}"))
        else:
            typed = f"{command} on {name} --for {as_typed(seconds)}{counts}"
            rows.append((typed, f"{price} credits{simulated}, free now"))
    if rows:
        blocks.append(Commands("Another model:", tuple(rows)))
    return blocks or [Commands("", ((f"{command} offers", "what there is and when it is free"),))]


def _is_later(other: Mapping[str, Any], details: Mapping[str, Any]) -> bool:
    """Whether an alternative starts clearly after the time that was asked for (a quote carries it)."""
    start, asked = read_time(other.get("starts_at")), read_time(details.get("starts_at") or details.get("server_now"))
    if start is None:
        return False
    if asked is None:
        from datetime import datetime, timezone

        asked = datetime.now(timezone.utc)
    return (start - asked).total_seconds() > 120


def shorter_commands(available: int, quote: Mapping[str, Any], command: str) -> Commands | None:
    """What an available balance would pay for."""
    count = int(quote.get("count") or 1)
    seconds = affordable_seconds(available, int(quote.get("rate_microcredits_per_hour") or 0), count)
    if seconds < 60:
        return None
    counts = f" --count {count}" if count > 1 else ""
    typed = f"{command} on {quote.get('model')} --for {as_typed(seconds)}{counts}"
    return Commands("Your credits are enough for:", ((typed, in_words(seconds)),))


def signed(amount_microcredits: int) -> str:
    return ("+" if amount_microcredits > 0 else "") + in_credits(amount_microcredits, 4)


def _allowance_words(allowance: Mapping[str, Any]) -> str:
    per_day = int(allowance.get("per_day_microcredits") or 0)
    if not per_day:
        return "nothing without asking you"
    left = allowance.get("left_microcredits")
    rest = f", {in_credits(int(left))} left" if left is not None else ""
    return f"{in_credits(per_day)} credits in 24 hours without asking you{rest}"


def _amount(origins: Mapping[str, Any], key: str) -> int:
    return int(origins.get(key) or origins.get(key + "_microcredits") or 0)


def _length(booking: Mapping[str, Any]) -> str:
    start, end = read_time(booking.get("starts_at")), read_time(booking.get("ends_at"))
    return in_words((end - start).total_seconds()) if start and end else "?"


def _who(me: Mapping[str, Any]) -> str:
    return str(me.get("display_name") or me.get("username") or "you")


def items_of(answer: Any) -> list[dict[str, Any]]:
    """The items of a list, whether the API wraps them or not."""
    if isinstance(answer, dict):
        answer = answer.get("items") or []
    return [item for item in answer or [] if isinstance(item, dict)]
