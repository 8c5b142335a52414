"""A server whose places or pools do not hold ends; Jupyter by itself would start without ComputeHub and log a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import free_port

PLACE = {"kind": "docker", "image": "computehub/slim"}
POOL = {"name": "A100", "place": "gpu", "model": "A100", "devices": 1, "simulated": True, "rate_credits_per_hour": 1}


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ({"places": {"gpu": {**PLACE, "memory": 4}}, "pools": [POOL]}, "memory"),
        ({"places": {"gpu": {"kind": "slurm"}}, "pools": [{**POOL, "simulated": False}]}, "gres"),
        ({"pools": ["A100"]}, "pools"),
        ({"warm_idle_seconds": "30m"}, "warm_idle_seconds"),
    ],
)
def test_it_ends_with_a_sentence(ours: dict[str, object], told: str, tmp_path: Path) -> None:
    settings = {
        "ServerApp": {"jpserver_extensions": {"computehub_ext": True}, "port": free_port(), "allow_root": True},
        "ComputeHub": {**ours, "state_dir": str(tmp_path / "state")},
    }
    (tmp_path / "jupyter_server_config.json").write_text(json.dumps(settings))
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "HOME")
    environment = {**os.environ, **dict.fromkeys(folders, str(tmp_path))}
    command = [sys.executable, "-m", "jupyter_server", f"--config={tmp_path / 'jupyter_server_config.json'}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    _, found, why = ended.stderr.partition("ComputeHub is not started, and so the server is not: ")
    assert found
    assert told in why
