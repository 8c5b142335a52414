"""Pages: what a command has to say, once as text for a console and once as HTML for a notebook.

The HTML has no script and no style sheet of its own. Colours are Jupyter's variables; their fallbacks (``inherit``,
``currentColor``, half-transparent grey) suit a light and a dark page alike.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .wording import clean

FONT = "font-family:var(--jp-ui-font-family, sans-serif);font-size:var(--jp-ui-font-size1, 13px);line-height:1.5;"
INK = "color:var(--jp-ui-font-color1, inherit);"
QUIET = "color:var(--jp-ui-font-color2, inherit);"
LINE = "1px solid var(--jp-border-color2, rgba(128,128,128,.4))"
_TONES = {
    "plain": "var(--jp-border-color1, rgba(128,128,128,.5))",
    "good": "var(--jp-success-color1, #43a047)",
    "warning": "var(--jp-warn-color1, #f57c00)",
    "error": "var(--jp-error-color1, #d32f2f)",
}
_TONE_WORDS = {"warning": "Warning: ", "error": "Not done: "}
PLAIN_WIDTH_MAX = 72


@dataclass(frozen=True)
class Note:
    """A sentence. ``tone`` is plain, quiet, good, warning or error; the last two are also said in words."""

    text: str
    tone: str = "plain"

    def plain(self) -> list[str]:
        return [_TONE_WORDS.get(self.tone, "") + clean(self.text, 2000)]

    def html(self) -> str:
        style = QUIET if self.tone == "quiet" else INK
        if self.tone in ("good", "warning", "error"):
            style += f"border-left:3px solid {_TONES[self.tone]};padding-left:8px;"
        word = _TONE_WORDS.get(self.tone, "")
        lead = element("strong", word) if word else ""
        return element("p", lead + escaped(self.text, 2000), "margin:4px 0;" + style)


@dataclass(frozen=True)
class Facts:
    """Names and values, one pair a row."""

    caption: str
    pairs: tuple[tuple[str, str], ...]

    def plain(self) -> list[str]:
        names = [clean(name) for name, _ in self.pairs]
        width = max([len(name) for name in names] + [0])
        return [f"  {name.ljust(width)}  {clean(value, 500)}" for name, (_, value) in zip(names, self.pairs)]

    def html(self) -> str:
        head, cell = (
            f"text-align:left;font-weight:normal;{QUIET}padding:1px 16px 1px 0;",
            "text-align:left;padding:1px 0;",
        )
        rows = [
            element("tr", element("th", escaped(name), head, scope="row") + element("td", escaped(value, 500), cell))
            for name, value in self.pairs
        ]
        return _table(self.caption, "", "".join(rows))


@dataclass(frozen=True)
class Table:
    """Rows under headings; ``right`` names the columns of numbers."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[str, ...] = ()

    def plain(self) -> list[str]:
        cells = [[clean(column) for column in self.columns]] + [
            [clean(cell, PLAIN_WIDTH_MAX) for cell in row] for row in self.rows
        ]
        widths = [max(width_of(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [clean(self.caption)] if self.caption else []
        for number, row in enumerate(cells):
            parts = []
            for i, cell in enumerate(row):
                gap = " " * (widths[i] - width_of(cell))
                parts.append(gap + cell if self.columns[i] in self.right else cell + gap)
            lines.append(("  " + "  ".join(parts)).rstrip())
            if number == 0:
                lines.append("  " + "  ".join("-" * width for width in widths))
        return lines

    def html(self) -> str:
        styles = []
        for column in self.columns:
            side = "right" if column in self.right else "left"
            styles.append(f"text-align:{side};font-weight:normal;padding:2px 16px 2px 0;")
        heads = [element("th", escaped(c), styles[i], scope="col") for i, c in enumerate(self.columns)]
        rows = []
        for row in self.rows:
            cells = [element("td", escaped(cell), styles[i]) for i, cell in enumerate(row)]
            cells[0] = element("th", escaped(row[0]), styles[0], scope="row")
            rows.append(element("tr", "".join(cells)))
        head = element("thead", element("tr", "".join(heads), f"border-bottom:{LINE};"))
        return _table(self.caption, head, "".join(rows))


@dataclass(frozen=True)
class Commands:
    """Commands that can be copied as they stand, each with what it does."""

    lead: str
    rows: tuple[tuple[str, str], ...]

    def plain(self) -> list[str]:
        width = max([width_of(clean(command)) for command, _ in self.rows] + [0])
        lines = [clean(self.lead)] if self.lead else []
        for command, meaning in self.rows:
            text = clean(command)
            gap = " " * (width - width_of(text))
            lines.append(f"  {text}{gap}  {clean(meaning)}".rstrip())
        return lines

    def html(self) -> str:
        items = []
        for command, meaning in self.rows:
            words = " – " + escaped(meaning) if meaning else ""
            items.append(element("li", element("code", escaped(command)) + words, "margin:1px 0;"))
        lead = element("p", escaped(self.lead), "margin:4px 0;") if self.lead else ""
        return lead + element("ul", "".join(items), "margin:2px 0 4px 0;padding-left:20px;")


@dataclass(frozen=True)
class WebLink:
    """A link to a page of this server: its path in HTML, its whole address in text."""

    label: str
    url: str
    path: str

    def plain(self) -> list[str]:
        return [f"{clean(self.label)}: {clean(self.url)}"]

    def html(self) -> str:
        label = escaped(self.label)
        if self.path.startswith("/") and not self.path.startswith("//"):
            style = "color:var(--jp-content-link-color, inherit);text-decoration:underline;"
            label = element("a", label, style, href=self.path, target="_blank", rel="noopener")
        return element("p", label, "margin:4px 0;")


@dataclass(frozen=True)
class Progress:
    """How far something is, 0 to 1."""

    label: str
    value: float

    def _percent(self) -> int:
        return int(100 * min(1.0, max(0.0, self.value)))

    def plain(self) -> list[str]:
        done = self._percent() // 5
        return [f"[{'#' * done}{'.' * (20 - done)}] {self._percent():3d} %  {clean(self.label)}"]

    def html(self) -> str:
        percent, label = str(self._percent()), escaped(self.label)
        bar = "height:6px;border-radius:3px;"
        filled = element("div", "", f"{bar}width:{percent}%;background:var(--jp-brand-color1, #1976d2);")
        attributes = {"aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": percent, "aria-label": self.label}
        track = f"{bar}max-width:420px;margin:6px 0 2px 0;background:var(--jp-layout-color3, rgba(128,128,128,.3));"
        words = element("p", label, f"margin:2px 0;{QUIET}", role="status")
        return element("div", filled, track, role="progressbar", **attributes) + words


@dataclass
class Page:
    """A title and blocks. In a notebook it displays itself in both forms."""

    title: str = ""
    blocks: list[Any] = field(default_factory=list)
    tone: str = "plain"

    def add(self, *blocks: Any) -> Page:
        self.blocks.extend(block for block in blocks if block is not None)
        return self

    def plain(self) -> str:
        lines = [clean(self.title)] if self.title else []
        before: Any = None
        for block in self.blocks:
            if lines and (isinstance(block, (Table, Commands)) or isinstance(before, (Table, Commands))):
                lines.append("")
            lines += block.plain()
            before = block
        return "\n".join(lines)

    def html(self) -> str:
        edge = _TONES.get(self.tone, _TONES["plain"])
        title = element("p", escaped(self.title), "margin:0 0 4px 0;font-weight:600;") if self.title else ""
        frame = f"border-left:3px solid {edge};padding:4px 0 4px 12px;margin:4px 0;overflow-x:auto;"
        return element("div", title + "".join(b.html() for b in self.blocks), FONT + INK + frame)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.plain(), "text/html": self.html()}


def escaped(text: Any, limit: int = 300) -> str:
    return html.escape(clean(text, limit), quote=True)


def element(tag: str, inner: str, style: str = "", **attributes: str) -> str:
    """An HTML element around ``inner``, which is HTML already; attributes are escaped here."""
    if style:
        attributes["style"] = style
    given = "".join(f' {name}="{html.escape(clean(value, 1000), quote=True)}"' for name, value in attributes.items())
    return f"<{tag}{given}>{inner}</{tag}>"


def width_of(text: str) -> int:
    """Columns that a text takes on a terminal."""
    wide = sum(1 for char in text if unicodedata.east_asian_width(char) in "WF")
    return len(text) + wide - sum(1 for char in text if unicodedata.combining(char))


def joined(names: Sequence[str], limit: int = 12) -> str:
    """Names in a sentence: ``a, b and 3 more``."""
    shown = [clean(name, 60) for name in names[:limit]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _table(caption: str, head: str, rows: str) -> str:
    words = element("caption", escaped(caption), f"text-align:left;caption-side:top;padding:2px 0;{QUIET}")
    return element("table", words + head + element("tbody", rows), f"border-collapse:collapse;margin:4px 0;{INK}")
