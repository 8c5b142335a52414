"""schemathesis against a real server: whatever comes in, the answer is one that openapi.yaml declares, and never a 5xx.

Two runs: one with ids out of nothing, one with ids of things that are there, so that what is sent about them gets
through to the control plane. Bounded in time; COMPUTEHUB_SEED chooses another run, COMPUTEHUB_FUZZ_SECONDS a longer
one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.api.routes import CONTRACT_PATH
from computehub_ext.core.web import API_PATH
from tests.e2e.lab import Lab, eventually, running_lab

SECONDS = int(os.environ.get("COMPUTEHUB_FUZZ_SECONDS", "30"))
SEED = os.environ.get("COMPUTEHUB_SEED", "20260302")

# Well-formed may still be impossible here and now; malformed is refused before anybody looks whether it is there.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "402", "403", "404", "409", "415", "422"]
[checks.negative_data_rejection]
expected-statuses = ["400", "403", "404", "405", "409", "413", "415", "422"]
[checks.missing_required_header]
expected-statuses = ["400", "403", "404", "415", "422"]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("fuzzed"), rate_limits={}, welcome_credits=1e6) as lab:
        yield lab


@pytest.fixture(scope="module")
def ids(lab: Lab) -> dict[str, str]:
    """Things of alice's that are there: a booking, a series, a kernel on a simulated GPU, its lease and its switch."""
    kernel: str = lab.request("api/kernels", user="alice", method="POST", body={})["id"]
    wish = {"model": "T4", "when": "tomorrow 14:00", "duration_seconds": 3600}
    booking = lab.api("bookings", user="alice", method="POST", body=wish)
    wish |= {"time_zone": "Europe/Berlin", "rrule": "FREQ=DAILY;COUNT=3"}
    series = lab.api("booking-series", user="alice", method="POST", body=wish)
    wish = {"target": "gpu", "kernel_id": kernel, "model": "V100", "duration_seconds": 7200}
    switch: str = lab.api("switches", user="alice", method="POST", body=wish)["id"]

    def arrived() -> Any:
        state = lab.api(f"switches/{switch}", user="alice")
        assert state["state"] != "failed", state["error"]
        return state["state"] == "done" and state

    lease = eventually("the kernel is on the GPU", arrived)["lease_id"]
    return {
        "booking_id": booking["id"],
        "series_id": series["id"],
        "pool_id": booking["pool_id"],
        "kernel_id": kernel,
        "lease_id": lease,
        "switch_id": switch,
    }


def fuzz(lab: Lab, folder: Path, config: str, *options: str) -> None:
    (folder / "schemathesis.toml").write_text(config)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "run"]
    command += [str(CONTRACT_PATH), "--url", f"{lab.url}{API_PATH}", "-H", f"Authorization: token {lab.users['alice']}"]
    command += ["--checks", "all", "--max-time", str(SECONDS), "--seed", SEED, "--request-timeout", "20"]
    command += ["--generation-database", "none", "--warnings", "off", "--no-color", "--continue-on-failure", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=SECONDS + 100)
    assert done.returncode == 0, done.stdout[-15_000:] + done.stderr[-3_000:]
    assert f"Seed: {SEED}" in done.stdout
    assert "Unexpected failure" not in lab.log.read_text(), lab.tail(200)
    lab.assert_books_agree()


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.usefixtures("ids")  # made first: minutes of bookings at random leave no room for them
def test_whatever_comes_in_the_answer_is_declared(lab: Lab, tmp_path: Path) -> None:
    fuzz(lab, tmp_path, CONFIG, "--phases", "examples,coverage,fuzzing")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 180)
def test_whatever_is_sent_about_what_is_there_the_answer_is_declared(
    lab: Lab, tmp_path: Path, ids: dict[str, str]
) -> None:
    given = "[parameters]\n" + "".join(f'"path.{name}" = "{value}"\n' for name, value in ids.items())
    # Only what is about one thing; ending the lease or the booking would leave the rest nothing to be about.
    others = ("endLease", "cancelBooking", "cancelSeries", "approve", "decline", "getApproval")
    about = [r"--include-path-regex=\{", *(f"--exclude-operation-id={name}" for name in others)]
    fuzz(lab, tmp_path, given + CONFIG, *about, "--phases", "coverage,fuzzing")
