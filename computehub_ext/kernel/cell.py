"""A command given in a cell of the notebook that it is about."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .card import display_id, render
from .desk import Desk
from .link import Link
from .moving import ended_problem
from .problems import Declined, GpuProblem
from .report import Page

ANSWERS_YES = ("y", "yes")


class CellDesk(Desk):
    """Shows pages as IPython displays, asks by ``input`` and looks at the kernel's own variables."""

    command = "%gpu"
    from_kernel = True

    def __init__(self, link: Link, zone: str, shell: Any) -> None:
        super().__init__(link, zone)
        self._shell = shell

    @property
    def kernel_id(self) -> str:
        if not self.link.kernel_id:
            raise GpuProblem("This kernel does not know its own id; restart it.")
        return self.link.kernel_id

    def show(self, page: Page) -> None:
        from IPython.display import display

        display(page)

    def show_text(self, text: str) -> None:
        print(text)

    def ask(self, question: str) -> bool:
        from IPython.core.error import StdinNotImplementedError

        try:
            answer = input(f"{question} [y/N] ")
        except (StdinNotImplementedError, EOFError):
            raise GpuProblem(
                "Nobody can be asked here. Add --yes to agree to what the preview shows, or --strict to refuse it."
            ) from None
        except KeyboardInterrupt:
            raise Declined("Not switched: you interrupted the question.") from None
        return answer.strip().lower() in ANSWERS_YES

    def preview(self, keep: Any) -> dict[str, Any] | None:
        from .capture import preview
        from .names import StateError

        try:
            return dict(preview(self._shell.user_ns, keep))
        except StateError as wrong:
            raise GpuProblem(str(wrong)) from None

    def begun(self, switch: Mapping[str, Any], lease: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Draw the card; the server goes on drawing it when the cell has ended."""
        from IPython.display import display

        problem = ended_problem(switch, self)
        if problem is not None:
            raise problem
        bundle = render(switch, lease, zone=self.zone, command=self.command)
        display(bundle, raw=True, display_id=display_id(switch))
        return switch

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)
