"""``computehub gpu …``: the magic's words from a shell, for a notebook that is open in a running server."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from computehub_ext.cli.servers import find_server, sessions_of
from computehub_ext.kernel import arguments, commands
from computehub_ext.kernel.card import STATES_ENDED, page_of
from computehub_ext.kernel.desk import Desk
from computehub_ext.kernel.link import KERNEL_VARIABLE, Link, LinkProblem
from computehub_ext.kernel.moving import ended_problem
from computehub_ext.kernel.problems import GpuProblem, UsageProblem
from computehub_ext.kernel.report import Page, Table
from computehub_ext.kernel.zone import local_zone

COMMAND = "computehub gpu"
POLL_SECONDS = 0.3
LOST_SECONDS_MAX = 60.0
OWN_OPTIONS = {"--notebook": "notebook", "--url": "url", "--token": "token"}
OWN_HELP = """
In the shell also:
  --notebook PATH  the notebook meant, as the server lists it; needed where more than one is open
  --url URL        the Jupyter server, where more than one is running
  --token TOKEN    your token there; better in the environment variable COMPUTEHUB_TOKEN, which others can't see
"""


@dataclass
class Connection:
    """Which server and notebook are meant."""

    notebook: str | None = None
    url: str | None = None
    token: str | None = None


def run_gpu(words: Sequence[str]) -> int:
    """Run the words; return the exit status."""
    try:
        connection, rest = own_options(words)
        if (name_and_given := arguments.parse(rest, COMMAND))[0] == "help":
            sys.stdout.write(arguments.help_text(name_and_given[1].word, COMMAND) + "\n" + OWN_HELP)
            return 0
        link = find_server(connection.url, connection.token)
        commands.run(rest, ShellDesk(link, local_zone(), connection.notebook))
    except GpuProblem as problem:
        sys.stdout.flush()
        sys.stderr.write("\n".join(problem.lines()) + "\n")
        return problem.exit_code
    return 0


def own_options(words: Sequence[str]) -> tuple[Connection, list[str]]:
    """Take ``--notebook``, ``--url`` and ``--token`` out of the words, wherever they stand."""
    connection, rest, pending = Connection(), [], list(words)
    while pending:
        word = pending.pop(0)
        flag, equals, value = word.partition("=")
        if flag not in OWN_OPTIONS:
            rest.append(word)
            continue
        if not equals:
            if not pending:
                raise UsageProblem(f"{flag} needs a value")
            value = pending.pop(0)
        setattr(connection, OWN_OPTIONS[flag], value)
    return connection, rest


class ShellDesk(Desk):
    """A command given in a shell. It has time, so it follows a switch to its end."""

    command = COMMAND

    def __init__(self, link: Link, zone: str, notebook: str | None) -> None:
        super().__init__(link, zone)
        self._notebook = notebook
        self._kernel_id: str | None = None
        # `!computehub gpu on` in a cell: it speaks for the kernel, and following would wait for itself.
        self.from_kernel = link.kernel_id is not None

    @property
    def kernel_id(self) -> str:
        if self._kernel_id is None:
            own = self.link.kernel_id if self._notebook is None else None
            self._kernel_id = own or self._kernel_of_notebook()
        return self._kernel_id

    def _kernel_of_notebook(self) -> str:
        sessions = sessions_of(self.link)
        if self._notebook is not None:
            wanted = self._notebook.removeprefix("./")
            meant = [s for s in sessions if s.path == wanted]
            # A path as the shell sees it is longer than the server's, and what a person remembers is shorter.
            meant = meant or [s for s in sessions if s.path.endswith("/" + wanted) or wanted.endswith("/" + s.path)]
            if len(meant) == 1:
                return meant[0].kernel_id
            problem = f"{self._notebook} is not open there" if not meant else f"{self._notebook} names more than one"
        elif len(sessions) == 1:
            return sessions[0].kernel_id
        else:
            problem = (
                "More than one notebook is open; say which with --notebook PATH" if sessions else "No notebook is open"
            )
        rows = tuple((s.path, s.kernel_name, s.state) for s in sessions)
        table = Table("Open notebooks", ("Notebook", "Kernel", "State"), rows) if rows else None
        raise GpuProblem(f"{problem}.", Page().add(table))

    def show(self, page: Page) -> None:
        self.show_text(page.plain())

    def show_text(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def ask(self, question: str) -> bool:
        if not sys.stdin.isatty():
            raise GpuProblem("Nobody can be asked here. Add --yes to agree to what is shown, or --strict to refuse it.")
        try:
            answer = input(f"{question} [y/N] ")
        except EOFError:
            return False
        return answer.strip().lower() in ("y", "yes")

    def preview(self, keep: Any) -> dict[str, Any] | None:
        """Only the kernel can look at its variables: the server asks it, and stops where something would be lost."""
        return None

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def begun(self, switch: Mapping[str, Any], lease: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if self.from_kernel and os.environ.get(KERNEL_VARIABLE) == self.kernel_id:
            if (problem := ended_problem(switch, self)) is not None:
                raise problem
            self.show(page_of(switch, lease, zone=self.zone, command=self.command))
            return switch
        ended = self._follow(switch)
        if ended.get("state") == "failed" and (ended.get("error") or {}).get("code") == "loss_not_accepted":
            return ended  # what is to be lost is asked about next
        if (problem := ended_problem(ended, self)) is not None:
            raise problem
        lease_id = ended.get("lease_id")
        lease = self.link.get(f"leases/{lease_id}") if lease_id else None
        self.show(page_of(ended, lease, zone=self.zone, command=self.command))
        return ended

    def _follow(self, switch: Mapping[str, Any]) -> Mapping[str, Any]:
        """Show its steps until it has ended. The first Ctrl-C cancels it, the second leaves it to itself."""
        progress, cancelling = _ProgressLine(), False
        answered_at = time.monotonic()
        while switch.get("state") not in STATES_ENDED:
            progress.show(switch)
            try:
                self.wait(POLL_SECONDS)
                switch = self.link.get(f"switches/{switch['id']}") or switch
                answered_at = time.monotonic()
            except KeyboardInterrupt:
                if cancelling:
                    raise
                cancelling = True
                progress.note("Cancelling …")
                switch = self._cancelled(switch)
            except LinkProblem as lost:
                if lost.code != "unreachable" or time.monotonic() - answered_at > LOST_SECONDS_MAX:
                    raise
        progress.end()
        return switch

    def _cancelled(self, switch: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self.link.post(f"switches/{switch['id']}/cancel") or switch
        except LinkProblem as refusal:
            if refusal.status != 409:  # 409: it is changing over already and will be done in a moment
                raise
            return switch


class _ProgressLine:
    """One line that changes on a terminal, a line for each step elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._said = ""

    def show(self, switch: Mapping[str, Any]) -> None:
        line = page_of(switch).plain().splitlines()[1]
        step = str(switch.get("step_message") or switch.get("state"))
        if self._live:
            sys.stdout.write("\r\x1b[K" + line)
        elif step != self._said:
            sys.stdout.write(line + "\n")
        self._said = step
        sys.stdout.flush()

    def note(self, text: str) -> None:
        sys.stdout.write(("\r\x1b[K" if self._live else "") + text + "\n")
        sys.stdout.flush()

    def end(self) -> None:
        if self._live and self._said:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
