"""openapi.yaml and the handlers say the same, both ways."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from computehub_ext.api.routes import CONTRACT_PATH, HANDLERS
from computehub_ext.core.contract import Contract
from computehub_ext.core.web import ComputeHubHandler, route
from computehub_ext.notebook.handlers import HANDLERS as NOTEBOOK_HANDLERS
from tests.architecture.source import ROOT, files, parsed

METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")
# Serves the documentation page, and is no part of what is promised.
UNDECLARED = {"docs/openapi-3.0.json"}


def served(handler: type[ComputeHubHandler]) -> set[str]:
    return {
        name.lower()
        for name in METHODS
        if getattr(handler, name.lower()) is not getattr(ComputeHubHandler, name.lower())
    }


def test_every_route_is_declared_and_every_declared_one_is_served() -> None:
    declared = {(path, method) for path, method, _ in Contract(CONTRACT_PATH).operations()}
    handlers = [h for h in (*HANDLERS, *NOTEBOOK_HANDLERS) if h.path not in UNDECLARED]
    assert {(handler.path, method) for handler in handlers for method in served(handler)} == declared
    assert len({handler.path for handler in handlers}) == len(handlers), "two handlers of one address"


def test_operations_have_names_of_their_own() -> None:
    names = [declared["operationId"] for _, _, declared in Contract(CONTRACT_PATH).operations()]
    assert len(set(names)) == len(names)


def test_a_handler_takes_the_ids_of_its_path() -> None:
    for handler in (*HANDLERS, *NOTEBOOK_HANDLERS):
        named = set(re.findall(r"\{(\w+)\}", handler.path))
        assert set(re.compile(route("/", handler)[0]).groupindex) == named
        for method in served(handler):
            code = getattr(handler, method).__wrapped__.__code__
            assert set(code.co_varnames[1 : code.co_argcount]) == named, f"{handler.__name__}.{method}"


def test_each_method_names_the_action_and_the_resource_that_it_needs() -> None:
    """Jupyter's bare decorator remembers its first request, and would let an inherited method pass by it."""
    wrong = []
    for path in [*files("computehub_ext/api"), ROOT / "computehub_ext" / "notebook" / "handlers.py"]:
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.AsyncFunctionDef) or node.name.upper() not in METHODS:
                continue
            marks = [mark for mark in node.decorator_list if isinstance(mark, ast.Call)]
            right = [mark for mark in marks if _name(mark.func) == "authorized" and mark.args and mark.keywords]
            reads = node.name == "get"
            # A websocket is opened by GET, too, and who may only look gets no shell.
            if not right or (reads and ast.literal_eval(right[0].args[0]) not in ("read", "execute")):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, f"@authorized(action, resource=...) is missing: {wrong}"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def test_handlers_catch_nothing() -> None:
    """The base turns each failure into its status; a handler that catches would hide one."""
    folder = ROOT / "computehub_ext" / "api" / "handlers"
    wrong = [
        f"{Path(path).relative_to(ROOT)}:{node.lineno}"
        for path in files(str(folder.relative_to(ROOT)))
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Try)
    ]
    assert not wrong, wrong
