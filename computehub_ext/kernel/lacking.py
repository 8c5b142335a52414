"""What the target lacks that the notebook uses: asked before anything is billed."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from typing import Any

FOLDER_ADVICE = "Ask the administrator to add it to the mounts of the pool."


def check(manifest_or_preview: dict[str, Any]) -> list[dict[str, str]]:
    """Compare this place with what a preview or a manifest says the notebook needs.

    Imports nothing: packages are looked for, not loaded.

    Returns
    -------
    list of {"kind": "folder" | "package" | "cuda" | "python", "message": str}
    """
    wants = manifest_or_preview
    problems = [*_folder(wants), *_python(wants), *_packages(wants), *_cuda(wants)]
    return [{"kind": kind, "message": message} for kind, message in problems]


def _folder(wants: dict[str, Any]) -> list[tuple[str, str]]:
    folder = wants.get("cwd")
    if folder and not os.path.isdir(folder):
        return [("folder", f"This notebook works in {folder}, which does not exist there. {FOLDER_ADVICE}")]
    return []


def _python(wants: dict[str, Any]) -> list[tuple[str, str]]:
    theirs, ours = wants.get("python", ""), ".".join(str(part) for part in sys.version_info[:3])
    if not theirs or theirs.split(".")[:2] == ours.split(".")[:2]:
        return []
    stuck = wants.get("same_python", [])
    if not stuck:
        return []  # functions are compiled again from their cells, and ``fetch`` notes it
    return [
        (
            "python",
            f"Python is {theirs} here and {ours} there, and the source of {', '.join(stuck)} is not known, so "
            "that they can't be compiled again.",
        )
    ]


def _packages(wants: dict[str, Any]) -> list[tuple[str, str]]:
    problems = []
    paths = [*wants.get("sys_path", []), wants.get("cwd") or os.curdir, *sys.path]
    for module in wants.get("modules", []):
        name, version = module["name"], module.get("version")
        if not _exists(name, paths):
            called = f"{name} {version}" if version else name
            problems.append(("package", f"The package {called} is not installed there."))
            continue
        theirs = _version(name)
        if version and theirs and _series(version) != _series(theirs):
            problems.append(("package", f"{name} is {version} here and {theirs} there; its objects may not fit."))
    return problems


def _exists(name: str, paths: list[str]) -> bool:
    top = name.partition(".")[0]
    if top in sys.modules or top in sys.builtin_module_names:
        return True
    if importlib.machinery.PathFinder.find_spec(top, paths) is not None:
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _version(name: str) -> str | None:
    loaded = getattr(sys.modules.get(name), "__version__", None)
    if isinstance(loaded, str):
        return loaded
    try:
        return importlib.metadata.version(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None  # one whose distribution has another name


def _series(version: str) -> list[str]:
    """The part of a version whose change may break: the first number, or the first two while that is 0."""
    parts = version.split(".")
    return parts[:2] if parts[0] == "0" else parts[:1]


def _cuda(wants: dict[str, Any]) -> list[tuple[str, str]]:
    if not wants.get("cuda_used") or cuda_available():
        return []
    return [("cuda", "The notebook holds data on a CUDA device and there is none there; it lands in main memory.")]


def cuda_available() -> bool:
    """Whether an NVIDIA device is visible, without importing anything heavy."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda"):
        return bool(torch.cuda.is_available())
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")


if __name__ == "__main__":  # for a Python in which no kernel runs yet
    import json

    print(json.dumps(check(json.load(sys.stdin))))
