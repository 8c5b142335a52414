"""One connection to ComputeHub's REST API, from inside a kernel or from the shell: urllib, a token, and time limits.

A kernel that has no network is told a unix socket beside the address, and all goes over that.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

from .problems import NotConnected
from .wording import clean

URL_VARIABLE = "COMPUTEHUB_URL"
TOKEN_VARIABLE = "COMPUTEHUB_KERNEL_TOKEN"
KERNEL_VARIABLE = "COMPUTEHUB_KERNEL_ID"
SOCKET_VARIABLE = "COMPUTEHUB_SOCKET"
API_PATH = "api/computehub/v1/"

ATTEMPTS_MAX = 3
RETRY_SECONDS = 0.3
TIMEOUT_SECONDS = 15.0
ANSWER_BYTES_MAX = 8_000_000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class LinkProblem(Exception):
    """An answer other than success, or none at all.

    Parameters
    ----------
    message:
        A sentence for a person, from the server where it gave one.
    code:
        The server's stable word for it; ``unreachable`` when no answer came.
    details:
        What the server added for programs.
    status:
        The HTTP status, 0 when no answer came.
    """

    def __init__(self, message: str, code: str, details: dict[str, Any] | None = None, status: int = 0) -> None:
        super().__init__(message)
        self.message, self.code, self.details, self.status = message, code, details or {}, status


class Link:
    """Requests to one server.

    Parameters
    ----------
    url:
        The API's root, ending in ``api/computehub/v1/``.
    token:
        A kernel's own token, or one of the server's.
    kernel_id:
        The kernel that the token belongs to, when it belongs to one.
    timeout_seconds:
        The longest that one request may take.
    socket_path:
        The unix socket on which the server is reached, where the address itself is not.
    """

    def __init__(
        self,
        url: str,
        token: str,
        kernel_id: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        socket_path: str | None = None,
    ) -> None:
        self.url = url if url.endswith("/") else url + "/"
        self.kernel_id = kernel_id
        self.timeout_seconds = timeout_seconds
        self.socket_path = socket_path
        self._token = token
        self._open: Any = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Link:
        """Connect as this kernel, with what its server put into its environment at its start."""
        environ = os.environ if environ is None else environ
        url, token = environ.get(URL_VARIABLE), environ.get(TOKEN_VARIABLE)
        if not url or not token:
            raise NotConnected(
                "This kernel was not started by a Jupyter server with ComputeHub, so there is no GPU to ask for. "
                "Open the notebook through such a server, or restart the kernel if ComputeHub was installed after it."
            )
        return cls(url, token, environ.get(KERNEL_VARIABLE), socket_path=environ.get(SOCKET_VARIABLE) or None)

    def elsewhere(self, url: str) -> Link:
        """The same token at another address of the same server."""
        return Link(url, self._token, self.kernel_id, self.timeout_seconds, self.socket_path)

    @property
    def page_url(self) -> str:
        """Where this server's ComputeHub page is, for the browser."""
        base = self.url[: -len(API_PATH)] if self.url.endswith(API_PATH) else self.url
        return base + "computehub/"

    @property
    def page_path(self) -> str:
        """The same without the host: right in the browser too, where the kernel knows the server by another name."""
        from urllib.parse import urlsplit

        return urlsplit(self.page_url).path

    def get(self, path: str, **query: Any) -> Any:
        return self._request("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, Any] | None = None, key: str | None = None) -> Any:
        """Post; with an idempotency ``key`` a lost answer is asked for again, which does nothing twice."""
        return self._request("POST", path, body=dict(body or {}), key=key)

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._request("PUT", path, body=dict(body))

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Any:
        repeatable = method in ("GET", "PUT") or key is not None
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return self._once(method, path, query, body, key)
            except LinkProblem as problem:
                passing = problem.code == "unreachable" or problem.status in (429, 502, 504)
                if not (repeatable and passing) or attempt == ATTEMPTS_MAX:
                    raise
                time.sleep(min(2.0, float(problem.details.get("retry_after_seconds") or RETRY_SECONDS * attempt)))
        raise AssertionError("the loop returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        key: str | None,
    ) -> Any:
        from urllib.error import HTTPError, URLError
        from urllib.parse import urlencode
        from urllib.request import Request

        url = self._asked_url + path
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            url += "?" + urlencode(given)
        headers = {"Authorization": "token " + self._token, "Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Idempotency-Key"] = key
        request = Request(url, data=data, headers=headers, method=method)
        try:
            with self._opener().open(request, timeout=self.timeout_seconds) as answer:
                return _decoded(answer.read(ANSWER_BYTES_MAX))
        except HTTPError as refusal:
            with refusal:
                raise _problem_of(refusal.code, refusal.headers, refusal.read(ANSWER_BYTES_MAX)) from None
        except (URLError, OSError, ValueError) as lost:
            reason = clean(getattr(lost, "reason", lost) or type(lost).__name__)
            where = self.url if self.socket_path is None else self.socket_path
            raise LinkProblem(
                f"ComputeHub gave no answer at {clean(where)} ({reason}). Is its server still running?",
                "unreachable",
            ) from None

    @property
    def _asked_url(self) -> str:
        """The address in the request itself. Over the socket there is no name to know the server by, nor TLS."""
        if self.socket_path is None:
            return self.url
        from urllib.parse import urlsplit

        return "http://127.0.0.1" + urlsplit(self.url).path

    def _opener(self) -> Any:
        """Put together by hand: the usual opener loads the machine's certificates even for plain HTTP, in 20 ms."""
        if self._open is None:
            from urllib import request
            from urllib.parse import urlsplit

            split = urlsplit(self._asked_url)
            on_loopback = (split.hostname or "") in _LOOPBACK
            opener = request.OpenerDirector()
            # On the loopback a proxy would be asked for *its* loopback.
            opener.add_handler(request.ProxyHandler({} if on_loopback else None))
            opener.add_handler(request.HTTPHandler() if self.socket_path is None else _over(self.socket_path))
            if split.scheme == "https":
                opener.add_handler(request.HTTPSHandler(context=_tls(on_loopback)))
            # No HTTPRedirectHandler: the API never redirects. A login page does, and a token must not follow there.
            opener.add_handler(request.HTTPErrorProcessor())
            opener.add_handler(request.HTTPDefaultErrorHandler())
            self._open = opener
        return self._open


def _over(socket_path: str) -> Any:
    """A handler of urllib's that speaks HTTP over a unix socket."""
    import socket
    from http.client import HTTPConnection
    from urllib.request import HTTPHandler

    class Connection(HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(socket_path)

    class Handler(HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(Connection, req)

    return Handler()


def _tls(on_loopback: bool) -> Any:
    import ssl

    context = ssl.create_default_context()
    if on_loopback:
        # A certificate names the server's public name, never 127.0.0.1, where nobody but this machine can listen.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def new_key() -> str:
    """An idempotency key for one act of one person."""
    return uuid.uuid4().hex


def _decoded(raw: bytes) -> Any:
    if not raw.strip():
        return None
    try:
        return json.loads(raw.decode("utf-8"))
    except ValueError:
        raise LinkProblem(
            f"That server answered with something other than ComputeHub's JSON. Does its address end in {API_PATH}?",
            "not_computehub",
            status=200,
        ) from None


def _problem_of(status: int, headers: Any, raw: bytes) -> LinkProblem:
    try:
        answer = json.loads(raw.decode("utf-8"))
    except ValueError:
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    details = answer.get("details")
    details = dict(details) if isinstance(details, dict) else {}
    code, message = answer.get("code"), answer.get("message")
    if status == 429 and headers.get("Retry-After", "").isdigit():
        details.setdefault("retry_after_seconds", int(headers["Retry-After"]))
    if 300 <= status < 400 or status == 401 or (status == 403 and not code):
        return LinkProblem(
            "ComputeHub does not accept this token any more; restart the kernel to get a new one "
            "(in the shell: pass --token).",
            "not_signed_in",
            details,
            status,
        )
    if status == 404 and not code:
        return LinkProblem(
            "This Jupyter server has no ComputeHub under that address; is the extension enabled?",
            "not_computehub",
            details,
            status,
        )
    return LinkProblem(
        clean(message, 2000) if message else f"ComputeHub answered with HTTP status {status}.",
        str(code or f"http_{status}"),
        details,
        status,
    )
