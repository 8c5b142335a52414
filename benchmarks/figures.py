"""One measured figure, and the table and file that hold all of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
README = ROOT / "README.md"
DOCUMENT = ROOT / "docs" / "figures.md"
START, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Figure:
    """``ratio`` is figure / yardstick. ``goal`` says what was promised of it, as text for the table."""

    name: str
    figure: float
    yardstick: float | None
    ratio: float | None
    unit: str
    size: str
    yardstick_name: str = ""
    goal: str = ""
    met: bool | None = None

    @classmethod
    def of(cls, given: Any) -> Figure:
        """Take a Figure or a plain dict of the same fields."""
        if isinstance(given, cls):
            return given
        known = {key: value for key, value in dict(given).items() if key in cls.__dataclass_fields__}
        figure, yardstick = known["figure"], known.get("yardstick")
        known.setdefault("yardstick", None)
        known.setdefault("ratio", figure / yardstick if yardstick else None)
        return cls(**known)

    def row(self) -> str:
        return f"{self.short_row()} {self.size} |"

    def short_row(self) -> str:
        """Return the row without its size, for where only the promises are shown."""
        beside = f"{number(self.yardstick)} {self.unit}" if self.yardstick is not None else "–"
        if self.yardstick_name:
            beside += f" ({self.yardstick_name})"
        ratio = "–" if self.ratio is None else f"{self.ratio:.3g}"
        met = "" if self.met is None else (" ✓" if self.met else " ✗ missed")
        return f"| {self.name} | {number(self.figure)} {self.unit} | {beside} | {ratio} | {self.goal}{met} |"


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(figures: list[Figure], facts: str) -> str:
    """Every figure with the size that it was measured on."""
    return _table([*_HEADS, "Size"], [figure.row() for figure in figures], facts)


def promised(figures: list[Figure], facts: str) -> str:
    """The figures of which something was promised, met or not."""
    return _table(_HEADS, [figure.short_row() for figure in figures if figure.met is not None], facts)


_HEADS = ["What", "Here", "Yardstick, same run", "Ratio", "Goal"]


def _table(heads: list[str], rows: list[str], facts: str) -> str:
    return "\n".join([f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *rows, "", facts])


def save(figures: list[Figure]) -> None:
    RESULTS.write_text(json.dumps([asdict(figure) for figure in figures], indent=2, ensure_ascii=False) + "\n")


def write_into(document: Path, text: str) -> None:
    """Replace what stands between the two markers."""
    old = document.read_text()
    before, found, rest = old.partition(START)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise SystemExit(f"{document.name} has no place for the figures: {START} ... {END}")
    document.write_text(f"{before}{START}\n{text}\n{END}{after}")
