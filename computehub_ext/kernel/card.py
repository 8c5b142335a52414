"""The card of one switch: a pure function of its JSON, so that cell and server draw the same thing.

The cell that asked draws it first; after that cell has ended the server goes on drawing it, under the same display id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .offered import instead
from .report import Commands, Facts, Note, Page, Progress, Table, joined
from .wording import counted, in_credits, in_words, moment_in_words, read_time, size_in_words
from .zone import local_zone

STATE_WORDS = {
    "requested": "Asked for",
    "waiting": "Waiting for the running cell to end",
    "checking": "Checking what the notebook uses",
    "starting": "Starting the kernel",
    "capturing": "Collecting the variables",
    "restoring": "Restoring the variables",
    "verifying": "Verifying them",
    "swapping": "Changing over",
    "done": "Done",
    "failed": "Not switched",
    "cancelled": "Cancelled",
}
STATES_ENDED = ("done", "failed", "cancelled")
ROWS_MAX = 30
NOTES_MAX = 8


def display_id(switch: Mapping[str, Any]) -> str:
    """The id under which this switch's card is displayed and updated."""
    return f"computehub-{switch.get('id', '')}"


def render(
    switch: Mapping[str, Any],
    lease: Mapping[str, Any] | None = None,
    *,
    zone: str | None = None,
    command: str = "%gpu",
) -> dict[str, str]:
    """Draw a switch as a mime bundle of ``text/html`` and ``text/plain``.

    Parameters
    ----------
    switch:
        The Switch as the API returns it; what is missing in it is left out.
    lease:
        The Lease that it moves to or from, when there is one.
    zone:
        IANA name of the zone that times are written in, beside UTC; this machine's, where a kernel and its server
        agree, when left out.
    command:
        How the reader types commands: ``%gpu`` or ``computehub gpu``.
    """
    page = page_of(switch, lease, zone=zone or local_zone(), command=command)
    return {"text/html": page.html(), "text/plain": page.plain()}


def page_of(
    switch: Mapping[str, Any], lease: Mapping[str, Any] | None = None, *, zone: str = "UTC", command: str = "%gpu"
) -> Page:
    state = str(switch.get("state", "requested"))
    to_gpu = switch.get("target") != "cpu"
    place = device_words(lease) if lease else ("GPU" if to_gpu else "CPU")
    page = Page()
    if state == "done":
        page.title = f"This notebook is on {_article(place) if to_gpu else 'the CPU'} now"
        page.tone = "good"
        page.add(*_result(switch), *problem_notes((switch.get("preview") or {}).get("problems")))
        page.add(*_lease_blocks(lease, to_gpu, zone, command))
    elif state == "cancelled":
        page.title, page.tone = "Cancelled: the notebook stays where it was", "warning"
        page.add(_unharmed(to_gpu))
    elif state == "failed":
        page.title = f"Not switched to {'a GPU' if to_gpu else 'the CPU'}: the notebook stays where it was"
        page.tone = "error"
        page.add(*_failure(switch, to_gpu, zone, command), _unharmed(to_gpu))
    else:
        page.title = f"Moving to {_article(place) if to_gpu else 'the CPU'}"
        label = switch.get("step_message") or STATE_WORDS.get(state, state)
        page.add(Progress(str(label), float(switch.get("progress") or 0.0)))
        waiting = "The switch happens as soon as this cell is done. " if state in ("requested", "waiting") else ""
        page.add(Note(f"{waiting}Cells after it wait for it. Interrupt the kernel to cancel.", "quiet"))
    return page


def device_words(lease: Mapping[str, Any]) -> str:
    """``T4``, ``2 × V100`` or ``T4 (simulated)``."""
    model, count = str(lease.get("model") or "GPU"), int(lease.get("count") or 1)
    return (f"{count} × {model}" if count > 1 else model) + (" (simulated)" if lease.get("simulated") else "")


def lease_facts(lease: Mapping[str, Any], zone: str, *, lasting: bool = False) -> tuple[tuple[str, str], ...]:
    """What a lease costs and how long it lasts, by the control plane's clock.

    ``lasting`` leaves out what is true for a moment only: a card stays in the notebook for good.
    """
    pairs: list[tuple[str, str]] = [("GPU", device_words(lease))]
    count, rate = int(lease.get("count") or 1), int(lease.get("rate_microcredits_per_hour") or 0)
    each = f" ({in_credits(rate)} for each of {count})" if count > 1 else ""
    billed = lease.get("billed_as") or "credits"
    pairs.append(("Price", f"{in_credits(rate * count)} {billed} an hour{each}, by the second"))
    if lease.get("started_at") and not lasting:
        pairs.append(("Spent so far", in_credits(int(lease.get("cost_microcredits") or 0), 4) + " credits"))
    if lease.get("held_microcredits") is not None and lease.get("state") != "closed":
        pairs.append(("Held for it", in_credits(int(lease["held_microcredits"])) + " credits"))
    left = None if lasting else seconds_left(lease)
    if lease.get("ends_at"):
        ends = moment_in_words(lease["ends_at"], zone)
        pairs.append(("Ends", ends + (f", in {in_words(left)}" if left is not None else "")))
    idle = lease.get("idle_timeout_seconds")
    if idle:
        pairs.append(("Given back", f"when no cell has run for {in_words(int(idle))}"))
    return tuple(pairs)


def seconds_left(lease: Mapping[str, Any]) -> float | None:
    """Time left when the server last looked at its clock; this machine's own may be wrong."""
    now, ends = read_time(lease.get("server_now")), read_time(lease.get("ends_at"))
    if now is None or ends is None or lease.get("state") == "closed":
        return None
    return max(0.0, (ends - now).total_seconds())


def loss_table(lost: Any, caption: str = "Cannot come along") -> Table | None:
    """Names that stay behind, and why."""
    rows = [
        (str(item.get("name", "?")), str(item.get("type") or ""), str(item.get("reason") or ""))
        for item in lost or ()
        if isinstance(item, dict)
    ]
    if not rows:
        return None
    if len(rows) > ROWS_MAX:
        rows = [*rows[:ROWS_MAX], (f"… and {len(rows) - ROWS_MAX} more", "", "")]
    return Table(f"{caption} ({counted(len(lost), 'name')})", ("Name", "Type", "Why"), tuple(rows))


def problem_notes(problems: Any) -> list[Note]:
    """What the place lacks, one sentence each."""
    found = [p for p in problems or () if isinstance(p, dict)]
    return [Note(str(p.get("message") or p.get("kind") or "?"), "warning") for p in found]


def ways_on(problems: Any, zone: str, command: str) -> Commands | None:
    """Where a notebook would fit that is too large for the place it was to go to."""
    fits = [offer for p in problems or () if isinstance(p, dict) for offer in p.get("fits") or ()]
    return instead(fits, zone, command)


def _article(place: str) -> str:
    if place[:1].isdigit() or place == "GPU":
        return "a GPU" if place == "GPU" else place
    return ("an " if place[:1] in "AEFHILMNORSX" else "a ") + place


def _result(switch: Mapping[str, Any]) -> list[Any]:
    result = switch.get("result") or {}
    restored, lost = result.get("restored") or [], result.get("lost") or []
    blocks: list[Any] = []
    if restored:
        seconds = result.get("seconds")
        took = f" in {float(seconds):.1f} s" if seconds is not None else ""
        size = size_in_words(result.get("bytes"))
        blocks.append(Note(f"{counted(len(restored), 'name')} came along ({size}){took}: {joined(restored)}."))
    elif result:
        blocks.append(Note("No variables to carry."))
    blocks.append(loss_table(lost, "Left behind"))
    notes = result.get("notes") or []
    blocks += [Note(str(note), "warning") for note in notes[:NOTES_MAX]]
    if len(notes) > NOTES_MAX:
        blocks.append(Note(f"… and {len(notes) - NOTES_MAX} more notes", "quiet"))
    return blocks


def _lease_blocks(lease: Mapping[str, Any] | None, to_gpu: bool, zone: str, command: str) -> list[Any]:
    if not lease:
        return []
    if to_gpu:
        commands = Commands(
            "",
            (
                (f"{command}", "what it costs so far and how long it lasts"),
                (f"{command} off", "back to the CPU with the variables; the rest of the money is released"),
            ),
        )
        return [Facts("The GPU and its price", lease_facts(lease, zone, lasting=True)), commands]
    spent = int(lease.get("cost_microcredits") or 0)
    return [Note(f"{device_words(lease)} cost {in_credits(spent, 4)} credits; the rest is released.")]


def _failure(switch: Mapping[str, Any], to_gpu: bool, zone: str, command: str) -> list[Any]:
    error = switch.get("error") or {}
    details = error.get("details") or {}
    preview = switch.get("preview") or {}
    blocks: list[Any] = []
    if error.get("message"):
        blocks.append(Note(str(error["message"]), "error"))
    if error.get("code") == "loss_not_accepted":
        blocks.append(loss_table(details.get("lost") or preview.get("lost")))
        problems = details.get("problems") or preview.get("problems")
        blocks += [*problem_notes(problems), ways_on(problems, zone, command)]
        word = f"{command} {'on' if to_gpu else 'off'}"
        blocks.append(Note(f"To go on all the same, add --yes to `{word}`; with --keep a,b only a and b come along."))
    return blocks


def _unharmed(to_gpu: bool) -> Note | None:
    return Note("Nothing was charged. Cells that waited were not run on the CPU.", "quiet") if to_gpu else None
