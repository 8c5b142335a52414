"""What every backend promises that opens terminals, as tests: a test class inherits it beside the other suites."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from computehub_ext.backends.capabilities import Terminal, TerminalRequest, Terminals
from computehub_ext.backends.model import Backend, StartRequest
from computehub_ext.core.errors import Conflict, NotFound, Refused

from .backend_contract import Ask, _Requests
from .kernels import KernelTalk, wait_for

SECONDS_MAX = 20.0
_ABOUT_ITSELF = (
    "import json, os; status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line);"
    " print(json.dumps({'uid': os.getuid(), 'gid': os.getgid(), 'rights': status['CapEff'].strip()}))"
)


class Screen:
    """Reads a terminal, and forgets what it waited for."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.text = ""

    def type(self, line: str) -> None:
        self.terminal.write(line.encode() + b"\n")

    def until(self, pattern: str, seconds_max: float = SECONDS_MAX) -> re.Match[str]:
        deadline = time.monotonic() + seconds_max
        while (found := re.search(pattern, self.text)) is None:
            part = self.terminal.read(0.2)
            assert part is not None, f"it ended before it showed {pattern!r}: {self.text[-2000:]!r}"
            assert time.monotonic() < deadline, f"it did not show {pattern!r}: {self.text[-2000:]!r}"
            self.text += part.decode(errors="replace")
        self.text = self.text[found.end() :]
        return found

    def until_it_ends(self, seconds_max: float = SECONDS_MAX) -> str:
        deadline = time.monotonic() + seconds_max
        while (part := self.terminal.read(0.2)) is not None:
            assert time.monotonic() < deadline, f"it did not end: {self.text[-2000:]!r}"
            self.text = (self.text + part.decode(errors="replace"))[-100_000:]
        return self.text


def terminal_of(request: StartRequest, rows: int = 24, columns: int = 200) -> TerminalRequest:
    return TerminalRequest(
        placement_id=request.placement_id,
        rows=rows,
        columns=columns,
        devices=request.devices,
        model=request.model,
        simulated=request.simulated,
        username=request.username,
    )


class TerminalContract(_Requests):
    """Terminals: the kernel's own user and place, and nothing that outlives them."""

    @pytest.fixture
    def place(self, backend: Backend) -> Terminals:
        assert isinstance(backend, Terminals), "only who promises terminals runs these"
        return backend

    def test_a_shell_runs_where_the_kernel_does(
        self, backend: Backend, place: Terminals, ask: Ask, tmp_path: object
    ) -> None:
        request = ask(env={"CHK": "of-the-notebook", "COURSE_TOKEN": "not-for-others"})
        with KernelTalk(backend.start(request).connection_info) as kernel:
            its = json.loads(kernel.run(_ABOUT_ITSELF))
            terminal = place.open_terminal(terminal_of(request, rows=31, columns=201))
            try:
                screen = Screen(terminal)
                screen.type("echo $((6*7)) $(stty size)")
                screen.until("42 31 201")
                screen.type("echo [$(id -u):$(id -g)] [$PWD]")
                uid, gid, folder = screen.until(r"\[(\d+):(\d+)\] \[(/[^\]]*)\]").groups()
                assert (int(uid), int(gid), folder) == (its["uid"], its["gid"], str(tmp_path))
                screen.type("grep -E 'NoNewPrivs|CapEff' /proc/self/status; echo done$((1))")
                status = screen.until("(?s)(CapEff.*?)done1")[1]
                assert re.search(r"NoNewPrivs:\s+1", status), "a setuid program would give it more"
                assert its["rights"] in status, "it has other rights than the kernel"
                screen.type('echo "<$COMPUTEHUB_PLACEMENT_ID|$COMPUTEHUB_SIMULATED_DEVICES|$CUDA_VISIBLE_DEVICES>"')
                screen.until(f"<{request.placement_id}\\|T4:0\\|>")
                screen.type("env | tr '\\n' ' '; echo done$((2))")
                assert "not-for-others" not in screen.until("(?s)(.*?)done2")[1]
                terminal.resize(50, 120)
                screen.type("stty size")
                screen.until("50 120")
            finally:
                terminal.close()

    def test_closing_it_ends_all_that_it_started(self, backend: Backend, place: Terminals, ask: Ask) -> None:
        request = ask()
        with KernelTalk(backend.start(request).connection_info) as kernel:
            terminal = place.open_terminal(terminal_of(request))
            screen = Screen(terminal)
            screen.type("setsid sleep 98761 & trap '' HUP; (sleep 98761 &) ; sleep 98761 & echo begun$((1))")
            screen.until("begun1")
            count = "import glob\nsum(b'98761' in open(p, 'rb').read() for p in glob.glob('/proc/[0-9]*/cmdline'))"
            look = f"{count.splitlines()[0]}\nprint({count.splitlines()[1]})"

            def running() -> int:
                try:
                    return int(kernel.run(look))
                except Exception:  # one ended between the listing and the look
                    return -1

            wait_for(lambda: running() == 3, message="the programs did not start")
            terminal.close()
            terminal.close()
            wait_for(lambda: running() == 0, 15, "they outlived their terminal")
            assert terminal.read(0.1) is None
            assert kernel.run("print('still here')").strip() == "still here"

    def test_a_shell_that_exits_ends_it(self, backend: Backend, place: Terminals, ask: Ask) -> None:
        request = ask()
        backend.start(request)
        screen = Screen(place.open_terminal(terminal_of(request)))
        screen.type("echo good''bye; exit")
        assert "goodbye" in screen.until_it_ends()
        screen.terminal.close()

    def test_it_ends_with_the_kernel(self, backend: Backend, place: Terminals, ask: Ask) -> None:
        request = ask()
        backend.start(request)
        screen = Screen(place.open_terminal(terminal_of(request)))
        screen.type("echo begun$((1)); sleep 98762")
        screen.until("begun1")
        backend.stop(request.placement_id, 0)
        screen.until_it_ends()
        screen.terminal.close()

    def test_who_does_not_read_holds_the_programs_up(self, backend: Backend, place: Terminals, ask: Ask) -> None:
        request = ask()
        backend.start(request)
        terminal = place.open_terminal(terminal_of(request))
        screen = Screen(terminal)
        screen.type("yes | tee /dev/stderr > /dev/null")
        screen.until("y\r\ny")
        terminal.write(b"\x03")
        screen.type("echo interrupted$((1))")
        screen.until("interrupted1")
        screen.type("stty -echo; sleep 98763")

        def paste() -> bool:
            try:
                terminal.write(b"x" * 60_000 + b"\n")
            except Conflict:
                return True
            terminal.read(0.01)
            return False

        wait_for(paste, message="it takes without end what nobody reads")
        terminal.close()

    def test_there_is_none_beside_what_does_not_run(
        self, backend: Backend, place: Terminals, ask: Ask, now: Callable[[], object]
    ) -> None:
        request = ask()
        with pytest.raises(NotFound):
            place.open_terminal(terminal_of(request))
        backend.start(request)
        backend.stop(request.placement_id, 0)
        with pytest.raises(Refused):
            place.open_terminal(terminal_of(request))
        other = replace(request, placement_id="placement_nobody")
        with pytest.raises(NotFound):
            place.open_terminal(terminal_of(other))
