"""Times as people type them. It is Monday, 2 March 2026, 09:00 UTC: 10:00 in Berlin, 04:00 in New York."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computehub_ext.bookings.when import parse_duration, parse_when
from computehub_ext.core.errors import Invalid

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def outcome(read: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """What was read, or the details of the refusal."""
    try:
        return read(), {}
    except Invalid as refusal:
        return None, refusal.details


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Berlin is an hour ahead of UTC until 29 March, then two.
        ("now", "2026-03-02T09:00"),
        ("NOW", "2026-03-02T09:00"),
        ("14:00", "2026-03-02T13:00"),
        ("14:00:30", "2026-03-02T13:00:30"),
        ("2pm", "2026-03-02T13:00"),
        ("2 PM", "2026-03-02T13:00"),
        ("2:30 pm", "2026-03-02T13:30"),
        ("12am", "2026-03-02T23:00"),
        ("12pm", "2026-03-02T11:00"),
        ("noon", "2026-03-02T11:00"),
        ("midnight", "2026-03-02T23:00"),
        ("09:00", "2026-03-03T08:00"),  # over for today, so tomorrow's
        ("10:00", "2026-03-02T09:00"),  # this minute
        ("today 14:00", "2026-03-02T13:00"),
        ("tonight 8pm", "2026-03-02T19:00"),
        ("tomorrow 14:00", "2026-03-03T13:00"),
        ("tomorrow at 14:00", "2026-03-03T13:00"),
        ("at 14:00 tomorrow", "2026-03-03T13:00"),
        ("  Tomorrow,  14:00 ", "2026-03-03T13:00"),
        ("day after tomorrow 9am", "2026-03-04T08:00"),
        ("monday 14:00", "2026-03-02T13:00"),
        ("monday 9:00", "2026-03-09T08:00"),  # over for today
        ("next monday 14:00", "2026-03-09T13:00"),
        ("fri 14:00", "2026-03-06T13:00"),
        ("on friday at 14:00", "2026-03-06T13:00"),
        ("2026-03-20 14:00", "2026-03-20T13:00"),
        ("2026-03-20T14:00", "2026-03-20T13:00"),
        ("2026-3-20 14:00", "2026-03-20T13:00"),
        ("20.3.2026 14:00", "2026-03-20T13:00"),
        ("20.3. 14:00", "2026-03-20T13:00"),
        ("1.3. 14:00", "2027-03-01T13:00"),  # yesterday, so next year's
        ("20 march 14:00", "2026-03-20T13:00"),
        ("20th of March 2pm", "2026-03-20T13:00"),
        ("mar 20 2026 14:00", "2026-03-20T13:00"),
        ("14:00 March 20, 2026", "2026-03-20T13:00"),
        ("1 march 14:00", "2027-03-01T13:00"),
        ("29 february 2028 14:00", "2028-02-29T13:00"),
        ("in 2h", "2026-03-02T11:00"),
        ("in an hour", "2026-03-02T10:00"),
        ("in 90 minutes", "2026-03-02T10:30"),
        ("in 1h30m", "2026-03-02T10:30"),
        # The other zones
        ("2026-03-20T14:00Z", "2026-03-20T14:00"),
        ("2026-03-20 14:00z", "2026-03-20T14:00"),
        ("2026-03-20T14:00:00.250Z", "2026-03-20T14:00:00.250"),
        ("2026-03-20T14:00:00+02:00", "2026-03-20T12:00"),
        ("2026-03-20 14:00 +02:00", "2026-03-20T12:00"),
        ("2026-03-20 14:00 -0500", "2026-03-20T19:00"),
        ("14:00+05:30", "2026-03-03T08:30"),
        ("tomorrow 14:00 UTC", "2026-03-03T14:00"),
        ("tomorrow 14:00 America/New_York", "2026-03-03T19:00"),
        ("14:00 America/New_York", "2026-03-02T19:00"),
        # Half an hour before and after the clocks change
        ("2026-03-29 01:30", "2026-03-29T00:30"),
        ("2026-03-29 03:00", "2026-03-29T01:00"),
        ("2026-10-25 01:59", "2026-10-24T23:59"),
        ("2026-10-25 03:00", "2026-10-25T02:00"),
        ("2026-10-25 02:30+02:00", "2026-10-25T00:30"),
        ("2026-10-25 02:30+01:00", "2026-10-25T01:30"),
    ],
)
def test_understood(text: str, expected: str) -> None:
    assert parse_when(text, BERLIN, NOW) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "soon", "banana", "tomorrow-ish", "14", "1400", "25:00", "14:60", "14:00 15:00", "13pm", "0am",
        "2 pm pm", "tomorrow yesterday 14:00", "yesterday 14:00", "32 march 14:00", "29 february 2026 14:00",
        "2026-02-30 14:00", "03/04/2026 14:00", "2026-03-20", "tomorrow", "monday", "20 march", "may 14:00",
        "14:00 may", "2026-03-02 09:58", "today 9:00", "2026-03-01T14:00Z", "2026-03-02T08:58:59Z", "1999-01-01 10:00",
        "in -2h", "in 2", "in two moons", "in", "14:00+25:00", "14:00 Mars/Olympus", "tomorrow 14:00 CEST",
        "9999-12-31T23:59-12:00", "0001-01-01T00:00+12:00", "in 99999999999d", "2026-03-20T24:01",
        "2026-03-20 14:00:60",
        "x" * 1000, "１４:００", "14:00 tomorrow; drop table bookings", "\x00",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_when(text, BERLIN, NOW)
    assert refusal.value.details["field"] == "when"
    assert len(refusal.value.message) < 400


def test_a_day_needs_a_time():
    with pytest.raises(Invalid, match='needs a time of day too, such as "tomorrow 14:00"'):
        parse_when("tomorrow", BERLIN, NOW)


def test_a_minute_that_runs_is_now():
    """Who types the time on the clock's face means now, and not this time tomorrow."""
    late = NOW + timedelta(seconds=40)
    assert parse_when("10:00", BERLIN, late) == late
    assert parse_when("2026-03-02 10:00", BERLIN, late) == late


@pytest.mark.parametrize(
    ("text", "zone", "next_valid"),
    [
        ("2026-03-29 02:30", BERLIN, "2026-03-29 03:00+02:00"),
        ("2026-03-29 02:00", BERLIN, "2026-03-29 03:00+02:00"),
        ("2026-03-29T02:59", BERLIN, "2026-03-29 03:00+02:00"),
        ("2026-03-08 02:30", "America/New_York", "2026-03-08 03:00-04:00"),
        ("2026-10-04 02:15", "Australia/Lord_Howe", "2026-10-04 02:30+11:00"),  # half an hour
    ],
)
def test_a_time_that_the_clocks_skip(text: str, zone: str, next_valid: str) -> None:
    with pytest.raises(Invalid, match="does not exist") as refusal:
        parse_when(text, zone, NOW)
    assert refusal.value.details == {"field": "when", "next_valid": next_valid}
    assert next_valid in refusal.value.message
    parse_when(next_valid, zone, NOW)


def test_a_time_that_comes_twice():
    with pytest.raises(Invalid, match="comes twice") as refusal:
        parse_when("2026-10-25 02:30", BERLIN, NOW)
    options = refusal.value.details["options"]
    assert options == ["2026-10-25 02:30+02:00", "2026-10-25 02:30+01:00"]
    one, other = (parse_when(option, BERLIN, NOW) for option in options)
    assert other - one == timedelta(hours=1)


def test_the_second_of_two_once_the_first_is_past():
    between = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)
    assert parse_when("2026-10-25 02:30", BERLIN, between) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


def test_relative_times_ignore_the_clocks_change():
    before = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert parse_when("in 1h", BERLIN, before) == before + timedelta(hours=1)


def test_today_is_the_persons_day():
    late = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)  # the third in Berlin, still the second in New York
    assert parse_when("today 14:00", BERLIN, late) == datetime(2026, 3, 3, 13, tzinfo=UTC)
    assert parse_when("today 20:00", "America/New_York", late) == datetime(2026, 3, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "\0", "a" * 300])
def test_unknown_zone(zone: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_when("14:00", zone, NOW)
    assert refusal.value.details["field"] == "time_zone"


@given(st.text(max_size=60))
def test_anything_is_understood_or_refused(text: str) -> None:
    moment, refusal = outcome(lambda: parse_when(text, BERLIN, NOW))
    assert refusal["field"] == "when" if refusal else moment >= NOW


@given(
    st.datetimes(datetime(2026, 3, 3), datetime(2027, 3, 1)),
    st.sampled_from([BERLIN, "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe", "UTC"]),
)
def test_a_local_time_is_read_back_as_typed(local: datetime, zone: str) -> None:
    local = local.replace(second=0, microsecond=0)
    moment, refusal = outcome(lambda: parse_when(f"{local:%Y-%m-%d %H:%M}", zone, NOW))
    if refusal:
        assert {"next_valid", "options"} & set(refusal)
    else:
        assert moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200), ("2 h", 7200), ("2H", 7200), ("2 hours", 7200), ("1hr", 3600), ("90m", 5400), ("90 min", 5400),
        ("90 minutes", 5400), ("1h30m", 5400), ("1 h 30 min", 5400), ("1.5h", 5400), ("45s", 45), ("1d", 86_400),
        ("1 day 2 hours", 93_600), ("1w", 604_800), ("PT2H", 7200), ("pt1h30m", 5400), ("P1DT1H", 90_000),
        ("0h30m", 1800), ("P1W", 604_800),
    ],
)  # fmt: skip
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "0h", "0h0m", "-2h", "PT0S", "-PT2H", "2", "1.5", "h", "two hours", "2x", "2h2h", "30m1h", "1:30",
     "PT", "P", "P1M", "P1Y", "nan", "inf h", "1e9h", "99999999999w", "0.0000001s", "2h foo", "２h", "9" * 400 + "h"],
)  # fmt: skip
def test_duration_refused(text: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_duration(text)
    assert refusal.value.details["field"] == "duration"


def test_a_duration_without_a_unit_is_asked_for_one():
    with pytest.raises(Invalid, match='write "90m" or "90h"'):
        parse_duration("90")


@given(st.text(max_size=30))
def test_any_duration_is_understood_or_refused(text: str) -> None:
    duration, refusal = outcome(lambda: parse_duration(text))
    assert refusal["field"] == "duration" if refusal else duration > timedelta(0)
