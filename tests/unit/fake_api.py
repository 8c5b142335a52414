"""A small REST server over loopback HTTP that answers as openapi.yaml says, with a state that a test sets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API_PATH = "/user/ada/api/computehub/v1/"
SESSIONS_PATH = "/user/ada/api/sessions"
TOKEN = "chk_secret"
KERNEL_ID = "6a3f2f0e-0000-4000-8000-000000000001"
NOW = "2026-03-02T09:00:00Z"
M = 1_000_000

Json = dict[str, Any]


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status, self.body = status, {"message": message, "code": code, "details": details}


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    key: str | None


def offer(model: str, rate: float, *, count: int = 1, free: int = 1, memory: int = 16, simulated: bool = True) -> Json:
    return {
        "pool_id": f"pool_{model.lower()}",
        "pool": model,
        "model": model,
        "count": count,
        "simulated": simulated,
        "memory_mib": memory * 1024,
        "rate_microcredits_per_hour": int(rate * M),
        "free_now": free,
        "earliest_at": NOW if free else "2026-03-02T11:30:00Z",
        "billed_as": "credits",
    }


def lease(**changes: Any) -> Json:
    return {
        "id": "lease_1",
        "booking_id": "booking_1",
        "state": "running",
        "end_reason": None,
        "end_message": None,
        "model": "T4",
        "pool": "T4",
        "simulated": True,
        "count": 1,
        "kernel_id": KERNEL_ID,
        "notebook_path": "work/train.ipynb",
        "rate_microcredits_per_hour": M,
        "cost_microcredits": 250_000,
        "held_microcredits": 1_750_000,
        "created_at": "2026-03-02T08:44:50Z",
        "started_at": "2026-03-02T08:45:00Z",
        "ends_at": "2026-03-02T10:45:00Z",
        "closing_at": "2026-03-02T10:44:00Z",
        "paid_until": "2026-03-02T09:10:00Z",
        "idle_timeout_seconds": 1200,
        "billed_as": "credits",
        "server_now": NOW,
        "placement_id": "placement_1",
        "devices": [{"index": 0, "uuid": "SIM-0", "name": "T4"}],
    } | changes


def switch(**changes: Any) -> Json:
    return {
        "id": "switch_1",
        "kernel_id": KERNEL_ID,
        "notebook_path": "work/train.ipynb",
        "target": "gpu",
        "state": "requested",
        "step_message": "Asked for",
        "progress": 0.0,
        "error": None,
        "lease_id": "lease_1",
        "preview": None,
        "result": None,
        "requested_by": "ada",
        "created_at": NOW,
        "updated_at": NOW,
    } | changes


def booking(**changes: Any) -> Json:
    return {
        "id": "booking_01jd2vabcd",
        "model": "T4",
        "pool_id": "pool_t4",
        "count": 1,
        "starts_at": "2026-03-03T13:00:00Z",
        "ends_at": "2026-03-03T15:00:00Z",
        "state": "confirmed",
        "rate_microcredits_per_hour": M,
        "amount_microcredits": 2 * M,
        "notebook_path": None,
        "created_at": NOW,
    } | changes


@dataclass
class FakeApi:
    """The state and what was asked. ``answers`` overrides single routes: ``("POST", "switches") -> function``."""

    offers: list[Json] = field(default_factory=lambda: [offer("T4", 1, count=2, free=2), offer("A100", 4, free=0)])
    me: Json = field(
        default_factory=lambda: {
            "username": "ada",
            "display_name": "Ada",
            "identity": "person",
            "balance": {
                "posted_microcredits": 10 * M,
                "held_microcredits": 0,
                "available_microcredits": 10 * M,
                "by_origin": {"granted": 10 * M, "purchased": 0, "earned": 0},
            },
            "allowance": {"per_day_microcredits": 5 * M, "left_microcredits": 5 * M},
            "defaults": {
                "idle_timeout_seconds": None,
                "duration_seconds": None,
                "max_rate_microcredits_per_hour": None,
            },
            "limits": {"idle_timeout_seconds": 1200, "default_duration_seconds": 7200},
            "control_plane": "embedded",
        }
    )
    lease: Json | None = None
    switch: Json | None = None
    bookings: list[Json] = field(default_factory=list)
    history: list[Json] = field(default_factory=list)
    approvals: dict[str, Json] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], Callable[[Asked], Any]] = field(default_factory=dict)
    sessions: list[Json] = field(default_factory=list)
    url: str = ""

    @property
    def base(self) -> str:
        """The Jupyter server's own address."""
        return self.url[: -len("api/computehub/v1/")]

    def sent(self, method: str, path: str) -> list[Asked]:
        return [each for each in self.asked if (each.method, each.path) == (method, path)]

    def answer(self, asked: Asked) -> Any:
        special = self.answers.get((asked.method, asked.path))
        if special is not None:
            return special(asked)
        parts = asked.path.split("/")
        if asked.method == "GET":
            return self._read(asked, parts)
        return self._written(asked, parts)

    def _read(self, asked: Asked, parts: list[str]) -> Any:
        plain = {
            "me": self.me,
            "offers": {"items": self.offers, "next": None},
            "bookings": {"items": self.bookings, "next": None},
            "history": {"items": self.history, "next": None},
            "leases": {"items": [self.lease] if self.lease else [], "next": None},
            "approvals": {"items": list(self.approvals.values()), "next": None},
        }
        if asked.path in plain:
            return plain[asked.path]
        if parts[0] == "kernels":
            place = "gpu" if self.lease else "cpu"
            return {"kernel_id": parts[1], "place": place, "notebook_path": "work/train.ipynb", "lease": self.lease,
                    "switch": self.switch}  # fmt: skip
        if parts[0] == "approvals":
            return self.approvals[parts[1]]
        if parts[0] == "leases":
            return self.lease or lease()
        if parts[0] == "switches":
            return self.switch
        if parts[0] == "bookings":
            return next(b for b in self.bookings if b["id"] == parts[1])
        if parts[0] == "estimates":
            seconds = int(asked.query.get("duration_seconds", 7200))
            return {"model": asked.query.get("model", "T4"), "pool_id": "pool_t4", "simulated": True, "count": 1,
                    "rate_microcredits_per_hour": M, "duration_seconds": seconds,
                    "most_microcredits": M * seconds // 3600, "runs": 3, "usual_duration_seconds": 900,
                    "usual_microcredits": 250_000}  # fmt: skip
        raise Refusal(404, "not_found", "no such thing")

    def _written(self, asked: Asked, parts: list[str]) -> Any:
        if asked.path == "quotes":
            return self.quote(asked.body)
        if asked.path == "switches":
            self.switch = switch(target=asked.body["target"])
            return self.switch
        if asked.path == "bookings":
            made = booking(model=asked.body["model"], count=asked.body["count"])
            self.bookings.insert(0, made)
            return made
        if asked.path == "me/allowance":
            self.me["allowance"] = {**asked.body, "left_microcredits": asked.body["per_day_microcredits"]}
            return self.me
        if asked.path == "me/defaults":
            self.me["defaults"] = {**self.me["defaults"], **asked.body}
            return self.me["defaults"]
        if parts[0] == "bookings" and parts[2] == "cancel":
            return booking(id=parts[1], state="cancelled")
        if parts[0] == "switches" and parts[2] == "cancel":
            return switch(id=parts[1], state="cancelled")
        if parts[0] == "leases" and parts[2] in ("extend", "shorten"):
            return lease(ends_at="2026-03-02T11:45:00Z" if parts[2] == "extend" else "2026-03-02T10:15:00Z")
        raise Refusal(404, "not_found", "no such thing")

    def quote(self, body: Json) -> Json:
        wanted, count, seconds = body.get("model"), body.get("count", 1), body.get("duration_seconds", 7200)
        found = next((o for o in self.offers if wanted is None or o["model"].lower() == wanted.lower()), None)
        if found is None:
            raise Refusal(422, "invalid", f'There is no GPU model "{wanted}" here; did you mean T4?', field="model")
        ends_at = (datetime.fromisoformat(NOW) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
        available = found["free_now"] >= count
        return {
            "model": found["model"],
            "pool_id": found["pool_id"],
            "pool": found["pool"],
            "simulated": found["simulated"],
            "count": count,
            "starts_at": NOW,
            "ends_at": ends_at,
            "rate_microcredits_per_hour": found["rate_microcredits_per_hour"],
            "amount_microcredits": found["rate_microcredits_per_hour"] * seconds * count // 3600,
            "available": available,
            "earliest": [] if available else [{"starts_at": "2026-03-02T11:30:00Z", "ends_at": "2026-03-02T13:30:00Z"}],
            "alternatives": []
            if available
            else [
                {
                    "model": "T4",
                    "pool_id": "pool_t4",
                    "simulated": True,
                    "rate_microcredits_per_hour": M,
                    "amount_microcredits": M * seconds // 3600,
                    "starts_at": NOW,
                    "ends_at": "2026-03-02T11:00:00Z",
                }
            ],
        }


@contextmanager
def serving(api: FakeApi) -> Iterator[FakeApi]:
    """Serve it on a free loopback port; ``api.url`` says where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # headers and body in one packet, or each answer waits for a delayed acknowledgement

        def log_message(self, *_: Any) -> None:
            """A test reads ``api.asked`` instead."""

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            split = urlsplit(self.path)
            status: int = 200
            body: Any = None
            if self.headers.get("Authorization") != f"token {TOKEN}":
                status, body = 403, {"message": "Forbidden"}
            elif split.path == SESSIONS_PATH:
                body = api.sessions
            elif not split.path.startswith(API_PATH):
                status, body = 404, {"message": "Not Found"}
            else:
                query = {name: values[0] for name, values in parse_qs(split.query).items()}
                given = json.loads(raw) if raw else None
                asked = Asked(
                    self.command, split.path[len(API_PATH) :], query, given, self.headers.get("Idempotency-Key")
                )
                api.asked.append(asked)
                try:
                    body = api.answer(asked)
                except Refusal as refusal:
                    status, body = refusal.status, refusal.body
            sent = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_POST = do_PUT = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_address[1]}{API_PATH}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
