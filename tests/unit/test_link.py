"""The connection itself: who it speaks to, what it never sends, and how long it waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.kernel.link import Link, LinkProblem
from computehub_ext.kernel.problems import NotConnected
from tests.unit.fake_api import TOKEN, FakeApi, serving

pytestmark = pytest.mark.allow_network


class Plain(BaseHTTPRequestHandler):
    """Answers as the test's server says, and keeps what it saw."""

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        status, headers, body = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Plain)
    server.seen, server.answer = [], (200, {}, b"{}")
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_no_environment_is_told_in_words() -> None:
    with pytest.raises(NotConnected, match="was not started by a Jupyter server with ComputeHub"):
        Link.from_environment({})


def test_the_environment_of_a_kernel() -> None:
    link = Link.from_environment(
        {
            "COMPUTEHUB_URL": "http://127.0.0.1:8888/user/ada/api/computehub/v1/",
            "COMPUTEHUB_KERNEL_TOKEN": "chk_1",
            "COMPUTEHUB_KERNEL_ID": "k1",
        }
    )
    assert link.kernel_id == "k1"
    assert link.page_url == "http://127.0.0.1:8888/user/ada/computehub/"
    assert link.page_path == "/user/ada/computehub/"


def test_a_token_does_not_follow_a_redirect(server: Any) -> None:
    server.answer = (302, {"Location": server.url + "elsewhere"}, b"")
    with pytest.raises(LinkProblem) as caught:
        Link(server.url, TOKEN).get("me")
    assert caught.value.code == "not_signed_in"
    assert [path for path, _ in server.seen] == ["/me"]


def test_the_loopback_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert Link(server.url, TOKEN).get("me") == {}
    assert server.seen == [("/me", f"token {TOKEN}")]


def test_a_page_that_is_not_json_is_told_in_words(server: Any) -> None:
    server.answer = (200, {}, b"<html>")
    with pytest.raises(LinkProblem, match="something other than ComputeHub's JSON"):
        Link(server.url, TOKEN).get("me")


def test_an_error_that_is_not_json_has_its_status(server: Any) -> None:
    server.answer = (418, {}, b"<html>")
    with pytest.raises(LinkProblem, match="HTTP status 418") as caught:
        Link(server.url, TOKEN).get("me")
    assert caught.value.code == "http_418"


def test_an_error_decodes_into_code_and_details(server: Any) -> None:
    server.answer = (409, {}, b'{"message": "Taken.\\u001b[31m", "code": "slot_taken", "details": {"earliest": []}}')
    with pytest.raises(LinkProblem) as caught:
        Link(server.url, TOKEN).get("me")
    problem = caught.value
    assert (problem.code, problem.status, problem.details) == ("slot_taken", 409, {"earliest": []})
    assert "\x1b" not in problem.message


def test_a_write_without_a_key_is_not_sent_twice() -> None:
    with serving(FakeApi()) as api:
        with pytest.raises(LinkProblem):
            Link(api.url, "wrong").post("bookings", {})
        assert api.asked == []


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        link = Link(f"http://127.0.0.1:{silent.getsockname()[1]}/", TOKEN, timeout_seconds=0.05)
        with pytest.raises(LinkProblem) as caught:
            link.post("quotes", {})
    assert caught.value.code == "unreachable"


def test_queries_leave_out_what_is_not_said(server: Any) -> None:
    Link(server.url, TOKEN).get("estimates", model=None, notebook_path="a b/ü.ipynb")
    assert server.seen[0][0] == "/estimates?notebook_path=a+b%2F%C3%BC.ipynb"


@pytest.fixture
def socket_server(tmp_path: Path) -> Iterator[Any]:
    """A server of the same sort that only a unix socket leads to."""

    class Local(HTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(self.server_address)  # type: ignore[arg-type]
            self.server_name, self.server_port = "localhost", 0

    server: Any = Local(str(tmp_path / "server.sock"), Plain)  # type: ignore[arg-type]
    server.seen, server.answer = [], (200, {}, b"{}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.parametrize("address", ["http://192.0.2.1:9/user/ada/", "https://hub.example.org/user/ada/"])
def test_a_socket_is_taken_where_there_is_one(
    address: str, socket_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    told = {
        "COMPUTEHUB_URL": address + "api/computehub/v1/",
        "COMPUTEHUB_KERNEL_TOKEN": TOKEN,
        "COMPUTEHUB_SOCKET": str(tmp_path / "server.sock"),
    }
    link = Link.from_environment(told)
    assert link.get("me", limit=3) == {}
    assert socket_server.seen == [("/user/ada/api/computehub/v1/me?limit=3", f"token {TOKEN}")]
    assert link.page_url == address + "computehub/", "the browser goes where it went"
    socket_server.answer = (302, {"Location": address}, b"")
    with pytest.raises(LinkProblem) as caught:
        link.get("me")
    assert caught.value.code == "not_signed_in"


def test_a_socket_that_is_gone_is_told(tmp_path: Path) -> None:
    link = Link("http://127.0.0.1:9/", TOKEN, socket_path=str(tmp_path / "server.sock"))
    with pytest.raises(LinkProblem, match=r"gave no answer at .*server\.sock") as caught:
        link.post("quotes", {})
    assert caught.value.code == "unreachable"
