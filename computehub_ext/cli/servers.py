"""Finding the running Jupyter server that a shell command is meant for, and the notebooks open in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from computehub_ext.kernel.link import API_PATH, TOKEN_VARIABLE, URL_VARIABLE, Link, LinkProblem
from computehub_ext.kernel.problems import GpuProblem, NotConnected
from computehub_ext.kernel.report import Page, Table

TOKEN_OF_PERSON = "COMPUTEHUB_TOKEN"
TERMINAL_URL = "JUPYTER_SERVER_URL"
HUB_TOKEN = "JUPYTERHUB_API_TOKEN"
LOOK_SECONDS = 5.0
_COLLABORATION_DRIVE = "RTC:"


@dataclass(frozen=True)
class Session:
    """A notebook or console that is open."""

    path: str
    kernel_id: str
    kernel_name: str
    state: str


@dataclass(frozen=True)
class Server:
    url: str
    token: str


def find_server(url: str | None, token: str | None, environ: Mapping[str, str] | None = None) -> Link:
    """Connect to the server meant: the one named, that of the kernel or terminal that this runs in, or the only one."""
    environ = os.environ if environ is None else environ
    token = token or environ.get(TOKEN_OF_PERSON)
    if url is None and token is None and environ.get(URL_VARIABLE) and environ.get(TOKEN_VARIABLE):
        return Link.from_environment(environ)
    if url is None and environ.get(URL_VARIABLE):  # in a kernel, with a token of one's own
        url = environ[URL_VARIABLE]
    running = list(running_servers())
    url = url or environ.get(TERMINAL_URL)
    if url is not None:
        base = base_of(url)
        known = next((server for server in running if base_of(server.url) == base), None)
        found = [Server(base, token or (known.token if known else "") or environ.get(HUB_TOKEN, ""))]
    else:
        found = [Server(base_of(s.url), token or s.token or environ.get(HUB_TOKEN, "")) for s in running]
    return _only(found, named=url is not None)


def base_of(url: str) -> str:
    """The server's base URL, whichever of its addresses was given."""
    url = url.split("?")[0].split("#")[0]
    url = url if url.endswith("/") else url + "/"
    for ending in (API_PATH, "lab/", "tree/", "computehub/"):
        if url.endswith("/" + ending):
            url = url[: -len(ending)]
    return url


def running_servers() -> Iterable[Server]:
    """The servers of this user on this machine, as Jupyter lists them."""
    from jupyter_server.serverapp import list_running_servers

    for info in list_running_servers(log=None):
        yield Server(str(info.get("url") or ""), str(info.get("token") or ""))


def _only(found: list[Server], *, named: bool) -> Link:
    if not found:
        raise NotConnected(
            "No Jupyter server of yours is running on this machine. Start one, or name one with --url and --token."
        )
    answering: list[Link] = []
    refusals: list[LinkProblem] = []
    for server in found:
        link = Link(server.url + API_PATH, server.token)
        if len(found) == 1:
            _greet(link)
            return link
        link.timeout_seconds = LOOK_SECONDS
        try:
            link.get("me")
        except LinkProblem as refusal:
            refusals.append(refusal)
            continue
        answering.append(link)
    if len(answering) == 1:
        return answering[0]
    rows = tuple((link.url[: -len(API_PATH)],) for link in answering or [Link(s.url + API_PATH, "") for s in found])
    said = "More than one server with ComputeHub is running" if answering else "None of the running servers lets you in"
    raise NotConnected(f"{said}; say which with --url, and --token.", Page().add(Table("Running", ("Server",), rows)))


def _greet(link: Link) -> None:
    try:
        link.get("me")
    except LinkProblem as refusal:
        if refusal.status in (401, 403):
            raise NotConnected(
                f"The server at {link.url[: -len(API_PATH)]} does not know that token. Give yours with --token or in "
                f"{TOKEN_OF_PERSON}."
            ) from None
        raise NotConnected(refusal.message) from None


def sessions_of(link: Link) -> list[Session]:
    """The notebooks that are open in the server, by Jupyter's own API."""
    base = link.url[: -len(API_PATH)] if link.url.endswith(API_PATH) else link.url
    try:
        answer = link.elsewhere(base + "api/").get("sessions")
    except LinkProblem as refusal:
        raise GpuProblem(refusal.message) from None
    return [_session(each) for each in answer or [] if isinstance(each, dict) and (each.get("kernel") or {}).get("id")]


def _session(answer: Mapping[str, Any]) -> Session:
    kernel = answer["kernel"]
    path = str(answer.get("path") or answer.get("name") or "").removeprefix(_COLLABORATION_DRIVE)
    return Session(path, str(kernel["id"]), str(kernel.get("name") or ""), str(kernel.get("execution_state") or ""))
