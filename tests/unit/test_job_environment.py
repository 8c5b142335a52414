"""Which GPUs a kernel in a cluster's job sees: those that Slurm gave to its job, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from computehub_ext.backends.environment import SECRET_NAMES
from computehub_ext.backends.slurm.script import SET_BY_JOB
from computehub_ext.backends.slurm.settings import SlurmSettings
from computehub_ext.kernel.runner import environment

JOB = {"PATH": "/usr/bin", "SLURM_JOB_ID": "7", "API_TOKEN": "secret", "CUDA_HOME": "/cuda", "EDITOR": "ed"}


def seen(own: dict[str, str], **changes: Any) -> dict[str, str]:
    request = {
        "names": list(SlurmSettings().environment_names),
        "secret_names": SECRET_NAMES,
        "simulated": False,
        "env": {"CUDA_VISIBLE_DEVICES": "0,1", "COURSE": "physics"},
    }
    return environment({**JOB, **own}, {**request, **changes})


@pytest.mark.parametrize(
    "given",
    [
        {"SLURM_JOB_GPUS": "4,5"},
        {"SLURM_STEP_GPUS": "4,5"},
        {"SLURM_SHARDS_ON_NODE": "2"},
        {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50"},
    ],
)
def test_the_gpus_of_the_job_are_seen_whatever_the_request_calls_them(given: dict[str, str]) -> None:
    assert seen({**given, "CUDA_VISIBLE_DEVICES": "4,5"})["CUDA_VISIBLE_DEVICES"] == "4,5"
    # Given, and not named to CUDA: the pool's ids would be anybody's.
    assert seen(given)["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"SLURM_JOB_GPUS": ""},
        {"CUDA_VISIBLE_DEVICES": "0,1,2,3", "NVIDIA_VISIBLE_DEVICES": "all"},  # by a prologue, or the node's own
        {"CUDA_VISIBLE_DEVICES": "NoDevFiles"},
    ],
)
def test_without_gpus_of_its_own_a_job_s_kernel_sees_none(own: dict[str, str]) -> None:
    for asked in ({"CUDA_VISIBLE_DEVICES": "0,1"}, {"NVIDIA_VISIBLE_DEVICES": "0"}, dict[str, str]()):
        found = seen(own, env=asked)
        assert (found["CUDA_VISIBLE_DEVICES"], found["NVIDIA_VISIBLE_DEVICES"]) == ("", "")


def test_simulated_devices_show_no_real_ones() -> None:
    own = {"SLURM_JOB_GPUS": "4", "CUDA_VISIBLE_DEVICES": "4"}
    asked = {"CUDA_VISIBLE_DEVICES": "", "COMPUTEHUB_SIMULATED_DEVICES": "T4:0"}
    found = seen(own, simulated=True, env=asked)
    assert (found["CUDA_VISIBLE_DEVICES"], found["COMPUTEHUB_SIMULATED_DEVICES"]) == ("", "T4:0")


def test_of_the_rest_it_has_what_is_listed_and_no_secret() -> None:
    found = seen({})
    assert found["COURSE"] == "physics"
    assert {name: found[name] for name in ("PATH", "SLURM_JOB_ID", "CUDA_HOME")} == {
        "PATH": "/usr/bin",
        "SLURM_JOB_ID": "7",
        "CUDA_HOME": "/cuda",
    }
    assert not {"API_TOKEN", "EDITOR"} & found.keys()


def test_what_the_modules_and_the_prologue_set_is_seen_but_no_secret() -> None:
    own = {
        "COURSE_DATA": "/data",
        "SITE_TOKEN": "secret",
        "OTHER": "1",
        "PWD": "/",
        SET_BY_JOB: " COURSE_DATA SITE_TOKEN PWD",
    }
    found = seen(own)
    assert found["COURSE_DATA"] == "/data"
    assert not {"SITE_TOKEN", "OTHER", "PWD", SET_BY_JOB} & found.keys()
    assert "COURSE_DATA" not in seen({**own, SET_BY_JOB: ""})


SECRETS = "AWS_ACCESS_KEY_ID WANDB_KEY DATABASE_URL PGPASS MYSQL_PWD GH_PAT mongodb_uri SENTRY_DSN SSHPASS SIGNING_KEYS"
PLAIN = "PATH MANPATH CUDA_PATH PKG_CONFIG_PATH KEYRING_PATH COURSE_URL PATTERN COMPASS_HOME MONKEY XDG_DATA_DIRS"


def test_secrets_go_by_their_names_and_what_is_merely_spelt_like_one_stays() -> None:
    names = f"{SECRETS} {PLAIN}".split()
    found = seen({**dict.fromkeys(names, "x"), SET_BY_JOB: " ".join(names)})
    assert {name for name in names if name in found} == set(PLAIN.split())
