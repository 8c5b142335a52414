"""A whole Jupyter server in a thread of the test process: real authentication, XSRF and routing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx

READY_SECONDS = 30.0


class JupyterServer:
    """Starts with ``with``; ``arrange(serverapp)`` runs in its loop before the first request.

    Parameters
    ----------
    root:
        An empty folder: notebooks, config and runtime files all lie under it.
    arrange:
        Registers what the test is about.
    config:
        Traitlets config, as ``{"ServerApp": {...}}``.
    """

    def __init__(self, root: Path, arrange: Callable[[Any], None], config: dict[str, dict[str, Any]] | None = None):
        self._root, self._arrange, self._config = root, arrange, config or {}
        self._thread = threading.Thread(target=self._run, name="jupyter-server", daemon=True)
        self._ready: Future[None] = Future()
        self.loop: asyncio.AbstractEventLoop
        self.app: Any = None
        self.url = ""

    def __enter__(self) -> JupyterServer:
        self._thread.start()
        self._ready.result(timeout=READY_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=READY_SECONDS)
        assert not self._thread.is_alive(), "the server did not stop"

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run ``function`` in the server's loop and wait for it."""

        async def run() -> Any:
            answer = function(*arguments)
            return await answer if asyncio.iscoroutine(answer) else answer

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout=READY_SECONDS)

    @property
    def origin(self) -> str:
        return self.url.removesuffix(self.app.base_url)

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"token {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=READY_SECONDS, trust_env=False)

    def browser(self, password: str) -> httpx.Client:
        """A client that logged in at Jupyter's own page; it sends ``X-XSRFToken`` as a page's script would."""
        client = self.client()
        client.get("login")
        answer = client.post("login", data={"password": password, "_xsrf": client.cookies["_xsrf"]})
        assert answer.status_code == 302, answer.text
        client.headers["X-XSRFToken"] = client.cookies["_xsrf"]
        return client

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                raise

    async def _serve(self) -> None:
        from jupyter_server.serverapp import ServerApp
        from traitlets.config import Config

        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        for name in ("work", "config", "data", "runtime"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        config = Config(
            {
                "ServerApp": {
                    "root_dir": str(self._root / "work"),
                    "ip": "127.0.0.1",
                    "port": 0,
                    "open_browser": False,
                    "allow_root": True,
                    "jpserver_extensions": {},
                    "base_url": "/base/",
                    "log_level": 40,
                }
            }
        )
        config.merge(Config(self._config))

        class ThreadedServerApp(ServerApp):
            def init_signal(self) -> None:
                """Signals are the main thread's, and the test's."""

        app = ThreadedServerApp(
            config=config,
            config_dir=str(self._root / "config"),
            runtime_dir=str(self._root / "runtime"),
            config_file_name="none",
            cookie_secret=b"of the test alone",
        )
        app.initialize(argv=[], new_httpserver=False, find_extensions=False)
        self._arrange(app)
        from tornado.httpserver import HTTPServer
        from tornado.testing import bind_unused_port

        sock, port = bind_unused_port()
        server = HTTPServer(app.web_app, max_body_size=app.max_body_size)
        server.add_sockets([sock])
        self.app, self.url = app, f"http://127.0.0.1:{port}{app.base_url}"
        self._ready.set_result(None)
        try:
            await self._stop.wait()
        finally:
            server.stop()
            await server.close_all_connections()
            await app._cleanup()
