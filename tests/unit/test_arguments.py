"""The words of %gpu: what is read, what is refused with what would be right, and that help leaves nothing out."""

from __future__ import annotations

import pytest

from computehub_ext.kernel.arguments import WORDS, help_text, parse, split
from computehub_ext.kernel.commands import VERBS
from computehub_ext.kernel.completion import complete
from computehub_ext.kernel.problems import UsageProblem


def read(line: str) -> tuple[str, dict[str, object]]:
    name, given = parse(split(line))
    return name, vars(given)


def test_no_word_is_status() -> None:
    assert read("")[0] == "status"


def test_on_reads_everything() -> None:
    name, given = read("on A100 --for 90m --max-price 2.5 --keep a,b --strict --count 2 --idle 10m --yes")
    assert name == "on"
    assert given == {
        "model": "A100",
        "seconds": 5400,
        "max_rate_microcredits_per_hour": 2_500_000,
        "keep": ["a", "b"],
        "strict": True,
        "count": 2,
        "booking_id": None,
        "idle_seconds": 600,
        "yes": True,
        "given": ("--for", "--max-price", "--keep", "--strict", "--count", "--idle", "--yes"),
    }


def test_what_is_left_out_has_a_sensible_default() -> None:
    given = read("on")[1]
    assert (given["model"], given["seconds"], given["keep"], given["count"], given["yes"]) == (
        None,
        None,
        "all",
        1,
        False,
    )


@pytest.mark.parametrize(
    "line",
    [
        'book T4 "tomorrow 14:00" --for 2h',
        "book T4 tomorrow 14:00 --for 2h",
        "book --for=2h T4 tomorrow 14:00 # for Ada",
    ],
)
def test_when_may_be_quoted_or_not(line: str) -> None:
    name, given = read(line)
    assert (name, given["model"], given["when"], given["seconds"]) == ("book", "T4", "tomorrow 14:00", 7200)


def test_a_comment_may_hold_an_apostrophe() -> None:
    assert read("on T4 # it's cheap")[1]["model"] == "T4"


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("onn T4", "did you mean `%gpu on`"),
        ("xyzzy", "it knows status, offers"),
        ("on --fro 2h", "did you mean --for"),
        ("offers --for 2h", "it belongs to `%gpu on`"),
        ("on T4 2h", "write --for 2h"),
        ("on 2h", "write --for 2h"),
        ("on T4 V100", '"V100" is too much'),
        ("on --for", "--for needs a value: --for 2h"),
        ("on --for --yes", "--for needs a value"),
        ("on --for 2", "2h for hours or 2m for minutes"),
        ("on --for 1h --for 2h", "given twice"),
        ("on --yes=1", "takes no value"),
        ("on --count 0", "from 1 to 64"),
        ("on --count ²", "from 1 to 64"),
        ("on --keep a-b", "names of variables"),
        ("on --keep ,", "names of variables"),
        ("on --max-price cheap", "such as 2 or 2.5"),
        ("--for 2h", "needs a word before it"),
        ("book T4", "WHEN is missing"),
        ("book", "MODEL is missing"),
        ("cancel", "ID is missing"),
        ("extend", "TIME is missing"),
        ("extend 0m", "no time at all"),
        ("extend -1h", "write it like"),
        ("book T4 14:00 --zone Mars/Base", "IANA name"),
        ('book "T4', "not closed"),
        ("history --limit 999", "from 1 to 200"),
        ("help onn", "did you mean `%gpu help on`"),
    ],
)
def test_wrong_words_are_answered_with_what_would_be_right(line: str, right: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        name, given = read(line)
        if name == "help":
            help_text(given["word"])  # type: ignore[arg-type]
    assert right in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("line", ["--help", "-h", "help", "?"])
def test_help_is_asked_for_in_many_ways(line: str) -> None:
    name, given = read(line)
    assert (name, given["word"]) == ("help", None)


def test_help_of_one_word() -> None:
    assert read("on --help") == ("help", {"word": "on"})
    assert read("help book")[1]["word"] == "book"


def test_help_is_complete() -> None:
    text = help_text(None)
    assert set(VERBS) == {word.name for word in WORDS}
    for word in WORDS:
        assert f"\n  {word.usage('%gpu')}"[:60] in text
        own = help_text(word.name)
        assert own.startswith(word.usage("%gpu"))
        for option in word.options:
            assert option.flag in text
            assert option.help in own
        for argument in word.arguments:
            assert argument.metavar in own
            assert argument.help in own
        for example in word.examples:
            assert f"%gpu {example}" in own
            if "…" not in example:
                read(example)  # an example that does not work would be worse than none


def test_help_speaks_the_readers_language() -> None:
    shell = help_text("on", "computehub gpu")
    assert "computehub gpu on T4 --for 2h" in shell
    assert "%gpu" not in shell


NAMES = ["model", "data", "metrics"]


def lookup(kind: str) -> list[str]:
    return {"models": ["T4", "V100", "A100-1g.10gb"], "bookings": ["booking_1", "booking_2"]}[kind]


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (" ex", ["extend"]),
        (" on v", ["V100"]),
        (" on V100 --m", ["--max-price"]),
        (" on --ke", ["--keep"]),
        (" on --keep ", ["all", "none", "data", "metrics", "model"]),
        (" on --keep model,m", ["metrics"]),
        (" on --keep=m", ["metrics", "model"]),
        (" on --for ", ["30m", "1h", "2h", "4h"]),
        (" on --for 2h T", ["T4"]),
        (" on --booking b", ["booking_1", "booking_2"]),
        (" cancel ", ["booking_1", "booking_2"]),
        (" book a", ["A100-1g.10gb"]),
        (" extend ", ["30m", "1h", "2h"]),
        (" help al", ["allowance"]),
        (" off --s", ["--strict"]),
        (" balance --", ["--help"]),
        (" nonsense x", []),
        (' book T4 "tom', []),
    ],
)
def test_completion(before: str, found: list[str]) -> None:
    assert complete(before, lookup, NAMES) == found


def test_completion_offers_every_word() -> None:
    assert complete(" ", lookup, NAMES) == [word.name for word in WORDS] + ["--help"]


def test_completion_does_not_offer_an_option_twice() -> None:
    assert "--yes" not in complete(" on --yes -", lookup, NAMES)
