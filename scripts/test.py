"""`make test`: lint, then every test, then the checks of what ran. With arguments: only pytest with those."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pythons  # noqa: E402  (this folder comes first on the path, and the root after it)
from nodejs import node_environment  # noqa: E402

from tests.support import records  # noqa: E402

COVERAGE = ["--cov", "--cov-append", "--cov-report="]
# Real servers, kernels and browsers on two shared cores: a test that failed runs once more (a browser's up to twice),
# alone in its place, and is named in the summary (RERUN) when a later try passed. One that fails each time has failed.
AGAIN = ["--reruns", "1", "-rR"]
# Browser tests share the machine with a server, its kernels and Chromium: two at once time out on two cores.
STAGES = {
    "unit, contract, integration, architecture": ["tests", "--ignore=tests/e2e", "-n", "2", "--dist", "loadfile"],
    "end to end": ["tests/e2e", "--reruns", "2"],
}


# What `make test-backends` runs of the above.
BACKENDS = [
    "tests/contract",
    "tests/integration/notebook/test_real_places.py",
    "tests/integration/test_terminals_alone.py",
    "tests/integration/test_killed_places.py",
    "tests/integration/test_lease_endings.py",
    *(
        str(path)
        for kind in ("docker", "slurm", "image")
        for path in sorted(ROOT.glob(f"tests/integration/test_{kind}*"))
    ),
    "-n",
    "2",
    "--dist",
    "loadfile",
]
# After these, and one after the other: see above.
BACKENDS_IN_A_BROWSER = [*(f"tests/e2e/test_{each}.py" for each in ("places", "memory", "pulling")), "--reruns", "2"]
NOTHING_WAS_RUN = 5


def run(*arguments: str) -> int:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode


def run_jest() -> int:
    command = ["node", "node_modules/jest/bin/jest.js", "--ci", "--silent"]
    return subprocess.run(command, cwd=ROOT / "labextension", env=node_environment(), check=False).returncode


def run_backends(*arguments: str) -> int:
    stages = (BACKENDS, BACKENDS_IN_A_BROWSER)
    codes = [run("-m", "pytest", "-q", *AGAIN, *stage, *arguments) for stage in stages]
    # `-k` may have left one of them nothing.
    return next((code for code in codes if code not in (0, NOTHING_WAS_RUN)), min(codes))


def main() -> int:
    started = time.monotonic()
    os.environ.setdefault("COMPUTEHUB_TEST_PYTHONS", os.pathsep.join(pythons.made()))
    if sys.argv[1:2] == ["--backends"]:
        return run_backends(*sys.argv[2:])
    if sys.argv[1:]:
        return run("-m", "pytest", *sys.argv[1:])
    records.clear()
    os.environ[records.STAGED] = "1"
    for old in records.FOLDER.glob("coverage*"):
        old.unlink()
    os.environ.setdefault("COVERAGE_CORE", "sysmon" if sys.version_info >= (3, 14) else "ctrace")
    failed = ["lint"] if run("scripts/lint.py") else []
    print("\ntest: the panel's parts", flush=True)
    if run_jest():
        failed.append("the panel's parts")
    for name, arguments in STAGES.items():
        print(f"\ntest: {name}", flush=True)
        if run("-m", "pytest", "-q", *AGAIN, *arguments, *COVERAGE):
            failed.append(name)
    run("-m", "coverage", "report")
    if run("-m", "tests.support.proof"):
        failed.append("proof")
    not_run = records.read_not_run()
    print(f"\nnot run here: {len(not_run)} tests")
    for nodeid, reason in sorted(not_run.items()):
        print(f"  {nodeid}: needs {reason}")
    print(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
