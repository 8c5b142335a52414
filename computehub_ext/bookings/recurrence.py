"""When something comes again: the part of RFC 5545's RRULE that people book by, on the wall clock of a zone. Pure.

    FREQ=DAILY|WEEKLY|MONTHLY, then INTERVAL, COUNT or UNTIL, BYDAY, BYMONTHDAY, BYMONTH, BYSETPOS (monthly), WKST

The walk goes day by day and ends with the time that may be booked ahead. A general parser looks for a match until the
year 9999: for ``BYMONTH=2;BYMONTHDAY=30`` that took seconds, in which nobody else would have been served.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from computehub_ext.bookings.when import end_of_gap, find_zone
from computehub_ext.core.errors import Invalid

OCCURRENCES_MAX = 60
_INTERVAL_MAX = 366
_LOOK_BEYOND = timedelta(days=366)
"""How far past what may be booked ahead we look for one more, so as to refuse it rather than leave it out."""
_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_KNOWN = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "BYDAY", "BYMONTHDAY", "BYMONTH", "BYSETPOS", "WKST")
_UNTIL = re.compile(r"(\d{4})(\d{2})(\d{2})(?:T(\d{2})(\d{2})(\d{2})(Z?))?")


@dataclass(frozen=True)
class Occurrence:
    """One time that a rule names. ``note`` says where the change of the clocks moved or doubled it."""

    start_at: datetime
    note: str | None = None


@dataclass(frozen=True)
class Rule:
    """An RRULE, read. ``until`` is local; ``by_day`` pairs a weekday with which one of the month (0: each)."""

    freq: str
    interval: int
    count: int | None
    until: datetime | None
    by_day: tuple[tuple[int, int], ...]
    by_month_day: tuple[int, ...]
    by_month: tuple[int, ...]
    by_set_pos: tuple[int, ...]
    week_start: int


def expand(text: str, *, start_at: datetime, time_zone: str, now: datetime, max_ahead: timedelta) -> list[Occurrence]:
    """List the times that a rule names, from ``start_at`` on, each at its time of day in ``time_zone``.

    A time of day that the clocks skip becomes the next one that exists; of one that comes twice the first is taken.

    Raises
    ------
    Invalid
        Of field ``rrule``: not understood, without an end, of more than 60 occurrences or of none, or reaching beyond
        ``max_ahead``. Of field ``time_zone``: there is no such zone.
    """
    zone = find_zone(time_zone)
    rule = parse(text, zone)
    first = start_at.astimezone(zone).replace(tzinfo=None)
    latest = now + max_ahead
    found: list[Occurrence] = []
    last_day = (latest + _LOOK_BEYOND).astimezone(zone).date()
    for local in _walk(rule, first, last_day):
        occurrence = Occurrence(start_at) if local == first else _localised(local, zone)
        if occurrence.start_at > latest:
            raise _invalid(
                f"A booking starts at most {max_ahead.days} days ahead; this rule goes on at {local:%Y-%m-%d %H:%M}. "
                f"End it sooner with COUNT or UNTIL."
            )
        found.append(occurrence)
        if len(found) > OCCURRENCES_MAX:
            raise _too_many()
        if len(found) == rule.count:
            break
    if not found or (rule.count is not None and len(found) < rule.count):
        raise _invalid("The rule names no time at all." if not found else "The rule names fewer times than its COUNT.")
    return found


def parse(text: str, zone: ZoneInfo) -> Rule:
    """Read the value of an RRULE, naming what is wrong with it."""
    parts: dict[str, str] = {}
    for part in text.strip().upper().rstrip(";").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value or name in parts:
            raise _invalid(f'"{part}" is not NAME=VALUE, each once, as in FREQ=WEEKLY;COUNT=4.')
        if name not in _KNOWN:
            raise _invalid(f"{name} is not known here: write {', '.join(_KNOWN)}.")
        parts[name] = value
    freq = parts.get("FREQ", "")
    if freq not in ("DAILY", "WEEKLY", "MONTHLY"):
        raise _invalid("FREQ is DAILY, WEEKLY or MONTHLY.")
    if ("COUNT" in parts) == ("UNTIL" in parts):
        raise _invalid("A rule ends: give either COUNT or UNTIL, as in FREQ=WEEKLY;COUNT=4.")
    rule = Rule(
        freq=freq,
        interval=_number("INTERVAL", parts.get("INTERVAL", "1"), 1, _INTERVAL_MAX),
        count=_number("COUNT", parts["COUNT"], 1, 10**6) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"], zone) if "UNTIL" in parts else None,
        by_day=tuple(_weekday(each) for each in _listed(parts, "BYDAY")),
        by_month_day=_numbers(parts, "BYMONTHDAY", 31, negative=True),
        by_month=_numbers(parts, "BYMONTH", 12, negative=False),
        by_set_pos=_numbers(parts, "BYSETPOS", 31, negative=True),
        week_start=_weekday(parts.get("WKST", "MO"))[0],
    )
    if rule.count is not None and rule.count > OCCURRENCES_MAX:
        raise _too_many()
    if freq != "MONTHLY" and any(nth for _, nth in rule.by_day):
        raise _invalid("A number before a weekday, as in BYDAY=1MO, goes with FREQ=MONTHLY only.")
    if freq == "WEEKLY" and rule.by_month_day:
        raise _invalid("BYMONTHDAY does not go with FREQ=WEEKLY.")
    if rule.by_set_pos and (freq != "MONTHLY" or not (rule.by_day or rule.by_month_day)):
        raise _invalid("BYSETPOS goes with FREQ=MONTHLY and BYDAY or BYMONTHDAY only.")
    return rule


def _walk(rule: Rule, first: datetime, last_day: date) -> Iterator[datetime]:
    """The local times from ``first`` until the rule or ``last_day`` ends."""
    begin, end = first.date(), last_day
    if rule.freq == "MONTHLY":  # a set position counts in the whole of its month
        begin, end = begin.replace(day=1), end + timedelta(days=31)
    days = (begin + timedelta(days=number) for number in range((end - begin).days + 1))
    matching: Iterator[date] = (day for day in days if _matches(rule, day, first.date()))
    if rule.by_set_pos:
        matching = _positions(rule, matching)
    for day in matching:
        local = datetime.combine(day, first.time())
        if day > last_day or (rule.until is not None and local > rule.until):
            return
        if local >= first:
            yield local


def _positions(rule: Rule, matching: Iterator[date]) -> Iterator[date]:
    for _, of_month in groupby(matching, key=lambda day: (day.year, day.month)):
        days = list(of_month)
        places = {place - 1 if place > 0 else len(days) + place for place in rule.by_set_pos}
        yield from (days[place] for place in sorted(places) if 0 <= place < len(days))


def _matches(rule: Rule, day: date, first: date) -> bool:
    if rule.by_month and day.month not in rule.by_month:
        return False
    if rule.freq == "DAILY":
        periods = (day - first).days
    elif rule.freq == "WEEKLY":
        periods = (_week(day, rule.week_start) - _week(first, rule.week_start)).days // 7
    else:
        periods = (day.year - first.year) * 12 + day.month - first.month
    if periods % rule.interval:
        return False
    length = ((day.replace(day=1) + timedelta(days=31)).replace(day=1) - day.replace(day=1)).days
    if rule.by_month_day and not {day.day, day.day - length - 1} & set(rule.by_month_day):
        return False
    if rule.by_day:
        nth, from_end = (day.day - 1) // 7 + 1, -((length - day.day) // 7 + 1)
        return any(day.weekday() == weekday and which in (0, nth, from_end) for weekday, which in rule.by_day)
    if rule.freq == "WEEKLY":
        return day.weekday() == first.weekday()
    return rule.freq == "DAILY" or bool(rule.by_month_day) or day.day == first.day


def _week(day: date, week_start: int) -> date:
    return day - timedelta(days=(day.weekday() - week_start) % 7)


def _localised(local: datetime, zone: ZoneInfo) -> Occurrence:
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return Occurrence(first.astimezone(UTC))
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local:
        note = f"{local:%H:%M} comes twice on {local:%Y-%m-%d}, when the clocks go back; the first is taken."
        return Occurrence(first.astimezone(UTC), note)
    valid = end_of_gap(second.astimezone(UTC), first.astimezone(UTC), zone)
    note = f"The clocks go forward over {local:%H:%M} on {local:%Y-%m-%d}; that one begins at {valid:%H:%M}."
    return Occurrence(valid.astimezone(UTC), note)


def _listed(parts: dict[str, str], name: str) -> list[str]:
    return parts[name].split(",") if name in parts else []


def _numbers(parts: dict[str, str], name: str, most: int, *, negative: bool) -> tuple[int, ...]:
    numbers = tuple(_number(name, each, -most if negative else 1, most) for each in _listed(parts, name))
    if 0 in numbers:
        raise _invalid(f"{name} counts from 1, or from -1 at the end.")
    return numbers


def _number(name: str, text: str, least: int, most: int) -> int:
    if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        raise _invalid(f"{name} is a whole number from {least} to {most}, not {text}.")
    return int(text)


def _weekday(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([+-]?[1-5])?(MO|TU|WE|TH|FR|SA|SU)", text)
    if match is None:
        raise _invalid(f'"{text}" is not a weekday: write {", ".join(_DAYS)}, or 1MO for the first Monday of a month.')
    return _DAYS.index(match[2]), int(match[1] or 0)


def _until(text: str, zone: ZoneInfo) -> datetime:
    """The last moment, on the local clock; a day counts as a whole."""
    match = _UNTIL.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        day = date(int(match[1]), int(match[2]), int(match[3]))
        if match[4] is None:
            return datetime.combine(day, time.max)
        moment = datetime.combine(day, time(int(match[4]), int(match[5]), int(match[6])))
        return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) if match[7] else moment
    except (ValueError, OverflowError) as error:
        raise _invalid(f"UNTIL is a day or a time such as 20260331 or 20260331T120000Z, not {text}.") from error


def _too_many() -> Invalid:
    return _invalid(f"A series has at most {OCCURRENCES_MAX} occurrences.", maximum=OCCURRENCES_MAX)


def _invalid(message: str, **details: object) -> Invalid:
    return Invalid(message, field="rrule", **details)
