"""Reading the words behind ``%gpu``, and their help.

Parsed by hand, not by argparse, whose messages differ between Python versions, say what was wrong but not what would
be right, and end the process.
"""

from __future__ import annotations

import difflib
import shlex
import textwrap
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from .problems import UsageProblem
from .wording import parse_duration, quoted
from .words import BY_NAME, WORDS, Word

__all__ = ["BY_NAME", "WORDS", "Word", "help_text", "parse", "split"]

HELP_WIDTH = 100
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
