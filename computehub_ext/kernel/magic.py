"""``%gpu`` in a kernel: registers the magic, its completion and the hint about memory.

Loaded at every kernel's start, so it imports the rest only when that is used.
"""

from __future__ import annotations

from typing import Any

NAME = "gpu"
MATCHER = "computehub.gpu"


def load(shell: Any = None) -> None:
    """Register everything in this kernel's IPython; a second call replaces the first. Leaves no name behind."""
    if shell is None:
        from IPython import get_ipython

        shell = get_ipython()
    if shell is None:  # not an IPython kernel: there is no magic to register
        return
    magic = Magic(shell)
    shell.register_magic_function(magic, "line", NAME)
    _load_completion(shell, magic)
    callbacks = getattr(shell.events, "callbacks", {}).get("post_run_cell", [])
    for old in [each for each in callbacks if getattr(each, "computehub", False)]:
        shell.events.unregister("post_run_cell", old)
    shell.events.register("post_run_cell", after_cell)


def after_cell(result: Any) -> None:
    """IPython's ``post_run_cell``: a cell that died of the GPU's memory is told so in words."""
    error = getattr(result, "error_in_exec", None)
    if error is not None:
        from . import hints

        hints.explain(error)


after_cell.computehub = True  # type: ignore[attr-defined]  # so that a newer version finds and replaces it


def _load_completion(shell: Any, magic: Magic) -> None:
    """Complete by a matcher of our own; by the older hook where IPython (before 8.6) has no matchers."""
    matchers = getattr(shell.Completer, "custom_matchers", None)
    if matchers is None:
        shell.strdispatchers["complete_command"].strs.pop("%" + NAME, None)
        shell.set_hook("complete_command", magic.complete_event, str_key="%" + NAME)
        return
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != MATCHER]

    def match(context: Any) -> dict[str, Any]:
        from IPython.core.completer import SimpleCompletion

        found = magic.complete(context.text_until_cursor)
        completions = [SimpleCompletion(text, type="keyword") for text in found]
        # Python's own names have no business in a line of %gpu.
        return {"completions": completions, "suppress": bool(found), "ordered": True}

    match.matcher_identifier = MATCHER  # type: ignore[attr-defined]
    match.matcher_api_version = 2  # type: ignore[attr-defined]
    match.matcher_priority = 200  # type: ignore[attr-defined]
    matchers.append(match)


class Magic:
    """The function behind ``%gpu``; what it needs is imported when it is first used."""

    __name__ = NAME

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._lookup: Any = None
        self._desk: Any = None

    def __call__(self, line: str = "") -> None:
        """GPUs for this notebook, booked and paid by the second in credits: see ``%gpu --help``."""
        from . import arguments, commands

        words = arguments.split(line)
        if arguments.parse(words)[0] == "help":  # works without a server too
            print(arguments.help_text(arguments.parse(words)[1].word))
            return
        commands.run(words, self._connected())

    def _connected(self) -> Any:
        if self._desk is None:
            from .cell import CellDesk
            from .zone import local_zone

            self._desk = CellDesk(_link(), local_zone(), self._shell)
        return self._desk

    def complete_event(self, *received: Any) -> list[str]:
        """IPython's hook ``complete_command``: called with the event, in some versions behind the shell."""
        return self.complete(str(received[-1].text_until_cursor))

    def complete(self, line: str) -> list[str]:
        """What could stand at the cursor, behind the text that stands before it."""
        stripped = line.lstrip()
        before = stripped[len("%" + NAME) :]
        if not stripped.startswith("%" + NAME) or not before[:1].isspace():
            return []
        from . import completion

        if self._lookup is None:
            self._lookup = completion.Lookup(lambda kind: completion.words_of(kind, _link(timeout_seconds=2.0)))
        hidden = getattr(self._shell, "user_ns_hidden", {})
        names = [n for n in list(self._shell.user_ns) if not n.startswith("_") and n not in hidden]
        return completion.complete(before, self._lookup, names)


def _link(timeout_seconds: float | None = None) -> Any:
    from .link import Link

    link = Link.from_environment()
    if timeout_seconds is not None:
        link.timeout_seconds = timeout_seconds
    return link
