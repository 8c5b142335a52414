"""The program's source as these tests read it: parsed, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "computehub_ext"


@dataclass(frozen=True)
class Import:
    module: str
    line: int
    top_level: bool
    """At the module's own level, and so done when the module is imported; not inside a function."""
    typing_only: bool
    """Under ``if TYPE_CHECKING``."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def files(folder: str = PACKAGE) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts)


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def wing(module: str) -> str:
    """``computehub_ext.ledger.store`` is in ``ledger``; ``computehub_ext.app`` is in ``app``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@cache
def imports(path: Path) -> tuple[Import, ...]:
    return tuple(_imports(parsed(path), path, top_level=True, typing_only=False))


def _imports(node: ast.AST, path: Path, *, top_level: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for name in child.names:
                yield Import(name.name, child.lineno, top_level, typing_only)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                here = module_name(path).split(".")
                if path.name != "__init__.py":
                    here.pop()
                here = here[: len(here) - child.level + 1]
                base = ".".join([*here, base] if base else here)
            # `from computehub_ext import bookings` imports a wing as well.
            names = [f"{base}.{name.name}" for name in child.names] if base == PACKAGE else [base]
            for module in names:
                yield Import(module, child.lineno, top_level, typing_only)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from _imports(child, path, top_level=top_level and not inside, typing_only=typing_only or typing)
