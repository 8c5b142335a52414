"""Where a command is given: what the words need of a notebook's cell or of a shell, and no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from .link import Link, LinkProblem
from .problems import GpuProblem
from .report import Page


class Desk(ABC):
    """One person giving one command.

    Attributes
    ----------
    command:
        How they type it: ``%gpu`` or ``computehub gpu``.
    from_kernel:
        Whether code in a notebook asks, which may spend only the allowance.
    zone:
        IANA name of their time zone.
    """

    command = "%gpu"
    from_kernel = True

    def __init__(self, link: Link, zone: str) -> None:
        self.link = link
        self.zone = zone

    @property
    @abstractmethod
    def kernel_id(self) -> str:
        """The kernel that the command is about; raises where the choice is open."""

    @abstractmethod
    def show(self, page: Page) -> None:
        """Print or display a page."""

    @abstractmethod
    def show_text(self, text: str) -> None:
        """Print a text as it stands."""

    def notebook_path(self) -> str | None:
        """The notebook that the command is about, where it is known."""
        try:
            path = self.kernel().get("notebook_path")
        except GpuProblem:
            return None
        return str(path) if path else None

    @abstractmethod
    def ask(self, question: str) -> bool:
        """Ask yes or no; raises where nobody can answer, saying what to add instead."""

    @abstractmethod
    def preview(self, keep: Any) -> dict[str, Any] | None:
        """What of the notebook's variables can come along; None where only the server can look."""

    @abstractmethod
    def begun(self, switch: Mapping[str, Any], lease: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Show a switch that was just asked for; the shell follows it to its end and returns how it ended."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Let time pass; interruptible."""

    def kernel(self) -> dict[str, Any]:
        """Where the kernel is: ``{place, lease, switch, notebook_path}``."""
        try:
            answer = self.link.get(f"kernels/{self.kernel_id}")
        except LinkProblem as problem:
            raise GpuProblem(problem.message) from None
        return dict(answer or {})
