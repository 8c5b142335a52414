"""When a rule says that something comes again, in wall-clock time."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st

from computehub_ext.bookings.recurrence import OCCURRENCES_MAX, _walk, expand, parse
from computehub_ext.core.errors import Invalid

BERLIN = "Europe/Berlin"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def local(text: str, zone: str = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def expanded(rule: str, start: str = "2026-03-03T14:00", zone: str = BERLIN, **more: Any) -> list[str]:
    inputs = {"now": NOW, "max_ahead": timedelta(days=60), **more}
    found = expand(rule, start_at=local(start, zone), time_zone=zone, **inputs)
    return [each.start_at.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M") for each in found]


@pytest.mark.parametrize(
    ("rule", "times"),
    [
        ("FREQ=DAILY;COUNT=3", ["03-03 14:00", "03-04 14:00", "03-05 14:00"]),
        ("freq=daily;interval=2;count=2;", ["03-03 14:00", "03-05 14:00"]),
        ("FREQ=WEEKLY;BYDAY=MO,WE;COUNT=3", ["03-04 14:00", "03-09 14:00", "03-11 14:00"]),
        ("FREQ=WEEKLY;INTERVAL=2;COUNT=2", ["03-03 14:00", "03-17 14:00"]),
        ("FREQ=DAILY;UNTIL=20260305", ["03-03 14:00", "03-04 14:00", "03-05 14:00"]),
        ("FREQ=DAILY;UNTIL=20260304T130000Z", ["03-03 14:00", "03-04 14:00"]),
        ("FREQ=DAILY;UNTIL=20260304T125959Z", ["03-03 14:00"]),
        ("FREQ=MONTHLY;COUNT=2", ["03-03 14:00", "04-03 14:00"]),
        ("FREQ=MONTHLY;BYDAY=-1FR;COUNT=2", ["03-27 14:00", "04-24 14:00"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1;COUNT=1", ["04-01 14:00"]),
        ("FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=1", ["03-31 14:00"]),
    ],
)
def test_rules_that_people_write(rule: str, times: list[str]) -> None:
    assert expanded(rule) == times


def test_the_time_of_day_stays_when_the_clocks_change() -> None:
    found = expand("FREQ=WEEKLY;COUNT=5", start_at=local("2026-03-18T14:00"), time_zone=BERLIN, now=NOW,
                   max_ahead=timedelta(days=60))  # fmt: skip
    assert [each.start_at.hour for each in found] == [13, 13, 12, 12, 12], "an hour earlier in UTC from 29 March on"
    assert {each.note for each in found} == {None}


def test_a_time_that_the_clocks_skip_is_the_next_one_and_said() -> None:
    found = expand("FREQ=DAILY;COUNT=3", start_at=local("2026-03-28T02:30"), time_zone=BERLIN, now=NOW,
                   max_ahead=timedelta(days=60))  # fmt: skip
    assert [each.start_at for each in found] == [
        local("2026-03-28T02:30"), datetime(2026, 3, 29, 1, tzinfo=UTC), local("2026-03-30T02:30")
    ]  # fmt: skip
    assert found[1].note == "The clocks go forward over 02:30 on 2026-03-29; that one begins at 03:00."


def test_of_a_time_that_comes_twice_the_first_is_taken_and_said() -> None:
    now = datetime(2026, 10, 1, tzinfo=UTC)
    found = expand("FREQ=DAILY;COUNT=2", start_at=local("2026-10-24T02:30"), time_zone=BERLIN, now=now,
                   max_ahead=timedelta(days=60))  # fmt: skip
    assert found[1].start_at == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert found[1].note is not None
    assert "comes twice" in found[1].note


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("FREQ=HOURLY;COUNT=2", "DAILY, WEEKLY or MONTHLY"),
        ("COUNT=2", "DAILY, WEEKLY or MONTHLY"),
        ("FREQ=DAILY", "either COUNT or UNTIL"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20260305", "either COUNT or UNTIL"),
        ("FREQ=DAILY;COUNT=0", "COUNT is a whole number"),
        ("FREQ=DAILY;COUNT=61", "at most 60"),
        ("FREQ=DAILY;INTERVAL=0;COUNT=2", "INTERVAL is a whole number"),
        ("FREQ=DAILY;COUNT=2;COUNT=3", "each once"),
        ("FREQ=DAILY;COUNT", "NAME=VALUE"),
        ("FREQ=DAILY;COUNT=2;BYHOUR=3", "BYHOUR is not known"),
        ("FREQ=DAILY;UNTIL=20261331", "UNTIL is a day"),
        ("FREQ=DAILY;UNTIL=20260101", "names no time"),
        ("FREQ=WEEKLY;BYDAY=1MO;COUNT=2", "FREQ=MONTHLY only"),
        ("FREQ=WEEKLY;BYDAY=XX;COUNT=2", "not a weekday"),
        ("FREQ=WEEKLY;BYMONTHDAY=3;COUNT=2", "does not go with"),
        ("FREQ=DAILY;BYDAY=MO;BYSETPOS=1;COUNT=2", "BYSETPOS goes with"),
        ("FREQ=MONTHLY;BYMONTHDAY=0;COUNT=2", "counts from 1"),
        ("FREQ=WEEKLY;COUNT=10", "at most 60 days ahead"),
        ("FREQ=DAILY;UNTIL=20991231", "at most 60"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=1", "names no time"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=MO;COUNT=1", "names no time"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(rule: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        expanded(rule)
    assert refused.value.details["field"] == "rrule"
    assert words in refused.value.message


def test_a_zone_that_is_none() -> None:
    with pytest.raises(Invalid) as refused:
        expand("FREQ=DAILY;COUNT=2", start_at=NOW, time_zone="Europe/Atlantis", now=NOW, max_ahead=timedelta(days=60))
    assert refused.value.details["field"] == "time_zone"


def test_sixty_is_the_most() -> None:
    until = {"now": NOW, "max_ahead": timedelta(days=365)}
    assert len(expanded("FREQ=DAILY;COUNT=60", **until)) == OCCURRENCES_MAX
    with pytest.raises(Invalid, match="at most 60"):
        expanded("FREQ=DAILY;UNTIL=20261231", **until)


def test_a_rule_that_never_comes_true_is_answered_at_once() -> None:
    begun = time.process_time()
    for rule in ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30;COUNT=1", "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=9;UNTIL=29991231"):
        with pytest.raises(Invalid):
            expanded(rule)
    assert time.process_time() - begun < 0.5


weekdays = st.lists(st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"]), min_size=1, max_size=3, unique=True)


@st.composite
def rules(draw: st.DrawFn) -> str:
    freq = draw(st.sampled_from(["DAILY", "WEEKLY", "MONTHLY"]))
    parts = [f"FREQ={freq}", f"INTERVAL={draw(st.integers(1, 4))}"]
    days = draw(weekdays)
    if freq == "WEEKLY" and draw(st.booleans()):
        parts += [f"BYDAY={','.join(days)}", f"WKST={draw(st.sampled_from(['MO', 'SU']))}"]
    if freq == "MONTHLY":
        kind = draw(st.sampled_from(["same", "nth", "day", "position"]))
        if kind == "nth":
            parts.append("BYDAY=" + ",".join(f"{draw(st.sampled_from([1, 2, 4, 5, -1, -5]))}{day}" for day in days))
        elif kind == "day":
            parts.append(f"BYMONTHDAY={draw(st.sampled_from([1, 15, 28, 30, 31, -1, -3]))}")
        elif kind == "position":
            parts += [f"BYDAY={','.join(days)}", f"BYSETPOS={draw(st.sampled_from([1, 2, 4, -1, -2]))}"]
    return ";".join(parts)


@settings(max_examples=150, deadline=None)
@given(rule=rules(), first=st.integers(0, 800), length=st.integers(1, 500))
def test_the_walk_agrees_with_a_general_parser(rule: str, first: int, length: int) -> None:
    start = datetime(2026, 1, 1, 14) + timedelta(days=first)
    until = start + timedelta(days=length)
    text = f"{rule};UNTIL={until:%Y%m%dT%H%M%S}"
    ours = list(_walk(parse(text, ZoneInfo("UTC")), start, date(until.year, until.month, until.day)))
    assert ours == list(rrulestr(text, dtstart=start))
