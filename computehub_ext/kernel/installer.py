"""Installs the package ``_computehub`` from sources held in memory. Its text opens the bundle; see ``bundle.py``."""

from __future__ import annotations

import base64
import importlib.abc
import importlib.util
import json
import linecache
import os
import sys
import zlib
from typing import Any

PACKAGE = "_computehub"


class BundleFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads the modules of one version of the bundle.

    ``baseline`` is what the process looked like when the first bundle came in, usually before the user's first cell:
    the difference to it is what the user changed (environment, ``sys.path``, ``sys.modules``).
    """

    computehub_finder = True

    def __init__(self, version: str, sources: dict[str, str], baseline: dict[str, Any]) -> None:
        self.version = version
        self.sources = sources
        self.baseline = baseline

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname not in self.sources:
            return None
        spec = importlib.util.spec_from_loader(
            fullname, self, origin=self.filename(fullname), is_package=self.is_package(fullname)
        )
        if spec is not None:
            spec.has_location = False
        return spec

    def filename(self, fullname: str) -> str:
        return f"<computehub {self.version}>/{fullname.replace('.', '/')}.py"

    def is_package(self, fullname: str) -> bool:
        return fullname == PACKAGE

    def get_source(self, fullname: str) -> str | None:
        return self.sources[fullname]

    def get_code(self, fullname: str) -> Any:
        return compile(self.sources[fullname], self.filename(fullname), "exec", dont_inherit=True)

    def create_module(self, spec: Any) -> Any:
        return None

    def exec_module(self, module: Any) -> None:
        name = module.__name__
        module.__file__ = self.filename(name)
        source = self.sources[name]
        # No modification time: linecache then never asks the disk, and tracebacks show these lines.
        linecache.cache[module.__file__] = (len(source), None, source.splitlines(True), module.__file__)
        exec(self.get_code(name), module.__dict__)


def installed() -> Any | None:
    """The finder that is in place, of whichever version."""
    for finder in sys.meta_path:
        if getattr(finder, "computehub_finder", False):
            return finder
    return None


def install(version: str, payload: str) -> bool:
    """Put this version in place. True when something changed."""
    old = installed()
    if old is not None and old.version == version:
        return False
    sources = json.loads(zlib.decompress(base64.b64decode(payload)))
    if old is None:
        baseline = {"environ": dict(os.environ), "path": list(sys.path), "modules": sorted(sys.modules)}
    else:
        baseline = old.baseline
        sys.meta_path.remove(old)
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[name]
    sys.meta_path.insert(0, BundleFinder(version, sources, baseline))
    return True
