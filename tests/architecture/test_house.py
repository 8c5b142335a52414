"""Habits that a reader relies on: short files, tests that wait for a condition, links that lead somewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.source import ROOT, files, parsed

MOST_LINES = 450
# Some 400 is the aim; what is longer than this has its reason here.
LONGER: dict[str, str] = {}


def test_files_are_short() -> None:
    long = {}
    for path in [*files(), *files("benchmarks"), *files("scripts")]:
        name = str(path.relative_to(ROOT))
        lines = len(path.read_text().splitlines())
        if lines > MOST_LINES and name not in LONGER:
            long[name] = lines
    assert not long, f"cut these, or give their reason in LONGER: {long}"
    unneeded = [name for name in LONGER if len((ROOT / name).read_text().splitlines()) <= MOST_LINES]
    assert not unneeded, f"these became short: {unneeded}"


def _sleeps(node: ast.AST, *, in_loop: bool) -> Iterator[int]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr == "sleep":
            owner = child.func.value
            zero = bool(child.args) and isinstance(child.args[0], ast.Constant) and child.args[0].value == 0
            if isinstance(owner, ast.Name) and owner.id in {"time", "asyncio"} and not in_loop and not zero:
                yield child.lineno
        looping = isinstance(child, ast.While | ast.For | ast.AsyncFor)
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _sleeps(child, in_loop=(in_loop and not inside) or looping)


def test_no_test_sleeps_for_luck() -> None:
    """A sleep belongs into a loop that looks for something and gives up at a deadline."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}" for path in files("tests") for line in _sleeps(parsed(path), in_loop=False)
    ]
    assert not wrong, f"wait for a condition instead: {wrong}"


def test_no_test_skips_itself() -> None:
    """What a machine lacks is named by ``pytest.mark.needs``, deselected and printed; nothing else is left out."""
    words = re.compile(r"pytest\.(skip|importorskip|mark\.skip|mark\.skipif)\b|unittest\.skip")
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files("tests")
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if words.search(line)
    ]
    assert not wrong, f"say what the test needs instead: {wrong}"


def _documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def _anchors(text: str) -> set[str]:
    found = set()
    for line in re.sub(r"```.*?```", "", text, flags=re.S).splitlines():
        if heading := re.match(r"#+\s+(.*)", line):
            words = re.sub(r"[`*_]|\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
            found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def test_links_in_the_documents_lead_somewhere() -> None:
    broken = []
    for document in _documents():
        text = re.sub(r"```.*?```", "", document.read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (document.parent / path).resolve() if path else document
            if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file.read_text())):
                broken.append(f"{document.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)
