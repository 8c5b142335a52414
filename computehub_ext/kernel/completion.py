"""Tab completion behind ``%gpu``: words, options, models, ids and names of variables."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .words import BY_NAME, WORDS, Word

WAIT_SECONDS = 0.4
FRESH_SECONDS = {"models": 60.0, "bookings": 5.0}
_VALUES = {
    "--for": ("30m", "1h", "2h", "4h"),
    "--idle": ("10m", "20m", "1h"),
    "--count": ("1", "2"),
    "--limit": ("20", "50", "100"),
}
_TIMES = ("30m", "1h", "2h")


class Lookup:
    """Lists that the server knows, kept for a moment. A slow server costs an empty answer, not a frozen cell.

    Parameters
    ----------
    ask:
        ``(kind) -> list of words``, slow and possibly raising; runs in a thread.
    """

    def __init__(self, ask: Callable[[str], list[str]], wait_seconds: float = WAIT_SECONDS) -> None:
        self._ask = ask
        self._wait_seconds = wait_seconds
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._asking: dict[str, threading.Thread] = {}

    def __call__(self, kind: str) -> list[str]:
        at, words = self._known.get(kind, (float("-inf"), []))
        if time.monotonic() - at < FRESH_SECONDS[kind]:
            return words
        thread = self._asking.get(kind)
        if thread is None or not thread.is_alive():
            thread = threading.Thread(target=self._fetch, args=(kind,), name="computehub-completion", daemon=True)
            self._asking[kind] = thread
            thread.start()
        thread.join(self._wait_seconds)
        return self._known.get(kind, (0.0, words))[1]

    def _fetch(self, kind: str) -> None:
        try:
            words = self._ask(kind)
        except Exception:  # completion has nobody to tell; the command itself will say what is wrong
            words = self._known.get(kind, (0.0, []))[1]
        self._known[kind] = (time.monotonic(), words)


def complete(before: str, lookup: Callable[[str], list[str]], names: Iterable[str]) -> list[str]:
    """What could stand at the cursor.

    Parameters
    ----------
    before:
        The text behind ``%gpu`` up to the cursor.
    lookup:
        ``"models"`` or ``"bookings"`` -> words.
    names:
        Variables of the notebook.
    """
    if before.count('"') % 2 or before.count("'") % 2:
        return []
    words = before.split()
    symbol = "" if not before or before[-1].isspace() else words.pop()
    if not words:
        return _starting([word.name for word in WORDS] + ["--help"], symbol)
    word = BY_NAME.get(words[0].lower())
    if word is None:
        return []
    given = words[1:]
    flag, equals, value = symbol.partition("=")
    pending = flag if equals else (given[-1] if given else "")
    option = next((o for o in word.options if o.flag == pending and o.metavar), None)
    if option is not None:
        return _values_of(option.flag, value if equals else symbol, lookup, names)
    if symbol.startswith("-"):
        free = [o.flag for o in word.options if o.flag not in given]
        return _starting([*free, "--help"], symbol)
    return _starting(_arguments_of(word, given, lookup), symbol)


def _values_of(flag: str, value: str, lookup: Callable[[str], list[str]], names: Iterable[str]) -> list[str]:
    if flag == "--keep":
        head, _, last = value.rpartition(",")
        taken = set(head.split(","))
        forms = [] if head else ["all", "none"]
        return _starting(forms + sorted(name for name in names if name not in taken), last)
    if flag == "--booking":
        return _starting(lookup("bookings"), value)
    return _starting(list(_VALUES.get(flag, ())), value)


def _arguments_of(word: Word, given: list[str], lookup: Callable[[str], list[str]]) -> list[str]:
    positional = 0
    skip = False
    for each in given:
        if skip:
            skip = False
        elif each.startswith("-"):
            option = next((o for o in word.options if o.flag == each), None)
            skip = option is not None and bool(option.metavar)
        else:
            positional += 1
    flags = [o.flag for o in word.options if o.flag not in given]
    if positional >= len(word.arguments):
        return flags
    dest = word.arguments[positional].dest
    found: Mapping[str, Callable[[], list[str]]] = {
        "model": lambda: lookup("models"),
        "id": lambda: lookup("bookings"),
        "seconds": lambda: list(_TIMES),
        "word": lambda: [each.name for each in WORDS],
        "when": lambda: ['"tomorrow 09:00"', '"14:00"'],
    }
    return (found[dest]() if dest in found else []) + flags


def _starting(candidates: list[str], symbol: str) -> list[str]:
    low = symbol.lower()
    return [each for each in candidates if each.lower().startswith(low)]


def words_of(kind: str, link: Any) -> list[str]:
    """Ask the server for one of the lists."""
    from .pages import items_of

    if kind == "models":
        return [str(offer["model"]) for offer in items_of(link.get("offers"))]
    found = items_of(link.get("bookings", limit=50))
    return [str(b["id"]) for b in found if b.get("state") in ("held", "confirmed", "active")]
