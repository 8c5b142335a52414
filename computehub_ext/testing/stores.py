"""Every wing's tables in one ``MetaData``."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

import computehub_ext


def import_every_store() -> list[str]:
    """Import the modules that declare tables, so that ``metadata`` is whole; return their names."""
    names = ["computehub_ext.core.idempotency", "computehub_ext.core.outbox"] + [
        f"computehub_ext.{wing.name}.store"
        for wing in pkgutil.iter_modules(computehub_ext.__path__)
        if wing.ispkg and importlib.util.find_spec(f"computehub_ext.{wing.name}.store") is not None
    ]
    for name in names:
        importlib.import_module(name)
    return names
