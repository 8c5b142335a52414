"""The account page: what a person has, holds and is asked, drawn on the server.

Its script does no more than count a lease's cost on, send the buttons to the API and fetch the page again.
"""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.base.handlers import FileFindHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT, in_credits
from computehub_ext.core.web import API_PATH, Failures, authorized

if TYPE_CHECKING:
    from jinja2 import Environment

ROOT = "computehub"
HISTORY_LINES, BOOKINGS_SHOWN = 20, 50

_HERE = Path(__file__).parent
_AHEAD = {"held", "confirmed"}
"""Bookings still to come; an active one is shown as its lease."""


class AccountHandler(Failures, JupyterHandler):
    """``computehub/``, and ``computehub/approvals/ID``: the same page with that request first."""

    auth_resource = "computehub:people"

    @property
    def content_security_policy(self) -> str:
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
        )

    @web.authenticated
    @authorized("read", resource="computehub:people")
    async def get(self, approval_id: str | None = None) -> None:
        actor = self.settings["computehub_identify"](self)
        plane = self.settings["computehub_plane"]
        me, leases, approvals, bookings, offers, history = await asyncio.gather(
            plane.me(actor),
            plane.leases(actor, live=True),
            plane.approvals(actor),
            plane.bookings(actor, limit=BOOKINGS_SHOWN),
            plane.offers(actor),
            plane.history(actor, limit=HISTORY_LINES),
        )
        pending = [item for item in approvals["items"] if item["state"] == "pending"]
        page = _templates().get_template("account.html").render(
            base=url_path_join(self.base_url, ROOT),
            api=url_path_join(self.base_url, API_PATH),
            me=me,
            leases=leases["items"],
            asked=next((item for item in approvals["items"] if item["id"] == approval_id), None),
            asked_id=approval_id,
            pending=pending,
            bookings=[item for item in bookings["items"] if item["state"] in _AHEAD],
            offers=offers["items"],
            history=history["items"],
        )  # fmt: skip
        self.xsrf_token  # noqa: B018  sets the cookie that the script sends back
        self.set_header("Cache-Control", "no-store")
        self.finish(page)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        message = self.failure_body(status_code, error)["message"]
        base = url_path_join(self.base_url, ROOT)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_templates().get_template("failure.html").render(base=base, status=status_code, message=message))


class StaticHandler(FileFindHandler):
    """The page's script and style; as public as Jupyter's own."""

    _static_paths: dict[str, str] = {}  # noqa: RUF012  not shared with Jupyter's, where the same names mean other files

    def initialize(self) -> None:  # type: ignore[override]
        super().initialize(path=[str(_HERE / "static")])


class SwaggerHandler(FileFindHandler):
    """Swagger UI from its Python package, so that the documentation needs nothing from outside."""

    _static_paths: dict[str, str] = {}  # noqa: RUF012

    def initialize(self) -> None:  # type: ignore[override]
        from swagger_ui_bundle import swagger_ui_path

        super().initialize(path=[str(swagger_ui_path)])


def routes(base_url: str) -> list[tuple[Any, ...]]:
    root = url_path_join(re.escape(base_url), ROOT)
    return [
        (root, web.RedirectHandler, {"url": url_path_join(base_url, ROOT, "/")}),
        (url_path_join(root, r"static/([a-z0-9.-]+)"), StaticHandler),
        (url_path_join(root, r"swagger/([a-zA-Z0-9.-]+)"), SwaggerHandler),
        (url_path_join(root, r"approvals/(?P<approval_id>[A-Za-z0-9_.-]+)"), AccountHandler),
        (root + "/", AccountHandler),
    ]


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(credits=in_credits, plain_credits=_plain_credits, moment=_moment)
    return environment


def _plain_credits(amount_microcredits: int) -> str:
    """As an input field takes it: no thousands separators, no trailing zeros."""
    whole, rest = divmod(amount_microcredits, MICROCREDITS_PER_CREDIT)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


def _moment(text: str) -> str:
    """What stands there until the script writes the reader's own zone."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M UTC")
