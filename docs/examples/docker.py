"""The tour in containers of this machine's Docker: ``make demo CONFIG=docs/examples/docker.py``.

It takes Docker and an image, such as the one that ``.venv/bin/computehub image build slim`` makes. What the settings
mean is in docs/how-to/docker.md.
"""

import os

c = get_config()  # noqa: F821 - Jupyter gives it to each file of settings

c.ComputeHub.places = {
    "docker": {
        "kind": "docker",
        "image": "computehub/slim",
        # A container has to see the notebooks under the path that they have here. The server starts in their folder.
        "mounts": [{"source": os.getcwd()}],
        # Kernels run as you. Who starts the demo as root has to say that these may be root's.
        "allow_root": os.geteuid() == 0,
        "memory_mib": 2048,
    },
}
c.ComputeHub.pools = [
    {
        "name": "T4 in Docker",
        "place": "docker",
        "model": "T4",
        # For real ones, their ids: "devices": ["GPU-6f2c...", "GPU-91ab..."], which `nvidia-smi -L` prints.
        "devices": 2,
        "simulated": True,
        "rate_credits_per_hour": 1.0,
    },
    {
        "name": "A100 in Docker",
        "place": "docker",
        "model": "A100",
        "devices": 2,
        "simulated": True,
        "rate_credits_per_hour": 4.0,
    },
]
