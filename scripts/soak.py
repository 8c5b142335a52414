"""`make soak`: what takes too long for every change. Each part's outcome is recorded in docs/soak.md.

With names, only those parts: ``python scripts/soak.py fuzz oldest``.
"""

from __future__ import annotations

import os
import platform
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "soak.md"
HEAD = """# Long runs

Written by `make soak`; the newest run of each part counts.

| Part | What it did | When | Took | Outcome |
| --- | --- | --- | --- | --- |
"""
MOST_SECONDS = 3600
FUZZ_SECONDS = 300
"""For each of its two tests."""
KILL_ROUNDS = 10
LOG = ROOT / ".test" / "soak.log"
"""All that the last part's pytest said."""
PLAIN = ["tests/unit", "tests/contract", "tests/integration"]


def pytest(*arguments: str, python: str = sys.executable, **environment: str) -> tuple[bool, str]:
    """Run pytest; return whether it passed and its last line."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text(done.stdout + done.stderr)
    if done.returncode:
        print(done.stdout[-6000:] + done.stderr[-2000:], f"\nAll of it is in {LOG}.")
    return done.returncode == 0, lines[-1].strip("= ") if lines else "nothing was run"


def fuzz() -> tuple[bool, str]:
    """The API, fuzzed for ten minutes from a seed of its own"""
    seed = str(secrets.randbelow(2**31))
    passed, line = pytest(
        "tests/integration/test_api_fuzz.py",
        "--timeout=1800",
        COMPUTEHUB_FUZZ_SECONDS=str(FUZZ_SECONDS),
        COMPUTEHUB_SEED=seed,
    )
    return passed, f"{line}, seed {seed}"


def kills() -> tuple[bool, str]:
    """Servers, supervisors, kernels and writers killed at random, ten times over"""
    for round_number in range(1, KILL_ROUNDS + 1):
        passed, line = pytest(
            "tests/integration/test_killed_server.py",
            "tests/integration/test_supervisor.py",
            "tests/integration/test_ledger_races.py",
            COMPUTEHUB_SEED=str(secrets.randbelow(2**31)),
        )
        if not passed:
            return False, f"round {round_number}: {line}"
    return True, f"{KILL_ROUNDS} rounds, each: {line}"


def pins(resolution: str) -> tuple[bool, str]:
    """Run the tests without the browser's in an environment of its own, made of other versions inside our bounds."""
    uv = str(ROOT / ".venv" / "bin" / "uv")
    with tempfile.TemporaryDirectory(prefix="computehub-pins-") as folder:
        venv = Path(folder) / "venv"
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
        python = str(venv / "bin" / "python")
        install = [uv, "pip", "install", "--quiet", "--python", python, "--resolution", resolution]
        subprocess.run([*install, f"{ROOT}[test]"], check=True, cwd=folder)
        return pytest(*PLAIN, "--reruns", "1", "-n", "2", "--dist", "loadfile", "--max-worker-restart=0", python=python)


def oldest() -> tuple[bool, str]:
    """Every direct dependency at the oldest version that we promise"""
    return pins("lowest-direct")


def newest() -> tuple[bool, str]:
    """Every dependency at the newest version inside our bounds"""
    return pins("highest")


PARTS: dict[str, Callable[[], tuple[bool, str]]] = {
    "fuzz": fuzz,
    "kills": kills,
    "oldest": oldest,
    "newest": newest,
}


def main() -> int:
    wanted = sys.argv[1:] or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    rows = recorded()
    failed = []
    for name in wanted:
        part = PARTS[name]
        what = (part.__doc__ or "").strip()
        print(f"soak: {name}: {what} ...", flush=True)
        started = time.monotonic()
        try:
            passed, line = part()
        except (subprocess.SubprocessError, OSError) as error:
            passed, line = False, f"{type(error).__name__}: {error}"
        minutes = (time.monotonic() - started) / 60
        print(f"  {'passed' if passed else 'FAILED'} in {minutes:.1f} minutes: {line}", flush=True)
        day = datetime.now(UTC).date().isoformat()
        outcome = f"{'passed' if passed else '**failed**'}: {line}, on Python {platform.python_version()}"
        rows[name] = f"| {name} | {what} | {day} | {minutes:.1f} min | {outcome} |"
        RECORD.write_text(HEAD + "\n".join(rows[part] for part in PARTS if part in rows) + "\n")
        if not passed:
            failed.append(name)
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def recorded() -> dict[str, str]:
    if not RECORD.is_file():
        return {}
    lines = RECORD.read_text().splitlines()
    return {line.split("|")[1].strip(): line for line in lines if line.startswith("| ") and "| ---" not in line}


if __name__ == "__main__":
    sys.exit(main())
