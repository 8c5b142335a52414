"""Credits, durations, times and sizes as people read and write them: pure functions, the same in magic and shell."""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from .problems import UsageProblem

MICROCREDITS_PER_CREDIT = 1_000_000
DURATION_SECONDS_MAX = 366 * 24 * 3600
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SHORT_DURATION = re.compile(
    r"^(?:(?P<d>\d+(?:\.\d+)?)\s*d(?:ays?)?)?\s*"
    r"(?:(?P<h>\d+(?:\.\d+)?)\s*h(?:ours?|rs?)?)?\s*"
    r"(?:(?P<m>\d+(?:\.\d+)?)\s*m(?:in(?:ute)?s?)?)?\s*"
    r"(?:(?P<s>\d+(?:\.\d+)?)\s*s(?:ec(?:ond)?s?)?)?$",
    re.IGNORECASE | re.ASCII,
)
_ISO_DURATION = re.compile(
    r"^P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?$",
    re.IGNORECASE | re.ASCII,
)
_UNIT_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZE_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def clean(text: Any, limit: int = 300) -> str:
    """Make a stranger's text safe to print: control characters are shown, not obeyed, and long text is cut."""
    out = []
    for char in str(text):
        if char in "\n\t":
            out.append(" ")
        elif unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"):
            out.append(f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}")
        else:
            out.append(char)
    joined = "".join(out)
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"


def in_credits(amount_microcredits: int, digits: int = 2) -> str:
    """Write an amount; digits beyond ``digits`` are cut, except where nothing but zeros would be left of it."""
    amount = abs(int(amount_microcredits))
    sign = "-" if amount_microcredits < 0 else ""
    whole, rest = divmod(amount, MICROCREDITS_PER_CREDIT)
    fraction = f"{rest:06d}"
    shown = fraction[:digits]
    if whole == 0 and rest and not shown.strip("0"):
        shown = fraction.rstrip("0")
    return f"{sign}{whole:,}.{shown}"


def credits_as_typed(amount_microcredits: int) -> str:
    """Write an amount exactly, as an option takes it: ``0.8``, ``2``."""
    whole, rest = divmod(amount_microcredits, MICROCREDITS_PER_CREDIT)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def as_microcredits(text: str, what: str) -> int:
    """Read an amount of credits exactly (no float comes near it)."""
    match = re.match(r"^([0-9]{1,9})(?:[.]([0-9]{1,6}))?$", text.strip())
    if not match:
        raise UsageProblem(
            f"{what} takes an amount of credits such as 2 or 2.5 (at most six decimals), not {quoted(text)}"
        )
    return int(match.group(1)) * MICROCREDITS_PER_CREDIT + int((match.group(2) or "").ljust(6, "0"))


def price_microcredits(rate_microcredits_per_hour: int, seconds: int, count: int = 1) -> int:
    """Price of a hold, for words only: what is charged is what the control plane says."""
    return rate_microcredits_per_hour * seconds * count // 3600


def affordable_seconds(available_microcredits: int, rate_microcredits_per_hour: int, count: int = 1) -> int:
    """The longest hold, in whole minutes, that an available balance pays for."""
    if rate_microcredits_per_hour <= 0:
        return DURATION_SECONDS_MAX
    seconds = max(0, available_microcredits) * 3600 // (rate_microcredits_per_hour * max(1, count))
    return min(DURATION_SECONDS_MAX, seconds // 60 * 60)


def parse_duration(text: str, what: str) -> int:
    """Read ``2h``, ``90m``, ``1h30m``, ``1.5h``, ``2 hours`` or ``PT2H`` as whole seconds."""
    given = text.strip()
    match = _SHORT_DURATION.match(given) or _ISO_DURATION.match(given)
    parts: dict[str, str] = {k: v for k, v in match.groupdict().items() if v} if match else {}
    right = "write it like 2h, 90m, 1h30m or 1d"
    if not parts:
        if re.match(r"^\d+(\.\d+)?$", given):
            raise UsageProblem(f"{what} needs a unit: {given}h for hours or {given}m for minutes?")
        raise UsageProblem(f"{what} takes a length of time, not {quoted(text)}: {right}")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for unit, number in parts.items())
    if not math.isfinite(seconds) or seconds > DURATION_SECONDS_MAX:
        raise UsageProblem(f"{what} of {quoted(text)} is more than a year: {right}")
    if seconds < 1:
        raise UsageProblem(f"{what} of {quoted(text)} is no time at all: {right}")
    return round(seconds)


def in_words(seconds: float) -> str:
    """Write a length of time: ``1 h 30 min``, ``45 s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 600 and whole % 60:
        return f"{whole // 60} min {whole % 60} s"
    minutes = (whole + 30) // 60  # a lease that began a second ago has 30 minutes left, not 29
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def as_typed(seconds: float) -> str:
    """Write a length of time as an option takes it: ``1h30m``."""
    whole = max(1, int(seconds))
    parts = []
    for letter in "dhms":
        count, whole = divmod(whole, _UNIT_SECONDS[letter])
        if count:
            parts.append(f"{count}{letter}")
    return "".join(parts)


def read_time(value: Any) -> datetime | None:
    """Read RFC 3339 as the API writes it (Python before 3.11 does not take the ``Z``)."""
    if not isinstance(value, str) or not value:
        return None
    match = re.match(r"^(.*?)(?:\.(\d+))?(Z|z|[+-]\d\d:\d\d)$", value)
    if not match:
        return None
    base, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(base + ("+00:00" if offset in "Zz" else offset))
    except ValueError:
        return None
    return moment + timedelta(microseconds=int((fraction or "0")[:6].ljust(6, "0")))


def zone_of(name: str) -> tuple[str, tzinfo]:
    """Look a time zone up by its IANA name; one that this machine does not know becomes UTC, and is then called so."""
    if name.upper() != "UTC":
        try:
            from zoneinfo import ZoneInfo

            return name, ZoneInfo(name)
        except Exception:  # no tzdata, a directory name, a damaged file: each has its own exception type
            pass
    return "UTC", timezone.utc


def moment_in_words(value: Any, zone: str) -> str:
    """Write a time absolutely, where the user is and in UTC: ``Sat 21 Nov 2026, 14:00 CET (13:00 UTC)``."""
    moment = read_time(value)
    if moment is None:
        return "?"
    name, tz = zone_of(zone)
    local, utc = moment.astimezone(tz), moment.astimezone(timezone.utc)
    shown = f"{_date(local)}, {_clock(local)}"
    if name == "UTC":
        return shown + " UTC"
    label = local.tzname() or name
    if re.match(r"^[+-]\d", label):
        label = name
    if local.utcoffset() == timedelta(0) and label in ("UTC", "GMT"):
        return f"{shown} {label}"
    same_day = local.date() == utc.date()
    return "{} {} ({} UTC)".format(shown, label, _clock(utc) if same_day else f"{_date(utc)[:-5]} {_clock(utc)}")


def _date(moment: datetime) -> str:
    return f"{_DAYS[moment.weekday()]} {moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S" if moment.second else "%H:%M")


def moment_as_typed(value: Any, zone: str) -> str:
    """Write a time as ``book`` takes it, with its offset, so that it means one moment in every zone and season."""
    moment = read_time(value)
    if moment is None:
        return "?"
    local = moment.astimezone(zone_of(zone)[1])
    spec = "microseconds" if local.microsecond else ("seconds" if local.second else "minutes")
    return local.isoformat(timespec=spec)


def size_in_words(count: Any) -> str:
    """Write a size in bytes: ``12.3 MB``."""
    amount = float(count or 0)
    for unit in _SIZE_UNITS:
        if amount < 1000 or unit == _SIZE_UNITS[-1]:
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """``counted(2, "name") == "2 names"``."""
    return f"{count} {one if count == 1 else (many or one + 's')}"


def quoted(text: Any) -> str:
    return f'"{clean(text, 80)}"'
