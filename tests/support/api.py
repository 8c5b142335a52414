"""The API in a real Jupyter server, over the real control plane on SQLite, with a backend that runs nothing.

Each answer is held against openapi.yaml as it arrives: an undeclared status or field fails the test that met it.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import httpx

from computehub_ext.api.identity import Identity, TwoUserIdentityProvider
from computehub_ext.api.routes import CONTRACT_PATH, register
from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.contract import Contract
from computehub_ext.core.database import Database
from computehub_ext.core.ratelimit import DEFAULT_RATE_LIMITS
from computehub_ext.core.settings import Settings
from computehub_ext.core.web import API_PATH
from computehub_ext.pools import simulated
from computehub_ext.testing.fake_backend import FakeBackend
from computehub_ext.testing.stores import import_every_store
from tests.support.jupyter import JupyterServer

TOKENS = {"alice": "the-token-of-alice", "bob": "the-token-of-bob"}
KERNELS = {
    "chk_alice_1": Actor("alice", "Alice", Via.KERNEL, "kernel-1"),
    "chk_alice_2": Actor("alice", "Alice", Via.KERNEL, "kernel-2"),
    "chk_bob": Actor("bob", "Bob", Via.KERNEL, "kernel-of-bob"),
}

_keys = itertools.count()


def new_key() -> str:
    return f"key-{next(_keys)}"


class StrictContract:
    """openapi.yaml with no room for fields that it does not name."""

    def __init__(self) -> None:
        self.contract = Contract(CONTRACT_PATH)
        self.contract.__dict__["document"] = _closed(copy.deepcopy(self.contract.document))
        self._paths = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), path, method)
            for path, method, _ in self.contract.operations()
        ]

    def check(self, response: httpx.Response) -> None:
        path = response.request.url.path.partition(API_PATH + "/")[2]
        method = response.request.method.lower()
        found = next((p for pattern, p, m in self._paths if pattern.fullmatch(path) and m == method), None)
        if found is None:
            assert response.status_code in (403, 404, 405), f"{method} {path} is not in the contract"
            self.contract.validator({"$ref": "#/components/schemas/Error"}).validate(response.json())
            return
        declared = self.contract.document["paths"][f"/{found}"][method]["responses"]
        status = str(response.status_code)
        assert status in declared or int(status) >= 400, f"{method} {found} answered {status}, which is not declared"
        answer = self.contract.resolve(declared.get(status, declared["default"]))
        for name, header in answer.get("headers", {}).items():
            if self.contract.resolve(header).get("required"):
                assert name in response.headers, f"{method} {found} answered {status} without {name}"
        kind = response.headers["Content-Type"].split(";")[0]
        schema = answer["content"][kind]["schema"]
        if kind == "application/json":
            from jsonschema import Draft202012Validator

            Draft202012Validator(self.contract.written_out(schema)).validate(response.json())


def _closed(node: Any) -> Any:
    if isinstance(node, dict):
        if "properties" in node and node.get("type") == "object":
            node.setdefault("additionalProperties", False)
        for value in node.values():
            _closed(value)
    elif isinstance(node, list):
        for value in node:
            _closed(value)
    return node


class Api:
    """One person's way in; ``key`` stands for the header, and is made up where a test says nothing about it."""

    def __init__(self, http: httpx.Client, contract: StrictContract) -> None:
        self.http, self._contract = http, contract

    def __call__(self, method: str, path: str, *, key: str | None = "", **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if key is not None and method == "POST":
            headers.setdefault("Idempotency-Key", key or new_key())
        response = self.http.request(method, f"{API_PATH}/{path}", headers=headers, **options)
        self._contract.check(response)
        return response

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> httpx.Response:
        return self("POST", path, **({"json": json} if json is not None else {}), **options)

    def put(self, path: str, json: Any) -> httpx.Response:
        return self("PUT", path, json=json)


class Hub:
    """A running server. ``hub.as_("alice")`` sends her token, ``hub.browser("alice")`` logged in with it."""

    def __init__(
        self,
        root: Path,
        rate_limits: Mapping[str, str] = DEFAULT_RATE_LIMITS,
        identity: str = "person",
        backend: type[FakeBackend] = FakeBackend,
        terminals_at: Collection[str] = (),
    ) -> None:
        self.clock = ManualClock()
        self.database = Database(f"sqlite:///{root / 'computehub.db'}", clock=self.clock)
        self.backend: Any = backend(self.clock)
        self.plane: Any = ControlPlane(
            database=self.database,
            backends={"local": self.backend},
            clock=self.clock,
            settings=Settings(),
            identity=identity,
            terminals_at=terminals_at,
        )
        self.contract = StrictContract()
        self._rate_limits, self._identity = rate_limits, identity
        self._clients: dict[Any, Api] = {}
        config = {
            "ServerApp": {"identity_provider_class": TwoUserIdentityProvider},
            "TwoUserIdentityProvider": {"tokens": TOKENS},
        }
        self.server = JupyterServer(root / "jupyter", self._arrange, config)

    def _arrange(self, app: Any) -> None:
        import_every_store()
        self.database.create_all()
        self.plane.open(simulated.specs())
        register(
            app.web_app,
            app.base_url,
            plane=self.plane,
            identity=Identity(self._identity, admins=["root"], owner="ada"),
            find_kernel_actor=KERNELS.get,
            rate_limits=self._rate_limits,
        )

    def __enter__(self) -> Hub:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for api in self._clients.values():
            api.http.close()
        self.server.call(lambda: self.plane.close(end_leases=False))
        self.server.__exit__()

    def _api(self, name: Any, http: httpx.Client) -> Api:
        if name in self._clients:
            http.close()
        return self._clients.setdefault(name, Api(http, self.contract))

    def as_(self, who: str) -> Api:
        """By the token of a person or a kernel; ``nobody`` sends none."""
        return self._api(who, self.server.client({**TOKENS, "nobody": None}.get(who, who)))

    def browser(self, who: str) -> Api:
        if ("browser", who) not in self._clients:
            return self._api(("browser", who), self.server.browser(TOKENS[who]))
        return self._clients["browser", who]

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """Call the control plane itself, as the notebook wing does."""
        return self.server.call(lambda: getattr(self.plane, method)(*arguments, **named))

    def lease(self, token: str = "chk_alice_1", model: str = "T4", seconds: int = 3600) -> dict[str, Any]:
        """A running lease of the kernel whose token this is."""
        kernel = KERNELS[token]
        person = Actor(kernel.username, kernel.display_name, Via.TOKEN)
        wanted = {"model": model, "duration_seconds": seconds, "kernel_id": kernel.kernel_id}
        lease = self.call("take_lease", person, key=new_key(), notebook_path="train.ipynb", **wanted)
        where = {"cwd": "/", "kernel_name": "python3", "session_key": b"k", "username": kernel.username, "env": {}}
        self.call("start_placement", lease["id"], **where)
        return self.call("lease_running", lease["id"])
