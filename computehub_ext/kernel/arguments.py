"""The words of ``%gpu`` and ``computehub gpu``: one table from which parsing, help and completion all come.

Parsed by hand, not by argparse, whose messages differ between Python versions, say what was wrong but not what would
be right, and end the process.
"""

from __future__ import annotations

import difflib
import re
import shlex
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from .problems import UsageProblem
from .wording import as_microcredits, parse_duration, quoted

KEEP_FORMS = ("all", "none")
COUNT_MAX = 64
LINES_MAX = 200
HELP_WIDTH = 100


def _count(text: str, what: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= COUNT_MAX:
        raise UsageProblem(f"{what} takes a number of GPUs from 1 to {COUNT_MAX}, not {quoted(text)}")
    return int(text)


def _lines(text: str, what: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= LINES_MAX:
        raise UsageProblem(f"{what} takes a number of lines from 1 to {LINES_MAX}, not {quoted(text)}")
    return int(text)


def _keep(text: str, what: str) -> Any:
    if text in KEEP_FORMS:
        return text
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = [name for name in names if not name.isidentifier()]
    if wrong or not names:
        raise UsageProblem(
            f"{what} takes all, none or names of variables with commas between them (a,b), not {quoted(text)}"
        )
    return names


def _zone(text: str, what: str) -> str:
    from .wording import zone_of

    if zone_of(text)[0] != text:
        raise UsageProblem(f"{what} takes a time zone's IANA name such as Europe/Berlin, not {quoted(text)}")
    return text


def _text(text: str, what: str) -> str:
    if not text.strip():
        raise UsageProblem(f"{what} is empty")
    return text.strip()


@dataclass(frozen=True)
class Option:
    """``--flag`` of a word; without ``metavar`` it is a switch that takes no value."""

    flag: str
    dest: str
    help: str
    metavar: str = ""
    read: Callable[[str, str], Any] = _text
    default: Any = None

    @property
    def head(self) -> str:
        """As help writes it: ``--for 2h``."""
        return f"{self.flag} {self.metavar}".rstrip()


@dataclass(frozen=True)
class Argument:
    """A positional argument; ``rest`` swallows the words behind it, so that quotes can be left out."""

    dest: str
    metavar: str
    help: str
    needed: bool = True
    read: Callable[[str, str], Any] = _text
    rest: bool = False


@dataclass(frozen=True)
class Word:
    """One thing that can be asked for."""

    name: str
    summary: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    detail: str = ""
    examples: tuple[str, ...] = ()

    def usage(self, command: str) -> str:
        parts = [command] + ([self.name] if self.name != "status" else [])
        parts += [a.metavar if a.needed else f"[{a.metavar}]" for a in self.arguments]
        parts += [f"[{o.head}]" for o in self.options]
        return " ".join(parts)


_MODEL = Argument("model", "MODEL", "a GPU model as `offers` lists it (T4); capitals do not matter", needed=False)
_FOR = Option(
    "--for",
    "seconds",
    "how long to hold it; when left out, 2 hours or what your credits last for",
    "2h",
    parse_duration,
)
_COUNT = Option("--count", "count", "GPUs of that model at once; 1 when left out", "N", _count, 1)
_KEEP = Option(
    "--keep",
    "keep",
    "variables to take along: all (the usual), none, or names such as a,b",
    "all|none|a,b",
    _keep,
    "all",
)
_YES = Option("--yes", "yes", "do not ask: agree to what the preview shows", default=False)
_STRICT = Option("--strict", "strict", "refuse, instead of asking, when something cannot come along", default=False)
_LIMIT = Option("--limit", "limit", "lines to show; 20 when left out", "N", _lines, 20)

WORDS: tuple[Word, ...] = (
    Word("status", "where this notebook runs, the price, the time left and the balance"),
    Word("offers", "the GPU models there are, their price and when one is free"),
    Word("balance", "credits: available, held for bookings, and where they came from"),
    Word("bookings", "slots booked, running and past", options=(_LIMIT,)),
    Word("history", "what was granted, held and charged, newest first", options=(_LIMIT,)),
    Word(
        "on",
        "move this notebook to a GPU with its variables",
        (_MODEL,),
        (
            _FOR,
            Option(
                "--max-price",
                "max_rate_microcredits_per_hour",
                "most credits an hour that one GPU may cost; when left out, the price that the preview shows",
                "R",
                as_microcredits,
            ),
            _KEEP,
            _STRICT,
            _COUNT,
            Option("--booking", "booking_id", "use a slot booked before; it sets model, number and end", "ID"),
            Option(
                "--idle",
                "idle_seconds",
                "give it back when no cell has run for so long; when left out, the administrator's limit",
                "20m",
                parse_duration,
            ),
            _YES,
        ),
        "Shows price and loss first: what cannot come along is named, with the reason, and you are asked. The switch "
        "happens when the cell is done; the cells behind it wait, and run on the GPU. If there is no GPU to be had the "
        "cell fails, so that Run All stops there. Interrupt the kernel to cancel a switch under way.",
        ("on", "on T4 --for 2h", "on --max-price 1.5 --keep model,data --yes"),
    ),
    Word(
        "extend",
        "keep the GPU for longer",
        (Argument("seconds", "TIME", "how much longer, such as 1h or 30m", read=parse_duration),),
        examples=("extend 1h",),
    ),
    Word(
        "shorten",
        "give the GPU back earlier, and get that part of the hold back",
        (Argument("seconds", "TIME", "how much earlier, such as 30m", read=parse_duration),),
        examples=("shorten 30m",),
    ),
    Word(
        "off",
        "move back to the CPU with the variables; the rest of the money is released",
        options=(_KEEP, _STRICT, _YES),
        detail="What cannot come back is named first, and you are asked.",
        examples=("off", "off --keep results --yes"),
    ),
    Word(
        "book",
        "book a slot for later",
        (
            Argument("model", "MODEL", "a GPU model as `offers` lists it (T4)"),
            Argument(
                "when",
                "WHEN",
                'its start in your time zone: "tomorrow 14:00", "2026-03-28 09:30", "14:00", or with its own offset',
                rest=True,
            ),
        ),
        (_FOR, _COUNT, Option("--zone", "zone", "the time zone of WHEN when it is not yours", "Europe/Berlin", _zone)),
        "The answer says the start absolutely, where you are and in UTC. Credits for the whole slot are held until "
        "then; cancelling before the start releases all of them.",
        ('book T4 "tomorrow 14:00" --for 2h',),
    ),
    Word(
        "cancel",
        "cancel a booking, or a switch that is under way",
        (Argument("id", "ID", "as `bookings` or the switch's card shows it; its last characters are enough"),),
        examples=("cancel bkg_01jd2v…",),
    ),
    Word(
        "estimate",
        "what a stay would cost, from the price and from this notebook's own past",
        (_MODEL,),
        (_FOR,),
        examples=("estimate --for 2h", "estimate V100 --for 30m"),
    ),
    Word(
        "allowance",
        "what notebooks may spend in 24 hours without asking you",
        (
            Argument(
                "per_day_microcredits",
                "CREDITS",
                "a new allowance; only in the shell or the browser, never from a notebook",
                needed=False,
                read=as_microcredits,
            ),
        ),
    ),
    Word("help", "this text, or that of one word", (Argument("word", "WORD", "any of the above", needed=False),)),
)
BY_NAME: dict[str, Word] = {word.name: word for word in WORDS}
_HELP_FLAGS = ("--help", "-h", "-?", "?")


def split(line: str) -> list[str]:
    """Split a magic's line as a shell would; a comment at its end is dropped."""
    for candidate in (line, line.split(" #")[0]):
        try:
            words = shlex.split(candidate)
        except ValueError:
            continue
        for number, word in enumerate(words):
            if word.startswith("#"):
                return words[:number]
        return words
    raise UsageProblem(f"A quotation mark is not closed in {quoted(line)}")


def parse(words: Sequence[str], command: str = "%gpu") -> tuple[str, SimpleNamespace]:
    """Read the words behind the command.

    Returns
    -------
    The word's name and its values; ``("help", namespace with word)`` where help was asked for.

    Raises
    ------
    UsageProblem
        Saying what was wrong and what would be right.
    """
    words = list(words)
    if not words:
        return "status", SimpleNamespace()
    first, rest = words[0], words[1:]
    if first in _HELP_FLAGS:
        return "help", SimpleNamespace(word=None)
    word = BY_NAME.get(first.lower())
    if word is None:
        if first.startswith("-"):
            raise UsageProblem(f"An option needs a word before it, such as `{command} on {' '.join(words)}`")
        raise UsageProblem(
            f"{quoted(first)} is not a word of {command}{_closest(first, list(BY_NAME), command)}",
        )
    if any(flag in rest for flag in _HELP_FLAGS):
        return "help", SimpleNamespace(word=word.name)
    return word.name, _values(word, rest, command)


def _values(word: Word, rest: Sequence[str], command: str) -> SimpleNamespace:
    values: dict[str, Any] = {option.dest: option.default for option in word.options}
    options = {option.flag: option for option in word.options}
    given_flags: list[str] = []
    positional: list[str] = []
    pending = list(rest)
    while pending:
        token = pending.pop(0)
        if token == "--":
            positional += pending
            break
        if not token.startswith("-") or token[1:2].isdigit():
            positional.append(token)
            continue
        flag, equals, value = token.partition("=")
        option = options.get(flag)
        if option is None:
            raise UsageProblem(f"`{command} {word.name}` has no option {flag}{_closest_option(flag, word, command)}")
        if flag in given_flags:
            raise UsageProblem(f"{flag} is given twice")
        given_flags.append(flag)
        if not option.metavar:
            if equals:
                raise UsageProblem(f"{flag} takes no value")
            values[option.dest] = True
            continue
        if not equals:
            if not pending or (pending[0].startswith("--")):
                raise UsageProblem(f"{flag} needs a value: {flag} {option.metavar}")
            value = pending.pop(0)
        values[option.dest] = option.read(value, flag)
    values["given"] = tuple(given_flags)
    _fill(word, positional, values, command)
    return SimpleNamespace(**values)


def _fill(word: Word, positional: list[str], values: dict[str, Any], command: str) -> None:
    left = list(positional)
    for argument in word.arguments:
        if not left:
            if argument.needed:
                raise UsageProblem(f"{argument.metavar} is missing: {_right(word, command)}")
            values[argument.dest] = None
            continue
        text = " ".join(left) if argument.rest else left[0]
        if argument.dest == "model" and _like_duration(text):
            raise UsageProblem(f"{quoted(text)} is no GPU model; for a length of time write --for {text}")
        left = [] if argument.rest else left[1:]
        values[argument.dest] = argument.read(text, argument.metavar)
    if left:
        if _like_duration(left[-1]) and any(option.flag == "--for" for option in word.options):
            raise UsageProblem(f"For a length of time write --for {left[-1]}")
        raise UsageProblem(f"{quoted(' '.join(left))} is too much: {_right(word, command)}")


def _like_duration(text: str) -> bool:
    try:
        parse_duration(text, "")
    except UsageProblem:
        return False
    return True


def _right(word: Word, command: str) -> str:
    right = f"{command} {word.examples[0]}" if word.examples else word.usage(command)
    return f"`{right}`"


def _closest(given: str, known: list[str], command: str) -> str:
    close = difflib.get_close_matches(given.lower(), known, 1, 0.5)
    if close:
        return f"; did you mean `{command} {close[0]}`?"
    return "; it knows " + ", ".join(known)


def _closest_option(flag: str, word: Word, command: str) -> str:
    known = [option.flag for option in word.options]
    close = difflib.get_close_matches(flag, known, 1, 0.5)
    if close:
        return f"; did you mean {close[0]}?"
    elsewhere = [w.name for w in WORDS if any(o.flag == flag for o in w.options)]
    if elsewhere:
        return "; it belongs to " + ", ".join(f"`{command} {name}`" for name in elsewhere)
    return "; it has " + ", ".join(known) if known else "; it has none"


def help_text(word: str | None, command: str = "%gpu") -> str:
    """The help of all words, or of one."""
    if word is not None:
        found = BY_NAME.get(word.lower())
        if found is None:
            raise UsageProblem(f"There is no help on {quoted(word)}{_closest(word, list(BY_NAME), command + ' help')}")
        return "\n".join(_word_help(found, command))
    lines = [f"{command} – GPUs for this notebook, booked and paid by the second in credits", ""]
    for each in WORDS:
        usage = textwrap.wrap(each.usage(command), HELP_WIDTH, subsequent_indent="      ", break_on_hyphens=False)
        lines += ["  " + line for line in usage] + ["      " + each.summary[0].upper() + each.summary[1:] + "."]
    lines += ["", "Options:"]
    seen: dict[str, tuple[str, list[str]]] = {}
    for each in WORDS:
        for option in each.options:
            head = option.flag + (" " + option.metavar if option.metavar else "")
            seen.setdefault(head, (option.help, []))[1].append(each.name)
    width = max(len(head) for head in seen)
    for head, (text, names) in seen.items():
        lines.append(f"  {head.ljust(width)}  {text} ({', '.join(names)})")
    lines += [
        "",
        "1 credit is an hour of the reference GPU. From a notebook no more than your allowance is spent without asking",
        f"you in the browser. `{command} WORD --help` says more about one word.",
    ]
    return "\n".join(lines)


def _word_help(word: Word, command: str) -> list[str]:
    lines = [word.usage(command), "", word.summary[0].upper() + word.summary[1:] + "."]
    if word.detail:
        lines += ["", *textwrap.wrap(word.detail, HELP_WIDTH)]
    rows = [(a.metavar, a.help + ("" if a.needed else " (may be left out)")) for a in word.arguments]
    rows += [(o.flag + (" " + o.metavar if o.metavar else ""), o.help) for o in word.options]
    if rows:
        width = max(len(head) for head, _ in rows)
        lines += [""] + [f"  {head.ljust(width)}  {text}" for head, text in rows]
    if word.examples:
        lines += ["", "For example:"] + [f"  {command} {example}" for example in word.examples]
    return lines
