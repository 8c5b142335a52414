"""The process that a job keeps to become the supervisor: it has nothing of the launcher's and goes when it goes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from computehub_ext.kernel import launcher, runner
from computehub_ext.testing.kernels import wait_for

_KEEPS_ONE = f"""
import sys, time
sys.path.insert(0, {str(Path(launcher.__file__).parent)!r})
import launcher
spare = launcher.Spare()
print(spare._pid, flush=True)
time.sleep(600)
"""


def test_it_becomes_the_program_and_its_end_is_seen(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys\n"
        f"with open({str(tmp_path / 'said')!r}, 'w') as file:\n"
        "    json.dump([__name__, sys.argv, os.getppid()], file)\n"
        "sys.exit(3)\n"
    )
    spare = launcher.Spare()
    assert spare.poll() is None
    spare.run(str(program), "a", "b c")
    code = _waited_for(spare)
    assert json.loads((tmp_path / "said").read_text()) == ["__main__", [str(program), "a", "b c"], os.getpid()]
    assert code != 0
    spare.send_signal(signal.SIGTERM)  # to nobody
    assert spare.poll() == code


def test_one_that_is_gone_is_told_as_an_error() -> None:
    spare = launcher.Spare()
    spare.send_signal(signal.SIGKILL)
    assert _waited_for(spare) == -signal.SIGKILL
    with pytest.raises(OSError, match="pipe"):
        spare.run("/no/such/program.py")


def test_an_interrupt_of_the_whole_job_is_not_for_it() -> None:
    """Such as ``scancel -s INT``."""
    spare = launcher.Spare()
    try:
        wait_for(lambda: _ignores(spare._pid, signal.SIGINT), 10, "it takes interrupts")
        spare.send_signal(signal.SIGINT)
        assert spare.poll() is None
    finally:
        spare.send_signal(signal.SIGKILL)
        _waited_for(spare)


def _ignores(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (ignored,) = [line.split()[1] for line in lines if line.startswith("SigIgn:")]
    return bool(int(ignored, 16) >> (number - 1) & 1)


def test_a_job_from_before_an_upgrade_is_told_why_it_ends() -> None:
    with pytest.raises(runner.CannotStart, match="older ComputeHub"):
        runner.Run({"cwd": "/"}, 0.0)


def test_it_goes_with_a_launcher_that_is_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", _KEEPS_ONE], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    spare = os.pidfd_open(int(process.stdout.readline()))
    try:
        process.kill()
        process.wait()
        process.stdout.read()  # until nobody has it open any more: the spare was the last
        assert _has_ended(spare)
    finally:
        os.close(spare)
        process.stdout.close()


def _waited_for(spare: launcher.Spare) -> int | None:
    os.waitid(os.P_PID, spare._pid, os.WEXITED | os.WNOWAIT)
    return spare.poll()


def _has_ended(process: int) -> bool:
    return bool(select.select([process], [], [], 10)[0])
