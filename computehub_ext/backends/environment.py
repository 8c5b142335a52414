"""What a leased kernel gets to see of the server's environment: a short list, and no secret even if it is on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .model import StartRequest

LABEL = "COMPUTEHUB_PLACEMENT_ID"
OWNER = "COMPUTEHUB_BACKEND_ID"

PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "IPYTHONDIR",
    "MPLCONFIGDIR",
    "JUPYTER_PATH",
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTER_PLATFORM_DIRS",
    "CUDA_*",
    "NVIDIA_*",
    "NCCL_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
)
SECRET_NAMES = (
    r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE|AUTH|PASS$|_PWD(_|$)"
    r"|(^|_)(KEYS?|PASS|PAT|DSN)(_|$)|(DATABASE|DB|SQL|POSTGRES|MONGO|REDIS|AMQP|BROKER)[A-Z]*_UR[IL]"
)
"""A pattern for names. Short words stand alone in them, since PATH and PWD are no secrets; such URLs have passwords."""
_SECRET = re.compile(SECRET_NAMES, re.IGNORECASE)
_SERVER_ONLY = re.compile(r"JUPYTERHUB_.*|JPY_API_TOKEN|JUPYTER_TOKEN|JPY_PARENT_PID|JPY_INTERRUPT_EVENT")
_READ_AT_START_ONLY = re.compile(r"(PYTHON|LD_|MALLOC_|GLIBC_|IPYTHON|JUPYTER_).*|HOME|XDG_.*")


def passed_on(environment: Mapping[str, str], names: Iterable[str] = PASSED_ON) -> dict[str, str]:
    """Return what may be passed on from a server's environment. A name may end in ``*``."""
    exact = {name for name in names if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in names if name.endswith("*"))
    return {
        name: value
        for name, value in environment.items()
        if (name in exact or (prefixes and name.startswith(prefixes))) and not _SECRET.search(name)
    }


def for_placement(base: Mapping[str, str], spec_env: Mapping[str, str], request: StartRequest) -> dict[str, str]:
    """Return the whole environment of a placement's kernel, but for the labels.

    The server's own credentials are dropped from ``request.env`` too: a notebook that someone downloaded runs there.
    """
    added = {name: value for name, value in request.env.items() if not _SERVER_ONLY.fullmatch(name)}
    environment = {**base, **spec_env, **added}
    uuids = ",".join(device.uuid for device in request.devices)
    if request.simulated:
        # Named what it is, and no real device by accident.
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment["COMPUTEHUB_SIMULATED_DEVICES"] = ",".join(
            f"{request.model}:{device.index}" for device in request.devices
        )
    else:
        environment["CUDA_VISIBLE_DEVICES"] = uuids
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        environment.pop("COMPUTEHUB_SIMULATED_DEVICES", None)
    return environment


def a_standby_can_take(base: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether a kernel that started with ``base`` can come to have ``wanted``.

    An interpreter and its loader read some variables at their start and never again.
    """
    return all(
        base.get(name) == wanted.get(name)
        for name in base.keys() | wanted.keys()
        if _READ_AT_START_ONLY.fullmatch(name)
    )
