"""``%gpu`` in a kernel: registers the magic, its completion and the hint about memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from . import hints
from .problems import Declined, GpuProblem

NAME = "gpu"
MATCHER = "computehub.gpu"
ANSWERS_YES = ("y", "yes")


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
    shell.events.register("post_run_cell", hints.after_cell)


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
            self._desk = _cell_desk(self._shell)
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


def _cell_desk(shell: Any) -> Any:
    from .card import display_id, render
    from .desk import Desk
    from .moving import ended_problem
    from .report import Page
    from .zone import local_zone

    class CellDesk(Desk):
        """A command given in a cell of the notebook that it is about."""

        command = "%" + NAME
        from_kernel = True

        @property
        def kernel_id(self) -> str:
            if not self.link.kernel_id:
                raise GpuProblem("This kernel does not know its own id; restart it.")
            return str(self.link.kernel_id)

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
                return dict(preview(shell.user_ns, keep))
            except StateError as wrong:
                raise GpuProblem(str(wrong)) from None

        def begun(self, switch: Mapping[str, Any], lease: Mapping[str, Any] | None) -> Mapping[str, Any]:
            from IPython.display import display

            problem = ended_problem(switch, self)
            if problem is not None:
                raise problem
            bundle = render(switch, lease, zone=self.zone, command=self.command)
            display(bundle, raw=True, display_id=display_id(switch))
            return switch

        def wait(self, seconds: float) -> None:
            time.sleep(seconds)

    return CellDesk(_link(), local_zone())
