"""What crosses over when a notebook moves: the calls of ``computehub_ext.kernel``, as code for a kernel to evaluate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from computehub_ext.notebook.code import Line

Keep = str | Sequence[str]

CAPTURE_SECONDS = 600.0
"""How long gathering or restoring variables may take before the move is given up."""

_PACKAGE = "__import__('_computehub')"
_DUMPS = "__import__('json').dumps"
_SHELL = "__import__('IPython').get_ipython()"


def weighed(
    found: Mapping[str, Any], price: Mapping[str, Any] | None, problems: list[dict[str, str]]
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


def counting_on(execution_count: int) -> str:
    """An expression that goes on counting cells where the kernel before stopped."""
    return f"setattr({_SHELL}, 'execution_count', {int(execution_count)})"


class Carrier:
    """Asks kernels to preview, offer, check and fetch a state.

    Parameters
    ----------
    directory:
        A folder that both kernels reach and only their owner can enter.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def counted(self, line: Line) -> int:
        """The number of the kernel's next cell."""
        return int(await line.ask(f"{_DUMPS}({_SHELL}.execution_count)"))

    async def preview(self, line: Line, keep: Keep) -> dict[str, Any]:
        answer: dict[str, Any] = await line.ask(self._call("preview", _namespace(), _kept(keep)), CAPTURE_SECONDS)
        return answer

    async def check(self, line: Line, preview: dict[str, Any]) -> list[dict[str, str]]:
        wanted = {name: value for name, value in preview.items() if name not in ("carried", "lost")}
        answer: list[dict[str, str]] = await line.ask(self._call("check", repr(wanted)))
        return answer

    async def offer(self, line: Line, keep: Keep, ticket: str, target_python: str | None) -> dict[str, Any]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self._directory, 0o700)
        arguments = [_namespace(), _kept(keep), repr(ticket), repr(str(self._directory))]
        if target_python:
            arguments.append(f"target_python={target_python!r}")
        answer: dict[str, Any] = await line.ask(self._call("offer", *arguments), CAPTURE_SECONDS)
        return answer

    async def withdraw(self, line: Line, manifest: dict[str, Any]) -> None:
        await line.ask(self._call("withdraw", repr(manifest["address"])), 10.0)

    async def fetch(self, line: Line, manifest: dict[str, Any], ticket: str) -> dict[str, Any]:
        wanted = {name: value for name, value in manifest.items() if name != "lost"}
        answer: dict[str, Any] = await line.ask(
            self._call("fetch", _namespace(), repr(wanted), repr(ticket)), CAPTURE_SECONDS
        )
        return answer

    def _call(self, function: str, *arguments: str) -> str:
        return f"{_DUMPS}({_PACKAGE}.{function}({', '.join(arguments)}))"


def _namespace() -> str:
    return f"{_SHELL}.user_ns"


def _kept(keep: Keep) -> str:
    return repr(keep if isinstance(keep, str) else list(keep))
