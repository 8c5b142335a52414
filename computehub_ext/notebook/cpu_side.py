"""What the CPU's Python lacks that a notebook on a GPU uses, asked before the notebook is back there."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any

from computehub_ext.kernel import lacking

log = logging.getLogger(__name__)

SECONDS_MAX = 5.0
# Not what lies in the server's folder: a csv.py there would be run.
_LOOK = """
import sys
sys.path[:] = filter(None, sys.path)
import runpy
runpy.run_path(sys.argv[1], run_name="__main__")
"""


async def problems(spec: Any, found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what ``kernel/lacking.py`` says in a process of the kernelspec's Python; nothing where it can't be asked.

    Parameters
    ----------
    spec:
        The kernelspec that the notebook has on the CPU. One that starts Python in a roundabout way is not asked.
    found:
        A preview, with the modules that the notebook uses.
    """
    python = _python(spec)
    if python is None:
        return []
    wanted = {name: value for name, value in found.items() if name not in ("carried", "lost")}
    added = {name: Template(value).safe_substitute(os.environ) for name, value in (spec.env or {}).items()}
    environment = {**os.environ, **added}  # as jupyter_client starts a kernel
    try:
        process = await asyncio.create_subprocess_exec(
            *(python, "-c", _LOOK, str(lacking.__file__)),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as problem:
        log.debug("%s could not be asked what it lacks: %s", python, problem)
        return []
    try:
        said, _ = await asyncio.wait_for(process.communicate(json.dumps(wanted).encode()), SECONDS_MAX)
        return [{"kind": str(item["kind"]), "message": str(item["message"])} for item in json.loads(said)]
    except (TimeoutError, ValueError, TypeError, KeyError, OSError) as problem:
        log.debug("%s did not say what it lacks: %s", python, problem)
        return []
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _python(spec: Any) -> str | None:
    first = next(iter(getattr(spec, "argv", None) or ()), "")
    if not Path(first).name.startswith("python"):
        return None
    own = {"python", f"python{sys.version_info[0]}", f"python{sys.version_info[0]}.{sys.version_info[1]}"}
    return sys.executable if first in own else first  # as jupyter_client takes a bare name
