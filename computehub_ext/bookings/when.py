"""Read the times that people type, in their own time zone, and refuse what could mean two things.

The grammar is small on purpose: a guess that is wrong by a day costs money. It reads

    now | in DURATION | [DAY] TIME [ZONE] | TIME [ZONE] DAY | an ISO 8601 date and time, with or without offset

    DAY   today, tomorrow, day after tomorrow, monday, next monday, 2026-03-29, 29.3.2026, 29 march, march 29 2026
    TIME  14:00, 14:00:30, 2pm, 2:30 pm, noon, midnight
    ZONE  Z, UTC, +02:00, Europe/Berlin

A time without a day is its next occurrence. A day needs a time. ``03/04/2026`` is another day on either side of the
Atlantic and is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from fractions import Fraction
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from computehub_ext.core.errors import Invalid

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_EXAMPLES = 'such as "14:00", "tomorrow 14:00", "monday 9am", "in 2h" or "2026-03-29 14:00"'
_TEXT_MAX = 100
# People type to the minute: "14:00" typed at 14:00:20 means now, not tomorrow.
_GRAIN = timedelta(minutes=1)

_TIME = re.compile(
    r"(?<![\w:.+-])(?:(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?\s*(?P<half>[ap]m)?"
    r"|(?P<hour12>[0-9]{1,2})\s*(?P<half12>[ap]m)|(?P<word>noon|midnight))(?![\w:])"
)
_OFFSET = re.compile(r"(?<=[\s0-9apmn])(?P<sign>[+-])(?P<hours>[0-9]{2}):?(?P<minutes>[0-9]{2})$")
_ISO = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[t ]([0-9]{2}:[0-9]{2})")
_ISO_DAY = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})")
_DOTTED_DAY = re.compile(r"([0-9]{1,2})\.\s?([0-9]{1,2})\.\s?([0-9]{4})?")
_NAMED_DAY = re.compile(
    r"(?:(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?\.?\s+(?:of\s+)?(?P<month>[a-z]{3,9})"
    r"|(?P<month2>[a-z]{3,9})\s+(?P<day2>[0-9]{1,2})(?:st|nd|rd|th)?)(?:\s+(?P<year>[0-9]{4}))?"
)


def parse_when(text: str, time_zone: str, now: datetime) -> datetime:
    """Return the moment, in UTC, that a person in ``time_zone`` means by ``text``.

    Parameters
    ----------
    text:
        As typed, in the grammar above.
    time_zone:
        The person's zone, such as ``Europe/Berlin``; used where the text names none.
    now:
        The current moment; "today" is its day in ``time_zone``.

    Raises
    ------
    Invalid
        Of field ``when``: not understood, past, or a local time that the change of the clocks skips or repeats. Of
        field ``time_zone``: there is no such zone.
    """
    home = find_zone(time_zone)
    words = " ".join(text.casefold().replace(",", " ").split())
    if not words or len(words) > _TEXT_MAX:
        raise _not_understood(text)
    try:
        if words == "now":
            return now
        if words.startswith("in "):
            return now + _relative(words[3:])
        if moment := _read_iso(words, home, text, now):
            return moment
        typed, zone = _split_zone(text, words, home)
        return _resolve(_read(text, typed, now.astimezone(zone)), zone, text, now)
    except OverflowError as error:
        raise Invalid(f'"{text}" is too far away.', field="when") from error


def parse_duration(text: str) -> timedelta:
    """Read ``2h``, ``90m``, ``1h30m``, ``1.5h``, ``45 min``, ``2 hours``, ``1d`` or ISO 8601's ``PT2H``.

    Raises
    ------
    Invalid
        Of field ``duration``: not understood, without a unit, zero or negative.
    """
    words = "".join(text.casefold().split())
    if words.startswith("-"):
        raise Invalid(f'A duration is longer than zero, not "{text}".', field="duration")
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", words):
        raise Invalid(f'"{text}" has no unit: write "{text.strip()}m" or "{text.strip()}h".', field="duration")
    match = _DURATION.fullmatch(words) or _ISO_DURATION.fullmatch(words)
    if len(words) > _TEXT_MAX or match is None or not any(match.groups()):
        raise Invalid(f'"{text}" is not a duration such as "2h", "90m", "1h30m" or "PT2H".', field="duration")
    parts = {unit: Fraction(number) for unit, number in match.groupdict().items() if number}
    microseconds = sum(number * _UNIT_SECONDS[unit] * 1_000_000 for unit, number in parts.items())
    try:
        duration = timedelta(microseconds=int(microseconds))
    except OverflowError as error:
        raise Invalid(f'"{text}" is too long.', field="duration") from error
    if duration <= timedelta(0):
        raise Invalid(f'A duration is longer than zero, not "{text}".', field="duration")
    return duration


_UNIT_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
_N = r"[0-9]{1,12}(?:\.[0-9]{1,9})?"
_DURATION = re.compile(
    rf"(?:(?P<weeks>{_N})w(?:eeks?|ks?)?)?(?:(?P<days>{_N})d(?:ays?)?)?(?:(?P<hours>{_N})h(?:(?:ou)?rs?)?)?"
    rf"(?:(?P<minutes>{_N})m(?:in(?:ute)?s?)?)?(?:(?P<seconds>{_N})s(?:ec(?:ond)?s?)?)?"
)
_ISO_DURATION = re.compile(
    rf"p(?:(?P<weeks>{_N})w)?(?:(?P<days>{_N})d)?"
    rf"(?:t(?:(?P<hours>{_N})h)?(?:(?P<minutes>{_N})m)?(?:(?P<seconds>{_N})s)?)?"
)


@dataclass(frozen=True)
class _Typed:
    """A local time as typed: the day is None where only a time was given."""

    day: date | None
    time: time
    fuzzy_year: bool = False
    weekday: bool = False


def find_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f'There is no time zone "{name}"; an example is "Europe/Berlin".', field="time_zone") from error


def _read_iso(words: str, home: ZoneInfo, text: str, now: datetime) -> datetime | None:
    """What a program writes, fractions of seconds included; None for everything else."""
    if not _ISO.match(words):
        return None
    try:
        read = datetime.fromisoformat(words.upper())
    except ValueError:
        return None
    moment = read.astimezone(UTC) if read.tzinfo else _localised(read, home, text, now)
    if moment + _GRAIN <= now:
        raise _past(text, moment.astimezone(read.tzinfo or home), now)
    return max(moment, now)


def _relative(words: str) -> timedelta:
    try:
        return parse_duration(re.sub(r"^an? ", "1 ", words))
    except Invalid as error:
        raise Invalid(f'"in {words}" is not understood: {error.message}', field="when") from error


def _split_zone(text: str, words: str, home: ZoneInfo) -> tuple[str, tzinfo]:
    """Take the zone off the end, or use the person's own."""
    words = _ISO.sub(r"\1 \2", words)
    offset = _OFFSET.search(words)
    if offset:
        size = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"]))
        if size >= timedelta(hours=24) or int(offset["minutes"]) > 59:
            raise _not_understood(text)
        return words[: offset.start()].strip(), timezone(-size if offset["sign"] == "-" else size)
    if re.search(r"[0-9m ](?:z|utc|gmt)$", words):
        return re.sub(r"\s*(?:z|utc|gmt)$", "", words), UTC
    rest, _, last = words.rpartition(" ")
    if re.fullmatch(r"[a-z_]+/[a-z_/+-]+[0-9]*", last):
        typed_name = text.split()[-1].strip(",")
        try:
            return rest, ZoneInfo(typed_name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise Invalid(
                f'There is no time zone "{typed_name}"; an example is "Europe/Berlin".', field="when"
            ) from None
    return words, home


def _read(text: str, words: str, local_now: datetime) -> _Typed:
    found = list(_TIME.finditer(words))
    if len(found) != 1:
        day_only = not found and _read_day(words, local_now) is not None
        if day_only:
            raise Invalid(f'"{text}" needs a time of day too, such as "{text.strip()} 14:00".', field="when")
        raise _not_understood(text)
    clock = _read_time(text, found[0])
    rest = words[: found[0].start()] + " " + words[found[0].end() :]
    rest = " ".join(word for word in rest.split() if word not in {"at", "on", "o'clock"})
    if not rest:
        return _Typed(None, clock)
    day = _read_day(rest, local_now)
    if day is None:
        raise _not_understood(text)
    return _Typed(day[0], clock, fuzzy_year=day[1] == "year", weekday=day[1] == "weekday")


def _read_time(text: str, match: re.Match[str]) -> time:
    if match["word"]:
        return time(12 if match["word"] == "noon" else 0)
    hour, half = int(match["hour"] or match["hour12"]), match["half"] or match["half12"]
    if half:
        if not 1 <= hour <= 12:
            raise _not_understood(text)
        hour = hour % 12 + (12 if half == "pm" else 0)
    try:
        return time(hour, int(match["minute"] or 0), int(match["second"] or 0))
    except ValueError as error:
        raise Invalid(f'"{match[0].strip()}" is not a time of day: {error}.', field="when") from error


def _read_day(words: str, local_now: datetime) -> tuple[date, str] | None:
    """The day, and what is open about it: its ``year``, which ``weekday``, or nothing (``day``)."""
    today = local_now.date()
    ahead = {"today": 0, "tonight": 0, "tomorrow": 1, "day after tomorrow": 2, "the day after tomorrow": 2}.get(words)
    if ahead is not None:
        return today + timedelta(days=ahead), "day"
    this, _, name = words.rpartition(" ")
    if this in {"", "this", "next", "coming"}:
        for number, weekday in enumerate(_WEEKDAYS):
            if name in {weekday, weekday[:3]}:
                away = (number - today.weekday()) % 7
                if this == "next" and away == 0:
                    return today + timedelta(days=7), "day"
                return today + timedelta(days=away), "weekday"
    if match := _ISO_DAY.fullmatch(words):
        return _date(words, *(int(part) for part in match.groups())), "day"
    if match := _DOTTED_DAY.fullmatch(words):
        year = int(match[3] or today.year)
        return _date(words, year, int(match[2]), int(match[1])), "day" if match[3] else "year"
    if match := _NAMED_DAY.fullmatch(words):
        month = match["month"] or match["month2"]
        for number, name in enumerate(_MONTHS, start=1):
            if month in {name, name[:3]} or (number == 9 and month == "sept"):
                day = int(match["day"] or match["day2"])
                return _date(words, int(match["year"] or today.year), number, day), "day" if match["year"] else "year"
    return None


def _date(words: str, year: int, month: int, day: int) -> date:
    try:
        return date(year, month, day)
    except ValueError as error:
        raise Invalid(f'"{words}" is not a day: {error}.', field="when") from error


def _resolve(typed: _Typed, zone: tzinfo, text: str, now: datetime) -> datetime:
    """Turn a local time into a moment, moving what was left open (day, weekday, year) to its next occurrence."""
    local = datetime.combine(typed.day or now.astimezone(zone).date(), typed.time)
    moment = _localised(local, zone, text, now)
    if moment + _GRAIN <= now:
        if typed.day is None:
            moment = _localised(local + timedelta(days=1), zone, text, now)
        elif typed.weekday:
            moment = _localised(local + timedelta(days=7), zone, text, now)
        elif typed.fuzzy_year:
            moment = _localised(_a_year_on(local), zone, text, now)
        else:
            raise _past(text, moment.astimezone(zone), now)
    return max(moment, now)


def _a_year_on(local: datetime) -> datetime:
    for years in range(1, 9):  # 29 February may be 8 years away, over a century's turn
        try:
            return local.replace(year=local.year + years)
        except ValueError:
            continue
    raise OverflowError("no such day within reach")


def _localised(local: datetime, zone: tzinfo, text: str, now: datetime) -> datetime:
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
        valid = end_of_gap(second.astimezone(UTC), first.astimezone(UTC), zone)
        raise Invalid(
            f'"{text}" does not exist: the clocks go forward over {local:%H:%M} on {local:%Y-%m-%d}. '
            f"The next time that does is {_iso(valid)}.",
            field="when",
            next_valid=_iso(valid),
        )
    options = [_iso(moment) for moment in (first, second) if moment.astimezone(UTC) + _GRAIN > now]
    if len(options) == 1:
        return second.astimezone(UTC)
    raise Invalid(
        f'"{text}" comes twice: the clocks go back over {local:%H:%M} on {local:%Y-%m-%d}. '
        f"Say which with an offset: {' or '.join(options)}.",
        field="when",
        options=options,
    )


def end_of_gap(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The moment, between two, at which the clocks change, to the second."""
    old = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0).astimezone(zone)


def _iso(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="minutes")


def _past(text: str, local: datetime, now: datetime) -> Invalid:
    message = f'"{text}" is past: that was {_iso(local)}, and it is {_iso(now.astimezone(local.tzinfo))} now.'
    return Invalid(message, field="when")


def _not_understood(text: str) -> Invalid:
    shown = text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "…"
    return Invalid(f'"{shown}" is not a time that is understood; write it {_EXAMPLES}.', field="when")
