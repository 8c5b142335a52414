"""What every backend promises, as tests.

``BackendContract`` is about placements, and a fake passes it. ``KernelContract`` adds what shows only in a kernel that
runs. A backend's test class inherits both and gives a ``make_backend`` fixture; see ``docs/how-to/add-a-backend.md``.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from computehub_ext.backends.capabilities import Limits, Logs
from computehub_ext.backends.model import Backend, Ending, LookState, Placed, StartRequest
from computehub_ext.core.errors import ComputeHubError, Invalid, NotFound, Refused
from computehub_ext.core.ids import new_id

from .kernels import CellError, KernelTalk, wait_for

MakeBackend = Callable[[], Backend]
Ask = Callable[..., StartRequest]


@dataclass(frozen=True)
class AskedDevice:
    index: int
    uuid: str


class _Requests:
    """Fixtures that both suites use; a backend on another clock overrides ``now`` and ``let_pass``."""

    unpaid_seconds_max = 5.0
    """How long after ``paid_until`` the end may take to be seen."""

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        """Return a function that makes a backend over the same place each time, and lets go of all at the end."""
        raise NotImplementedError("each backend's own tests give this")

    @pytest.fixture
    def now(self) -> Callable[[], datetime]:
        return lambda: datetime.now(UTC)

    @pytest.fixture
    def let_pass(self) -> Callable[[float], None]:
        def let_pass(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                time.sleep(left)

        return let_pass

    @pytest.fixture
    def backend(self, make_backend: MakeBackend) -> Backend:
        return make_backend()

    @pytest.fixture
    def ask(self, now: Callable[[], datetime], tmp_path: Any) -> Ask:
        def ask(paid_seconds: float = 120.0, **changes: Any) -> StartRequest:
            request = StartRequest(
                placement_id=new_id("placement"),
                kernel_name="python3",
                cwd=str(tmp_path),
                env={},
                devices=(AskedDevice(0, "SIM-0"),),
                model="T4",
                simulated=True,
                session_key=new_id("key").encode(),
                username="ada",
                paid_until=now() + timedelta(seconds=paid_seconds),
            )
            return replace(request, **changes)

        return ask

    def ended(self, backend: Backend, placement_id: str, seconds_max: float = 10.0) -> Any:
        wait_for(lambda: backend.look(placement_id).state is LookState.ENDED, seconds_max, "it did not end")
        return backend.look(placement_id)


class BackendContract(_Requests):
    """Placements: started once, found again, ended for a reason, never unpaid."""

    def test_it_has_a_name_and_is_well(self, backend: Backend) -> None:
        assert backend.name.replace("-", "_").isidentifier()
        assert backend.health().ok, backend.health().message

    def test_a_started_kernel_runs_and_signs_with_the_given_key(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        placed = backend.start(request)
        assert placed.placement_id == request.placement_id
        assert placed.connection_info["key"] == request.session_key.decode()
        assert placed.connection_info["signature_scheme"] == "hmac-sha256"
        ports = {value for name, value in placed.connection_info.items() if name.endswith("_port")}
        assert len(ports) == 5
        assert all(ports)
        assert backend.look(request.placement_id).state is LookState.RUNNING

    def test_keys_are_not_shown_in_logs(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        placed = backend.start(request)
        assert request.session_key.decode() not in repr(request) + repr(placed)

    def test_a_second_start_returns_what_the_first_one_started(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        assert backend.start(request) == backend.start(request)
        assert len(backend.list_placements()) == 1

    def test_two_starts_at_once_start_one_kernel(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        found: list[Placed | Exception] = []

        def start() -> None:
            try:
                found.append(backend.start(request))
            except Exception as problem:
                found.append(problem)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [found[0]] * 4
        assert isinstance(found[0], Placed)
        assert len(backend.list_placements()) == 1

    def test_a_successor_finds_the_placement_and_starts_it_no_second_time(
        self, make_backend: MakeBackend, ask: Ask
    ) -> None:
        request = ask()
        placed = make_backend().start(request)
        successor = make_backend()
        assert [look.placement_id for look in successor.list_placements()] == [request.placement_id]
        assert successor.start(request) == placed
        successor.stop(request.placement_id, 0)
        assert successor.list_placements() == []

    def test_closing_the_backend_ends_no_placement(self, make_backend: MakeBackend, ask: Ask) -> None:
        request = ask()
        first = make_backend()
        first.start(request)
        first.close()
        assert make_backend().look(request.placement_id).state is LookState.RUNNING

    def test_what_was_never_started_is_unknown(self, backend: Backend) -> None:
        assert backend.look("placement_nobody").state is LookState.UNKNOWN
        assert backend.list_placements() == []

    @pytest.mark.parametrize("grace_seconds", [0, 1])
    def test_stopping_twice_is_fine(self, backend: Backend, ask: Ask, grace_seconds: float) -> None:
        request = ask()
        backend.start(request)
        backend.stop(request.placement_id, grace_seconds)
        look = backend.look(request.placement_id)
        assert (look.state, look.reason) == (LookState.ENDED, Ending.STOPPED)
        assert look.message
        assert look.ended_at is not None
        assert look.ended_at.tzinfo is not None
        backend.stop(request.placement_id, grace_seconds)
        assert backend.look(request.placement_id) == look
        assert backend.list_placements() == []

    def test_what_was_stopped_is_not_started_again(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        backend.start(request)
        backend.stop(request.placement_id, 0)
        with pytest.raises(Refused):
            backend.start(request)
        assert backend.list_placements() == []

    def test_a_start_that_comes_after_its_stop_is_refused(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        backend.stop(request.placement_id)
        with pytest.raises(Refused):
            backend.start(request)
        assert backend.list_placements() == []

    def test_nothing_starts_unpaid(self, backend: Backend, ask: Ask) -> None:
        request = ask(paid_seconds=-1)
        with pytest.raises(Refused):
            backend.start(request)
        assert backend.list_placements() == []

    def test_what_is_not_paid_for_ends(self, backend: Backend, ask: Ask, let_pass: Callable[[float], None]) -> None:
        request = ask(paid_seconds=3)
        backend.start(request)
        let_pass(3)
        look = self.ended(backend, request.placement_id, self.unpaid_seconds_max)
        assert look.reason is Ending.UNPAID
        assert request.paid_until - timedelta(milliseconds=50) <= look.ended_at
        assert look.ended_at <= request.paid_until + timedelta(seconds=self.unpaid_seconds_max)
        with pytest.raises(Refused):
            backend.renew(request.placement_id, request.paid_until + timedelta(hours=1))

    def test_renewing_moves_the_end(
        self,
        backend: Backend,
        ask: Ask,
        now: Callable[[], datetime],
        let_pass: Callable[[float], None],
    ) -> None:
        request = ask(paid_seconds=3)
        backend.start(request)
        backend.renew(request.placement_id, now() + timedelta(minutes=5))
        let_pass(3 + self.unpaid_seconds_max / 2)
        assert backend.look(request.placement_id).state is LookState.RUNNING
        backend.renew(request.placement_id, now() + timedelta(seconds=1))
        let_pass(1)
        assert self.ended(backend, request.placement_id, self.unpaid_seconds_max).reason is Ending.UNPAID

    def test_a_successor_renews(self, make_backend: MakeBackend, ask: Ask, now: Callable[[], datetime]) -> None:
        request = ask()
        make_backend().start(request)
        successor = make_backend()
        successor.renew(request.placement_id, now() + timedelta(hours=1))
        assert successor.look(request.placement_id).state is LookState.RUNNING

    def test_unknown_and_ended_placements_can_be_neither_renewed_nor_interrupted(
        self, backend: Backend, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        later = now() + timedelta(hours=1)
        request = ask()
        backend.start(request)
        backend.stop(request.placement_id, 0)
        for placement_id, problem in (("placement_nobody", NotFound), (request.placement_id, Refused)):
            with pytest.raises(problem):
                backend.renew(placement_id, later)
            with pytest.raises(problem):
                backend.interrupt(placement_id)

    def test_a_log_is_kept_of_what_was_started_and_of_nothing_else(self, backend: Backend, ask: Ask) -> None:
        if not isinstance(backend, Logs):
            return  # it promises none
        request = ask()
        backend.start(request)
        assert isinstance(backend.log(request.placement_id), str)
        backend.stop(request.placement_id, 0)
        assert isinstance(backend.log(request.placement_id), str)
        with pytest.raises(NotFound):
            backend.log("placement_nobody")

    def test_what_a_kernel_may_use_is_told_as_amounts_or_as_no_limit(self, backend: Backend, ask: Ask) -> None:
        if not isinstance(backend, Limits):
            return  # it promises none
        limits = backend.limits()
        assert limits.memory_mib is None or limits.memory_mib > 0
        assert limits.cpus is None or limits.cpus > 0
        backend.start(ask())
        assert backend.limits() == limits, "they are one kernel's, however many run"

    @pytest.mark.parametrize("placement_id", ["", "../up", "a/b", "a b", "x" * 81, "-rf"])
    def test_an_id_that_is_no_label_is_refused(self, backend: Backend, ask: Ask, placement_id: str) -> None:
        with pytest.raises(Invalid):
            ask(placement_id=placement_id)
        with pytest.raises(Invalid):
            backend.look(placement_id)
        with pytest.raises(Invalid):
            backend.stop(placement_id)


class KernelContract(_Requests):
    """Kernels: what a notebook that was moved here finds."""

    def test_cells_run_in_the_notebooks_folder(self, backend: Backend, ask: Ask, tmp_path: Any) -> None:
        (tmp_path / "beside_the_notebook.py").write_text("answer = 42")
        with KernelTalk(backend.start(ask()).connection_info) as kernel:
            assert kernel.run("import os; print(os.getcwd())").strip() == str(tmp_path)
            assert kernel.run("import beside_the_notebook; print(beside_the_notebook.answer)").strip() == "42"
            assert kernel.run("print(_dh[0])").strip() == str(tmp_path)
            assert kernel.run("%pwd").strip() == ""
            assert kernel.run("print(__name__, In[1][:9], sorted(n for n in dir() if n[0] != '_'))").startswith(
                "__main__ import os ['In', 'Out', 'beside_the_notebook', 'exit', 'get_ipython', 'open', 'os', 'quit']"
            )

    def test_what_a_kernel_writes_outside_its_channels_is_in_its_log(self, backend: Backend, ask: Ask) -> None:
        if not isinstance(backend, Logs):
            return  # it promises none
        request = ask()
        with KernelTalk(backend.start(request).connection_info) as kernel:
            kernel.run("import os; os.write(2, b'beside the channels')")
        wait_for(lambda: "beside the channels" in backend.log(request.placement_id), message="it is not in the log")

    def test_a_missing_folder_is_said(self, backend: Backend, ask: Ask, tmp_path: Any) -> None:
        with pytest.raises(Refused, match="nowhere"):
            backend.start(ask(cwd=str(tmp_path / "nowhere")))
        assert backend.list_placements() == []

    def test_an_unknown_kernel_is_refused_and_the_known_ones_named(self, backend: Backend, ask: Ask) -> None:
        with pytest.raises(ComputeHubError, match="python3"):
            backend.start(ask(kernel_name="cobol"))
        assert backend.list_placements() == []

    def test_the_environment_is_clean(
        self, make_backend: MakeBackend, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secrets = {
            "SECRET_TOKEN": "fake",
            "JUPYTERHUB_API_TOKEN": "fake",
            "JPY_API_TOKEN": "fake",
            "NVIDIA_API_KEY": "fake",
            "DATABASE_URL": "fake",
        }
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)
        request = ask(env={"COURSE": "physics", "JPY_SESSION_NAME": "/n.ipynb", "JUPYTERHUB_API_TOKEN": "fake"})
        with KernelTalk(make_backend().start(request).connection_info) as kernel:
            seen = json.loads(kernel.run("import os, json; print(json.dumps(dict(os.environ)))"))
            started_with = kernel.run("print(open('/proc/self/environ').read())")
            assert kernel.run("print(__session__)").strip() == "/n.ipynb"
            child = kernel.run("import subprocess; print(subprocess.check_output(['env'], text=True))")
        assert not seen.keys() & secrets.keys()
        assert "fake" not in seen.values()
        assert "fake" not in started_with + child
        assert seen["COURSE"] == "physics"
        assert "COURSE=physics" in child
        assert seen["PATH"]
        assert seen["HOME"]
        assert seen["MPLBACKEND"] == "module://matplotlib_inline.backend_inline"
        assert seen["TERM"] == "xterm-color"

    def test_simulated_devices_are_called_so_and_show_no_real_ones(self, backend: Backend, ask: Ask) -> None:
        devices = (AskedDevice(0, "SIM-0"), AskedDevice(1, "SIM-1"))
        with KernelTalk(backend.start(ask(devices=devices)).connection_info) as kernel:
            names = "[os.environ.get('COMPUTEHUB_SIMULATED_DEVICES'), os.environ.get('CUDA_VISIBLE_DEVICES')]"
            assert kernel.run(f"import os; print({names})").strip() == "['T4:0,T4:1', '']"

    def test_real_devices_are_named_by_uuid(self, backend: Backend, ask: Ask) -> None:
        devices = (AskedDevice(0, "GPU-a"), AskedDevice(1, "GPU-b"))
        with KernelTalk(backend.start(ask(devices=devices, simulated=False)).connection_info) as kernel:
            names = "[os.environ.get('COMPUTEHUB_SIMULATED_DEVICES'), os.environ.get('CUDA_VISIBLE_DEVICES')]"
            assert kernel.run(f"import os; print({names})").strip() == "[None, 'GPU-a,GPU-b']"

    def test_every_channel_takes_the_given_key(self, backend: Backend, ask: Ask) -> None:
        """Execute and its output, ``input()``, interrupt by signal and by control, and completion."""
        request = ask()
        with KernelTalk(backend.start(request).connection_info) as kernel:
            assert kernel.run("print('iopub')") == "iopub\n"
            assert kernel.run("import sys; print(input('name? '), file=sys.stderr)", answer="Ada") == "Ada\n"
            for interrupt in (
                lambda: backend.interrupt(request.placement_id),
                lambda: kernel.client.control_channel.send(kernel.client.session.msg("interrupt_request", {})),
            ):
                cell = kernel.begin("import time\nprint('on')\nwhile True: time.sleep(0.01)")
                kernel.wait_for_iopub(cell, "stream", "on")
                interrupt()
                assert kernel.reply_to(cell)["ename"] == "KeyboardInterrupt"
            assert kernel.run("print('still here')") == "still here\n"
            control = kernel.client.get_control_msg(timeout=10)
            assert control["content"]["status"] == "ok"
            assert kernel.client.complete("sys.getref", reply=True, timeout=10)["content"]["matches"]
            # Subshells have threads and sockets of their own.
            asked = kernel.client.session.msg("create_subshell_request", {})
            kernel.client.control_channel.send(asked)
            assert kernel.client.get_control_msg(timeout=10)["content"]["subshell_id"]

    def test_an_interrupt_of_an_idle_kernel_changes_nothing(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        with KernelTalk(backend.start(request).connection_info) as kernel:
            backend.interrupt(request.placement_id)
            # On its way from another machine it may meet the cell after it, as anywhere; it must not meet two.
            with contextlib.suppress(CellError):
                kernel.run("import time; time.sleep(0.5)")
            assert kernel.run("print('well')") == "well\n"

    def test_who_has_another_key_is_not_heard(self, backend: Backend, ask: Ask, tmp_path: Any) -> None:
        info = backend.start(ask()).connection_info
        stranger = KernelTalk({**info, "key": "guessed"})
        stranger.client.start_channels(hb=False)
        stranger.client.execute(f"open({str(tmp_path / 'touched')!r}, 'w')")
        with KernelTalk(info) as kernel:
            kernel.run("print('heard')")
        stranger.__exit__()
        assert not (tmp_path / "touched").exists()

    def test_a_cells_error_is_the_cells(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        with KernelTalk(backend.start(request).connection_info) as kernel, pytest.raises(CellError, match="NameError"):
            kernel.run("nobody_defined_this")
        assert backend.look(request.placement_id).state is LookState.RUNNING

    @pytest.mark.parametrize(
        ("code", "reason", "exit_code"),
        [
            ("import os; os._exit(3)", Ending.CRASHED, 3),
            ("import os; os._exit(0)", Ending.EXITED, 0),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Ending.KILLED, -9),
            ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Ending.CRASHED, -11),
        ],
    )
    def test_a_kernel_that_dies_says_how(
        self, backend: Backend, ask: Ask, code: str, reason: Ending, exit_code: int
    ) -> None:
        request = ask()
        with KernelTalk(backend.start(request).connection_info) as kernel:
            kernel.client.execute(code)
            look = self.ended(backend, request.placement_id)
        assert (look.reason, look.exit_code) == (reason, exit_code)
        assert backend.list_placements() == []

    def test_a_kernel_shuts_down_when_its_client_asks(self, backend: Backend, ask: Ask) -> None:
        request = ask()
        with KernelTalk(backend.start(request).connection_info) as kernel:
            kernel.client.shutdown()
            look = self.ended(backend, request.placement_id)
        assert (look.reason, look.exit_code) == (Ending.EXITED, 0)
