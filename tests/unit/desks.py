"""A desk for tests: remembers what was shown, answers questions as told, and previews what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from computehub_ext.kernel.desk import Desk
from computehub_ext.kernel.link import Link
from computehub_ext.kernel.report import Page
from tests.unit.fake_api import KERNEL_ID, TOKEN, FakeApi

NOTHING_LOST = {
    "carried": [{"name": "x", "type": "int", "bytes": 28}, {"name": "data", "type": "ndarray", "bytes": 12_300_000}],
    "lost": [],
    "total_bytes": 12_300_028,
    "seconds": 0.12,
    "problems": [],
}
ONE_LOST = {**NOTHING_LOST, "lost": [{"name": "file", "type": "TextIOWrapper", "reason": "an open file stays here"}]}


class RecordingDesk(Desk):
    """As in a cell, except that nothing is drawn."""

    def __init__(self, api: FakeApi, zone: str = "Europe/Berlin") -> None:
        super().__init__(Link(api.url, TOKEN, KERNEL_ID), zone)
        self.pages: list[Page] = []
        self.begun_with: list[Mapping[str, Any]] = []
        self.questions: list[str] = []
        self.answer = True
        self.previewed: dict[str, Any] | None = dict(NOTHING_LOST)
        self.kept: list[Any] = []
        self.on_wait: Callable[[], None] = lambda: None

    @property
    def kernel_id(self) -> str:
        return KERNEL_ID

    @property
    def said(self) -> str:
        return "\n".join(page.plain() for page in self.pages)

    def show(self, page: Page) -> None:
        self.pages.append(page)

    def show_text(self, text: str) -> None:
        self.pages.append(Page(text))

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return self.answer

    def preview(self, keep: Any) -> dict[str, Any] | None:
        self.kept.append(keep)
        return self.previewed

    def begun(self, switch: Mapping[str, Any], lease: Mapping[str, Any] | None) -> Mapping[str, Any]:
        self.begun_with.append(switch)
        return switch

    def wait(self, seconds: float) -> None:
        self.on_wait()
