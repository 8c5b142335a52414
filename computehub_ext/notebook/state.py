"""What crosses over when a notebook moves: the calls of ``computehub_ext.kernel``, as code for a kernel to evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import BackendError
from computehub_ext.notebook.code import Line
from computehub_ext.notebook.meeting import Meeting, meeting_of
from computehub_ext.notebook.places import Place

Keep = str | Sequence[str]

CAPTURE_SECONDS = 600.0
"""How long gathering or restoring variables may take before the move is given up."""

_PACKAGE = "__import__('_computehub')"
_DUMPS = "__import__('json').dumps"
_SHELL = "__import__('IPython').get_ipython()"


def weighed(
    found: Mapping[str, Any], price: Mapping[str, Any] | None, problems: list[dict[str, Any]]
) -> dict[str, Any]:
    """A kernel's own preview with its price, shaped as openapi.yaml's ``Preview``.

    Parameters
    ----------
    price:
        The lease to move to, or the quote of one to come.
    problems:
        What the other place lacks, as far as it was asked.
    """
    priced = price or {}
    return {
        "carried": [item if isinstance(item, dict) else {"name": str(item)} for item in found.get("carried", ())],
        "lost": found.get("lost", []),
        "total_bytes": int(found.get("total_bytes", 0)),
        "seconds": found.get("seconds"),
        "problems": problems,
        "amount_microcredits": priced.get("held_microcredits", priced.get("amount_microcredits")),
        "rate_microcredits_per_hour": priced.get("rate_microcredits_per_hour"),
    }


def greeting() -> tuple[str, ...]:
    """Expressions that bring our package and %gpu into a kernel."""
    from computehub_ext.kernel import bundle

    return bundle.source().strip(), "__import__('_computehub.magic', fromlist=['load']).load()"


def python_version() -> str:
    """An expression for the version of a kernel's Python, as JSON."""
    return f"{_DUMPS}('%d.%d.%d' % __import__('sys').version_info[:3])"


def same_python(one: str, other: str) -> bool:
    """Whether compiled code of the one runs in the other; unknown counts as the same."""
    return not one or not other or one.split(".")[:2] == other.split(".")[:2]


def counting_on(execution_count: int) -> str:
    """An expression that goes on counting cells where the kernel before stopped."""
    return f"setattr({_SHELL}, 'execution_count', {int(execution_count)})"


@dataclass(frozen=True)
class Side:
    """One of the two kernels of a move."""

    place: Place
    line: Line


class Carrier:
    """Asks kernels to preview, offer, check and fetch a state.

    Parameters
    ----------
    directory:
        For kernels that have no folder of their own to meet in.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def counted(self, line: Line) -> int:
        """The number of the kernel's next cell."""
        return int(await line.ask(f"{_DUMPS}({_SHELL}.execution_count)"))

    async def preview(self, line: Line, keep: Keep, target_python: str = "") -> dict[str, Any]:
        arguments = [_namespace(), _kept(keep)]
        if target_python:
            arguments.append(f"target_python={target_python!r}")
        answer: dict[str, Any] = await line.ask(self._call("preview", *arguments), CAPTURE_SECONDS)
        return answer

    async def check(self, line: Line, preview: dict[str, Any]) -> list[dict[str, str]]:
        wanted = {name: value for name, value in preview.items() if name not in ("carried", "lost")}
        answer: list[dict[str, str]] = await line.ask(self._call("check", repr(wanted)))
        return answer

    async def offer(
        self, source: Side, target: Side, keep: Keep, ticket: str, target_python: str = ""
    ) -> dict[str, Any]:
        """Have the state captured and offered where the two kernels can meet."""
        meeting = await meeting_of(source.place, target.place, self._directory)
        arguments = [_namespace(), _kept(keep), repr(ticket), repr(meeting.folder)]
        if meeting.folder is None:
            network = meeting.listen
            if not meeting.node_offers:
                wanted = {"ticket": ticket, **meeting.listen}
                network = await target.line.ask(self._call("expect", f"**{wanted!r}"))
                _check(meeting, network)
            arguments.append(f"network={network!r}")
        if target_python:
            arguments.append(f"target_python={target_python!r}")
        answer: dict[str, Any] = await source.line.ask(self._call("offer", *arguments), CAPTURE_SECONDS)
        _check(meeting, answer)
        return answer

    async def withdraw(self, line: Line, manifest: dict[str, Any]) -> None:
        await line.ask(self._call("withdraw", repr(manifest["address"])), 10.0)

    async def fetch(
        self, line: Line, manifest: dict[str, Any], ticket: str, *, accept_failures: bool = False
    ) -> dict[str, Any]:
        """Have the state received and restored: all of it, or all but what can't be rebuilt if that is accepted."""
        wanted = {name: value for name, value in manifest.items() if name != "lost"}
        arguments = [_namespace(), repr(wanted), repr(ticket), f"accept_failures={accept_failures!r}"]
        answer: dict[str, Any] = await line.ask(self._call("fetch", *arguments), CAPTURE_SECONDS)
        return answer

    def _call(self, function: str, *arguments: str) -> str:
        return f"{_DUMPS}({_PACKAGE}.{function}({', '.join(arguments)}))"


def _check(meeting: Meeting, said: Mapping[str, Any]) -> None:
    if not meeting.is_at(str(said.get("address"))):
        raise BackendError("The kernel offers its variables where nobody asked it to; nothing was moved.")


def _namespace() -> str:
    return f"{_SHELL}.user_ns"


def _kept(keep: Keep) -> str:
    return repr(keep if isinstance(keep, str) else list(keep))
