"""Remove one guard at a time in a copy of the project and see its test fail.

A test that also fails with its guard in place proves nothing, so each is first run on the copy as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant
from tests.support.records import ROOT

LONGEST_TEST_SECONDS = 300
COPIED = ("computehub_ext", "tests", "benchmarks", "scripts", "kernels", "etc", "conftest.py", "pyproject.toml")


def copy_project(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", ".test"))
        elif source.is_file():
            shutil.copy2(source, target / name)


def run_test(project: Path, test: str) -> tuple[int, str]:
    """Run one test on the copy: its folder comes first on the path, before the installed project's."""
    environment = {**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", test]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=LONGEST_TEST_SECONDS, check=False
    )
    return done.returncode, done.stdout + done.stderr


def try_mutant(project: Path, mutant: Mutant) -> str | None:
    """Return what is wrong, or None when the test noticed that the guard was gone."""
    path = project / mutant.file
    text = path.read_text()
    found = text.count(mutant.old)
    if found != 1:
        return f"its text stands {found} times in {mutant.file}, not once"
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        code, output = run_test(project, mutant.test)
    except subprocess.TimeoutExpired:
        return "the test hung without its guard; it should fail"
    finally:
        path.write_text(text)
    if code == 1 and " failed" in output:
        return None
    if code == 0:
        return "SURVIVED: the test passes without its guard"
    return f"the test could not run (pytest's exit code {code}):\n{output[-2000:]}"


def main() -> int:
    wanted = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    failures = 0
    with tempfile.TemporaryDirectory(prefix="computehub-mutants-") as folder:
        project = Path(folder)
        copy_project(project)
        sound: dict[str, bool] = {}
        for mutant in chosen:
            if mutant.test not in sound:
                code, output = run_test(project, mutant.test)
                sound[mutant.test] = code == 0
                if code:
                    print(output[-2000:])
            problem = (
                try_mutant(project, mutant) if sound[mutant.test] else "its test does not pass even with the guard"
            )
            failures += problem is not None
            print(f"{'noticed' if problem is None else 'PROBLEM'}  {mutant.name}", flush=True)
            print(f"         {mutant.test}" + (f"\n         {problem}" if problem else ""), flush=True)
    print(f"mutants: {len(chosen) - failures} of {len(chosen)} noticed")
    return 1 if failures or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
