"""A server extension with one handler that authenticates and does nothing else: the yardstick of ``http``."""

from __future__ import annotations

from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web


class EmptyHandler(APIHandler):
    @web.authenticated
    def post(self) -> None:
        self.finish("{}")


def _load_jupyter_server_extension(serverapp: Any) -> None:
    routes = [(url_path_join(serverapp.base_url, "empty"), EmptyHandler)]
    serverapp.web_app.add_handlers(".*$", routes)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "benchmarks.empty_handler"}]
