"""Which part may know which other: the house's arrows point one way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, files, imports, module_name, wing

# A wing imports only what stands above it here.
ORDER = ["core", "ledger", "people", "pools", "bookings", "backends", "leases", "reports", "api", "client"]
# These see little: the first by choice, so that the switch knows no accounts; the second since it runs in any kernel.
ALLOWED = {"notebook": {"core", "client", "kernel", "notebook"}, "kernel": {"kernel"}}
# These put the parts together, or are for those who test against us.
WIRING = {"", "app", "cli", "plane", "places", "service", "demo", "testing"}

# The rules about money and capacity know nothing of the web, of Jupyter or of an administrator's files.
PURE_WINGS = {"ledger", "people", "pools", "bookings", "reports"}
NOT_IN_PURE_WINGS = {"tornado", "traitlets", "jupyter_server", "jupyter_client", "httpx", "asyncio"}

DISTRIBUTIONS = {
    "IPython": "ipykernel",
    "pynvml": "nvidia-ml-py",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
    "psycopg": "psycopg",
}
# Wanted though nothing here imports them.
NOT_IMPORTED = {
    "ipykernel": "started as a program, in each kernel",
    "jupyterlab": "what people see",
    "tzdata": "time zones where the system has none",
}


def test_a_wing_imports_only_what_stands_above_it() -> None:
    wrong = []
    for path in files():
        here = wing(module_name(path))
        # A name for types alone may come from below, but from no part that puts them together: that would be a circle.
        forbidden_types = WIRING - {""}
        if here in WIRING:
            continue
        assert here in ORDER or here in ALLOWED, f"{here}/ is new: give it a place in ORDER"
        allowed = ALLOWED.get(here) or set(ORDER[: ORDER.index(here) + 1])
        for found in imports(path):
            if found.module.split(".")[0] != PACKAGE or wing(found.module) in allowed:
                continue
            if not found.typing_only or wing(found.module) in forbidden_types:
                wrong.append(f"{path.relative_to(ROOT)}:{found.line} imports {found.module}")
    assert not wrong, "\n".join(wrong)


def test_the_kernel_side_needs_only_the_standard_library_and_ipython() -> None:
    allowed = sys.stdlib_module_names | {"IPython", PACKAGE, "_computehub"}
    # Each is used only where the user's own code has already imported it.
    optional = {"numpy", "torch", "pandas", "ipykernel", "traitlets", "zmq"}
    # This one is a kernel itself, started where ipykernel is installed, and never sent anywhere.
    programs = {"standby.py": {"ipykernel", "zmq", "tornado"}}
    wrong = []
    for path in files(f"{PACKAGE}/kernel"):
        for found in imports(path):
            top = found.module.split(".")[0]
            if top in allowed | programs.get(path.name, set()) or found.typing_only:
                continue
            if top in optional and not found.top_level:
                continue
            wrong.append(f"{path.relative_to(ROOT)}:{found.line} imports {found.module}")
    assert not wrong, "\n".join(wrong)


def test_money_and_capacity_know_nothing_of_the_web() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in files()
        if wing(module_name(path)) in PURE_WINGS
        for found in imports(path)
        if found.module.split(".")[0] in NOT_IN_PURE_WINGS
    ]
    assert not wrong, "\n".join(wrong)


def test_models_are_pure() -> None:
    """A ``model.py`` holds rules: no SQL, no clock, no environment."""
    wrong = []
    for path in files():
        if path.name != "model.py":
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
            for found in imports(path)
            if found.module.split(".")[0] in {"sqlalchemy", "os", "time", "subprocess"}
        ]
        if re.search(r"datetime\.now\(|\.utcnow\(|time\.time\(", path.read_text()):
            wrong.append(f"{path.relative_to(ROOT)} reads a clock")
    assert not wrong, "\n".join(wrong)


def test_every_imported_package_is_declared_and_every_declared_one_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=!~; ]", requirement)[0].lower() for requirement in project["dependencies"]}
    optional = {
        re.split(r"[\[<>=!~; ]", requirement)[0].lower()
        for extra in ("postgresql", "demo", "test")
        for requirement in project["optional-dependencies"][extra]
    }
    used: dict[str, str] = {}
    undeclared = []
    for path in files():
        if wing(module_name(path)) == "kernel":
            continue
        for found in imports(path):
            top = found.module.split(".")[0]
            if top in sys.stdlib_module_names or top in {PACKAGE, "_computehub"}:
                continue
            name = DISTRIBUTIONS.get(top, top.replace("_", "-").lower())
            used[name] = str(path)
            in_place = name in names or (name in optional and (not found.top_level or "/testing/" in str(path)))
            if not in_place and not found.typing_only:
                undeclared.append(f"{path.relative_to(ROOT)}:{found.line} imports {found.module}")
    assert not undeclared, "\n".join(undeclared)
    unused = names - set(used) - set(NOT_IMPORTED)
    assert not unused, f"declared in pyproject.toml and used nowhere: {sorted(unused)}"


@pytest.mark.parametrize("module", ["computehub_ext", "computehub_ext.app"])
def test_what_jupyter_imports_at_its_start_is_light(module: str) -> None:
    """SQLAlchemy and Alembic take most of a second to import; the first page must not wait for them."""
    heavy = ["sqlalchemy", "alembic", "dateparser", "httpx", "computehub_ext.leases", "computehub_ext.ledger"]
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_with_the_extension_starts_without_what_only_requests_need(tmp_path: Path) -> None:
    """All wings of the control plane and their libraries wait for the first page, and the contract for a request."""
    heavy = ["sqlalchemy", "alembic", "httpx", "limits", "pynvml", "psycopg", "swagger_ui_bundle"]
    heavy += [
        f"{PACKAGE}.{name}" for name in ("ledger", "people", "pools", "bookings", "backends", "leases", "reports")
    ]
    code = f"""if True:
        import sys
        from jupyter_server.serverapp import ServerApp
        server = ServerApp(allow_root=True, open_browser=False, port=0, root_dir={str(tmp_path)!r})
        server.jpserver_extensions = {{"computehub_ext": True}}
        server.initialize(argv=[], new_httpserver=False)
        assert "computehub_plane" in server.web_app.settings, "the extension was not loaded"
        assert "document" not in vars(server.web_app.settings["computehub_contract"]), "openapi.yaml was parsed"
        print([name for name in {heavy!r} if name in sys.modules])
    """
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("DATA", "CONFIG", "RUNTIME")}
    environment = {**os.environ, "HOME": str(tmp_path), "JUPYTER_NO_CONFIG": "1", **folders}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
