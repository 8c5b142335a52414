"""The base of every handler: who asks, what they may send, and how a failure is told.

A handler is a sentence, "parse, call one service, reply", and catches nothing::

    class BookingHandler(ComputeHubHandler):
        path = "bookings/{booking_id}"

        @authorized("read", resource="computehub:bookings")
        async def get(self, booking_id: str) -> None:
            self.reply(await self.plane.booking(self.actor, booking_id=booking_id))

Settings of the Tornado application that it reads, all put there by ``computehub_ext.api.register``:

- ``computehub_plane``: the control plane, as ``client.py`` describes it.
- ``computehub_contract``: the :class:`~computehub_ext.core.contract.Contract`.
- ``computehub_identify``: ``(handler) -> Actor`` for a request that Jupyter authenticated.
- ``computehub_kernel_actor``: ``(token) -> Actor | None`` (may be a coroutine); where absent, no kernel gets in.
- ``computehub_rate_limits``: the :class:`~computehub_ext.core.ratelimit.RateLimits`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from functools import cached_property
from http.client import responses
from typing import Any, ClassVar, TypeVar, cast

from jupyter_server import CallContext
from jupyter_server.auth.decorator import authorized as jupyter_authorized
from jupyter_server.auth.identity import User
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import ensure_async, url_path_join
from tornado.web import HTTPError, RequestHandler

from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.contract import Contract, Operation
from computehub_ext.core.errors import ComputeHubError, Forbidden, Invalid
from computehub_ext.core.ratelimit import RateLimits
from computehub_ext.core.replayed import Replayed

API_PATH = "api/computehub/v1"
BODY_BYTES_MAX = 64 * 1024
KERNEL_TOKEN_PREFIX = "chk_"

_AUTHORIZATION = re.compile(r"(?:token|bearer)\s+(\S+)\s*", re.IGNORECASE)
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_READS = {"GET", "HEAD", "OPTIONS"}
_compact = json.JSONEncoder(separators=(",", ":")).encode


Method = TypeVar("Method", bound=Callable[..., Any])


def authorized(action: str, *, resource: str) -> Callable[[Method], Method]:
    """Jupyter's decorator, both names required: without them it remembers those of the first request it saw."""
    return cast(Callable[[Method], Method], jupyter_authorized(action, resource=resource))


def kernel_token(headers: Mapping[str, str]) -> str | None:
    """The token, if the header carries a kernel's. In a URL it would end up in logs, so none is taken there."""
    found = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
    return found[1] if found and found[1].startswith(KERNEL_TOKEN_PREFIX) else None


class Failures(RequestHandler):
    """How a failure becomes a status and a sentence; a mixin, to the left of one of Jupyter's handlers."""

    @cached_property
    def request_id(self) -> str:
        """Stands in the answer to a failure and in the log."""
        return secrets.token_hex(8)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if self._headers_written and not self._finished:
            # Ended in good order, an answer that is sent in parts would look whole.
            self.detach().close()
            return
        super().send_error(error.status if isinstance(error, ComputeHubError) else status_code, **kwargs)

    def failure_body(self, status_code: int, error: BaseException | None) -> dict[str, Any]:
        """Return ``{message, code, details}``; of an unknown exception, nothing but where to look it up."""
        if isinstance(error, ComputeHubError):
            return error.as_json()
        if status_code >= 500:
            message = f"Something went wrong in the server. Its log has the cause under {self.request_id}."
            return {"message": message, "code": "internal", "details": {"request_id": self.request_id}}
        code, sentence = _WORDS.get(status_code, ("", responses.get(status_code, "Unknown error")))
        said = (error.log_message or "") if isinstance(error, HTTPError) else ""
        if "xsrf" in said.lower():
            code, said, sentence = "xsrf", "", "The XSRF token is missing or old: reload the page and try again."
        message = said if said and "%" not in said else sentence
        code = code or responses.get(status_code, "error").lower().replace(" ", "_")
        return {"message": message, "code": code, "details": {}}

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        log = self.log  # type: ignore[attr-defined]  # Jupyter's
        if isinstance(value, ComputeHubError):
            level = log.warning if value.status >= 500 else log.debug
            level("%s %s: %s (%s)", self.request.method, self.request.path, value.code, self.request_id)
        elif isinstance(value, HTTPError):
            super().log_exception(typ, value, tb)
        else:
            where = (self.request_id, self.request.method, self.request.path)
            log.error("Unexpected failure %s in %s %s", *where, exc_info=(typ, value, tb))


class ComputeHubHandler(Failures, APIHandler):
    """Base of the handlers under ``api/computehub/v1/``."""

    path: ClassVar[str]
    """As openapi.yaml has it, without the first slash: ``bookings/{booking_id}/cancel``."""

    def initialize(self) -> None:
        self._kernel_actor: Actor | None = None
        self._arguments: dict[str, Any] | None = None

    # -- who asks ------------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:  # type: ignore[override]
        token = kernel_token(self.request.headers)
        if token is None:
            await super().prepare()
        else:
            await self._prepare_for_kernel(token)
        if self.request.method == "OPTIONS":  # asked by browsers before they send who they are
            return
        if not self.current_user:  # whatever the administrator chose for the rest of the server
            raise HTTPError(403)
        limits: RateLimits = self.settings["computehub_rate_limits"]
        limits.hit(self.actor.username, self.route_class)
        if len(self.request.body) > BODY_BYTES_MAX:
            raise HTTPError(413)

    async def _prepare_for_kernel(self, token: str) -> None:
        """Do what Jupyter's ``prepare`` does, for somebody whom its identity provider has never heard of.

        The rest of the server does not know these tokens, so a kernel's reaches our routes and nothing else. A cookie
        that comes along counts for nothing, and needs no XSRF token either: no browser sends this header by itself.
        """
        CallContext.set(CallContext.JUPYTER_HANDLER, self)
        self.current_user = self._jupyter_current_user = None
        if not self.check_host():
            raise HTTPError(403)
        find = self.settings.get("computehub_kernel_actor")
        self._kernel_actor = await ensure_async(find(token)) if find else None
        if self._kernel_actor is None:
            raise Forbidden("This server does not know that kernel's token. Restart the kernel to get a new one.")
        assert self._kernel_actor.via is Via.KERNEL, "a kernel's token never makes more than a kernel"
        user = User(username=self._kernel_actor.username, display_name=self._kernel_actor.display_name)
        self.current_user = self._jupyter_current_user = user

    @property
    def token_authenticated(self) -> bool:
        return self._kernel_actor is not None or super().token_authenticated

    def skip_check_origin(self) -> bool:
        return self._kernel_actor is not None or super().skip_check_origin()

    @cached_property
    def actor(self) -> Actor:
        """Who asks, from the authenticated connection alone; known from ``prepare`` on."""
        if self._kernel_actor is not None:
            return self._kernel_actor
        actor: Actor = self.settings["computehub_identify"](self)
        return actor

    def only_via(self, *allowed: Via, reason: str) -> None:
        """Refuse other kinds of connection, giving ``reason``, a sentence that says where to do it instead."""
        if self.actor.via not in allowed:
            raise Forbidden(reason, allowed_via=[via.value for via in allowed])

    @property
    def route_class(self) -> str:
        """What the request counts as for the rate limits; override for a route that costs more or less."""
        kind = "read" if self.request.method in _READS else "write"
        return f"kernel-{kind}" if self._kernel_actor is not None else kind

    # -- what they send ------------------------------------------------------------------------------------------------

    @property
    def plane(self) -> Any:
        """The control plane's facade (``client.py``), here or elsewhere."""
        return self.settings["computehub_plane"]

    @property
    def operation(self) -> Operation:
        contract: Contract = self.settings["computehub_contract"]
        return contract.operation(self.path, self.request.method or "")

    @property
    def arguments(self) -> dict[str, Any]:
        """Query and path parameters, checked, in the types that openapi.yaml declares."""
        if self._arguments is None:
            # Not by Tornado's getters: they strip, and put spaces where control characters were.
            query = {
                name: [self.decode_argument(value, name) for value in values]
                for name, values in self.request.query_arguments.items()
            }
            self._arguments = self.operation.check_parameters(query, self.path_kwargs)
        return self._arguments

    @property
    def idempotency_key(self) -> str:
        """The caller's name for this write, which is required: without it a retry could book twice."""
        key = self.request.headers.get("Idempotency-Key", "")
        if not _IDEMPOTENCY_KEY.fullmatch(key):
            raise Invalid(
                "This write needs the header Idempotency-Key: 1 to 128 visible ASCII characters, new for each thing "
                "that you want and the same when you try it again.",
                field="Idempotency-Key",
            )
        return key

    def body(self) -> dict[str, Any]:
        """The JSON body, checked against openapi.yaml."""
        self.arguments  # noqa: B018  an id that can't exist is refused before what was said about it
        return self.operation.check_body(self._parsed_body())

    def _parsed_body(self) -> Any:
        raw = self.request.body.strip()
        if not raw:
            return None
        kind = self.request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise HTTPError(415, "The body must be sent as Content-Type: application/json.")
        try:
            parsed = _decode(raw.decode("utf-8"))
            if b"\\u" in raw:  # half of a surrogate pair is text to JSON, but to no database
                json.dumps(parsed, ensure_ascii=False).encode("utf-8")
        except (ValueError, RecursionError):
            raise HTTPError(400, "The body is not JSON in UTF-8.") from None
        return parsed

    # -- what they get -------------------------------------------------------------------------------------------------

    def reply(self, answer: Any, *, status: int = 200, location: str | None = None) -> None:
        """Answer with JSON.

        Parameters
        ----------
        answer:
            JSON values. One given before for the same Idempotency-Key says so in the header ``Idempotency-Hit``.
        status:
            201 where something was made, 202 where it is under way.
        location:
            Where the new thing is, below ``api/computehub/v1/``.
        """
        if location is not None:
            self.set_header("Location", url_path_join(self.base_url, API_PATH, location))
        if isinstance(answer, Replayed):
            self.set_header("Idempotency-Hit", "true")
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.finish(_compact(answer))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        body = self.failure_body(status_code, error)
        if "retry_after_seconds" in body["details"]:
            self.set_header("Retry-After", str(body["details"]["retry_after_seconds"]))
        if status_code == 405:
            self.set_header("Allow", ", ".join(self._methods()))
        self.set_header("X-Request-Id", self.request_id)
        self.finish(json.dumps(body))

    def update_api_activity(self) -> None:
        try:
            super().update_api_activity()
        except HTTPError:  # its parameter is not UTF-8: then it is none, and no reason to fail an answer that is ready
            pass

    def _methods(self) -> list[str]:
        unimplemented = self._unimplemented_method
        return [
            name
            for name in ("GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
            if getattr(getattr(self, name.lower()), "__func__", None) is not getattr(unimplemented, "__func__", None)
        ]


_WORDS = {
    400: ("bad_request", "The request can't be read."),
    403: ("forbidden", "Log in first, or send a token; from a page, send the XSRF token too."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("too_large", f"The body must be at most {BODY_BYTES_MAX // 1024} KiB."),
    415: ("unsupported_media_type", "The body must be sent as Content-Type: application/json."),
}


class UnknownPathHandler(ComputeHubHandler):
    """Answers for addresses under ``api/computehub/v1/`` that are none, in JSON as elsewhere there."""

    path = ""

    async def prepare(self) -> None:  # type: ignore[override]
        await super().prepare()
        raise HTTPError(404)


def route(base_url: str, handler: type[ComputeHubHandler]) -> tuple[str, type[ComputeHubHandler]]:
    """Make the Tornado route of a handler from its ``path``."""
    parts = re.split(r"\{(\w+)\}", handler.path)
    pattern = "".join(f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return url_path_join(re.escape(base_url), re.escape(API_PATH), pattern), handler


def _number(text: str) -> float | int:
    """JSON knows one kind of number: ``1.0`` and ``1e3`` are whole."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_float=_number, parse_constant=_refuse_constant).decode
