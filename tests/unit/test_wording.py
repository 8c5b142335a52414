"""Credits, durations and times as people read and write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from computehub_ext.core import credits as core_credits
from computehub_ext.kernel import wording
from computehub_ext.kernel.problems import UsageProblem
from computehub_ext.kernel.zone import local_zone


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1 h 30 min", 5400),
        ("2 hours", 7200),
        ("45s", 45),
        ("1d", 86400),
        ("PT2H", 7200),
        ("P1DT1H", 90000),
        ("pt90m", 5400),
    ],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert wording.parse_duration(text, "--for") == seconds


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("2", "needs a unit"),
        ("", "a length of time"),
        ("two hours", "2h"),
        ("0h", "no time at all"),
        ("-1h", "write it like"),
        ("999999h", "more than a year"),
        ("1h 5", "write it like"),
        ("PT", "write it like"),
        ("nan h", "write it like"),
    ],
)
def test_wrong_durations_say_what_would_be_right(text: str, right: str) -> None:
    with pytest.raises(UsageProblem, match=right):
        wording.parse_duration(text, "--for")


@pytest.mark.parametrize("seconds", [1, 59, 60, 3600, 5400, 90061, 86400])
def test_what_is_written_for_an_option_is_read_as_the_same(seconds: int) -> None:
    assert wording.parse_duration(wording.as_typed(seconds), "--for") == seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (45, "45 s"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (90000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_durations_are_written(seconds: int, words: str) -> None:
    assert wording.in_words(seconds) == words


@pytest.mark.parametrize(
    ("amount", "digits", "text"),
    [
        (1_250_000, 2, "1.25"),
        (1_259_999, 2, "1.25"),
        (0, 2, "0.00"),
        (278, 2, "0.000278"),
        (-2_000_000, 2, "-2.00"),
        (1_234_567_890_000, 2, "1,234,567.89"),
        (250_000, 4, "0.2500"),
    ],
)
def test_credits_are_written(amount: int, digits: int, text: str) -> None:
    assert wording.in_credits(amount, digits) == text


@pytest.mark.parametrize("amount", [0, 10_000, 1_250_000, 10_000_000, -2_000_000, 1_234_567_890_000])
def test_the_kernel_writes_credits_as_the_core_does(amount: int) -> None:
    assert wording.in_credits(amount) == core_credits.in_credits(amount)


@pytest.mark.parametrize(
    ("text", "amount"), [("2", 2_000_000), ("2.5", 2_500_000), ("0.000001", 1), ("1.10", 1_100_000)]
)
def test_credits_are_read_exactly(text: str, amount: int) -> None:
    assert wording.as_microcredits(text, "R") == amount
    assert wording.as_microcredits(wording.credits_as_typed(amount), "R") == amount


@pytest.mark.parametrize("text", ["", "-1", "1e3", "nan", "2,5", "1.2345678", "two", "１"])
def test_wrong_credits_are_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match=r"such as 2 or 2\.5"):
        wording.as_microcredits(text, "--max-price")


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Europe/Berlin", "Sun 29 Mar 2026, 03:30 CEST (01:30 UTC)"),
        ("America/Los_Angeles", "Sat 28 Mar 2026, 18:30 PDT (Sun 29 Mar 01:30 UTC)"),
        ("Asia/Kolkata", "Sun 29 Mar 2026, 07:00 IST (01:30 UTC)"),
        ("America/Sao_Paulo", "Sat 28 Mar 2026, 22:30 America/Sao_Paulo (Sun 29 Mar 01:30 UTC)"),
        ("UTC", "Sun 29 Mar 2026, 01:30 UTC"),
        ("Not/AZone", "Sun 29 Mar 2026, 01:30 UTC"),
    ],
)
def test_a_time_is_told_where_the_user_is_and_in_utc(zone: str, words: str) -> None:
    assert wording.moment_in_words("2026-03-29T01:30:00Z", zone) == words


def test_a_time_to_type_carries_its_offset() -> None:
    # 02:30 comes twice in that night; with its offset it is one moment.
    assert wording.moment_as_typed("2026-10-25T01:30:00Z", "Europe/Berlin") == "2026-10-25T02:30+01:00"
    assert wording.moment_as_typed("2026-10-25T00:30:00.5Z", "Europe/Berlin") == "2026-10-25T02:30:00.500000+02:00"


@pytest.mark.parametrize("value", [None, "", "soon", 5, "2026-13-01T00:00:00Z", "2026-03-01T00:00:00"])
def test_what_is_no_time_is_told_as_unknown(value: object) -> None:
    assert wording.moment_in_words(value, "UTC") == "?"


def test_the_zone_comes_from_the_setting_then_tz_then_the_machine(tmp_path: Path) -> None:
    machine = tmp_path / "usr" / "share" / "zoneinfo" / "Asia" / "Tokyo"
    machine.parent.mkdir(parents=True)
    machine.write_bytes(b"")
    localtime = tmp_path / "localtime"
    localtime.symlink_to(machine)
    file = tmp_path / "timezone"
    file.write_text("America/New_York\n")
    places = {"localtime": str(localtime), "timezone_file": str(file)}
    assert local_zone({"COMPUTEHUB_TIME_ZONE": "Europe/Paris", "TZ": "Europe/Berlin"}, **places) == "Europe/Paris"
    assert local_zone({"TZ": ":Europe/Berlin"}, **places) == "Europe/Berlin"
    assert local_zone({"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}, **places) == "Asia/Tokyo"
    assert local_zone({}, **places) == "Asia/Tokyo"
    assert local_zone({}, localtime="/nowhere", timezone_file=str(file)) == "America/New_York"
    assert local_zone({}, localtime="/nowhere", timezone_file="/nowhere") == "UTC"
    assert local_zone({"TZ": "Etc/UTC"}, **places) == "UTC"


def test_a_strangers_text_is_shown_not_obeyed() -> None:
    assert wording.clean("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb c\\u202e"
    assert len(wording.clean("x" * 1000)) == 300


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (999, "999 bytes"), (12_300_000, "12.3 MB"), (None, "0 bytes")]
)
def test_sizes_are_written(size: int | None, words: str) -> None:
    assert wording.size_in_words(size) == words
