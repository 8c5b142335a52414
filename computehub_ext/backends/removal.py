"""Taking away folders in which somebody's code could write."""

from __future__ import annotations

import logging
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

REMOVAL_SECONDS_MAX = 10.0


def remove_folder(path: Path) -> bool:
    """Remove a folder with all that is in it on its file system; tell whether it is gone. Raises nothing.

    By the system's own ``rm``: ``shutil.rmtree`` is recursive, so that folders in folders a thousand deep end it with
    an error, and a million files would hold up whoever waits for it. What is left is logged, and removed by a later
    try.
    """
    if not path.exists() and not path.is_symlink():
        return True
    try:
        done = subprocess.run(
            ["rm", "-rf", "--one-file-system", "--", str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=REMOVAL_SECONDS_MAX,
            check=False,
        )
        said = done.stderr.decode(errors="replace").strip()[-300:]
    except (OSError, subprocess.TimeoutExpired) as problem:
        said = str(problem)
    if path.exists():
        log.warning("The folder %s is not removed yet: %s", path, said)
        return False
    return True
