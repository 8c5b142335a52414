"""The words of ``%gpu`` and ``computehub gpu``: one table from which parsing, help and completion all come."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .problems import UsageProblem
from .wording import as_microcredits, parse_duration, quoted, zone_of

KEEP_FORMS = ("all", "none")
COUNT_MAX = 64
LINES_MAX = 200


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


def _length_or_default(text: str, what: str) -> int | None:
    return None if text.lower() == "default" else parse_duration(text, what)


def _price_or_default(text: str, what: str) -> int | None:
    return None if text.lower() == "default" else as_microcredits(text, what)


def _zone(text: str, what: str) -> str:
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
    "how long to hold it; when left out, what `defaults` says, or less where your credits last for less",
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
                "most credits an hour that one GPU may cost; when left out, the price that the preview shows, within "
                "what `defaults` says",
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
                "give it back when no cell has run for so long; when left out, what `defaults` says",
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
    Word(
        "defaults",
        "what holds where you say nothing else: when an idle GPU is given back, how long one is held, what it may cost",
        options=(
            Option(
                "--idle",
                "idle_seconds",
                "your own idle time from now on; default follows the administrator's",
                "20m|default",
                _length_or_default,
            ),
            Option(
                "--for",
                "seconds",
                "your own usual length from now on; default follows the administrator's",
                "2h|default",
                _length_or_default,
            ),
            Option(
                "--max-price",
                "max_rate_microcredits_per_hour",
                "most credits an hour that one GPU may cost from now on; default is no limit of your own",
                "R|default",
                _price_or_default,
            ),
        ),
        detail="They hold in JupyterLab's panel, in cells and in the shell alike. To change them, open JupyterLab's "
        "Settings (GPUs and credits) or use the shell; a notebook can only read them.",
        examples=("defaults", "defaults --idle 20m"),
    ),
    Word("help", "this text, or that of one word", (Argument("word", "WORD", "any of the above", needed=False),)),
)
BY_NAME: dict[str, Word] = {word.name: word for word in WORDS}
