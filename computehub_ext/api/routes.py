"""Which handler serves which address, and how they get into a Jupyter server.

Importing this costs no more than the handlers: the contract, its validators and the templates are read at the first
request that needs them, and the database is not known here at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from jupyter_server.utils import url_path_join
from tornado.routing import PathMatches, Rule

from computehub_ext.api import account
from computehub_ext.api.handlers import (
    approvals,
    bookings,
    documents,
    estimates,
    history,
    leases,
    me,
    offers,
    pools,
    quotes,
    terminals,
)
from computehub_ext.api.identity import Identity
from computehub_ext.core.contract import Contract
from computehub_ext.core.ratelimit import DEFAULT_RATE_LIMITS, RateLimits
from computehub_ext.core.web import API_PATH, ComputeHubHandler, UnknownPathHandler, route

CONTRACT_PATH = Path(__file__).parent / "openapi.yaml"

HANDLERS: tuple[type[ComputeHubHandler], ...] = (
    me.MeHandler,
    me.AllowanceHandler,
    me.DefaultsHandler,
    approvals.ApprovalsHandler,
    approvals.ApprovalHandler,
    approvals.ApproveHandler,
    approvals.DeclineHandler,
    offers.OffersHandler,
    quotes.QuotesHandler,
    estimates.EstimatesHandler,
    pools.AvailabilityHandler,
    bookings.BookingsHandler,
    bookings.BookingsCalendarHandler,
    bookings.BookingHandler,
    bookings.CancelBookingHandler,
    bookings.MoveBookingHandler,
    bookings.AllSeriesHandler,
    bookings.SeriesHandler,
    bookings.CancelSeriesHandler,
    leases.LeasesHandler,
    leases.LeaseHandler,
    leases.LeaseReadingsHandler,
    leases.LeaseLogHandler,
    leases.ExtendLeaseHandler,
    leases.ShortenLeaseHandler,
    leases.EndLeaseHandler,
    terminals.LeaseTerminalHandler,
    history.HistoryHandler,
    history.HistoryTableHandler,
    documents.ContractHandler,
    documents.ContractForDocsHandler,
    documents.DocsHandler,
)
"""Served by this wing. ``kernels`` and ``switches`` are in the contract too and come from the notebook wing."""


def register(
    web_app: Any,
    base_url: str,
    *,
    plane: Any,
    identity: Identity,
    more_handlers: Iterable[type[ComputeHubHandler]] = (),
    find_kernel_actor: Callable[[str], Any] | None = None,
    rate_limits: Mapping[str, str] = DEFAULT_RATE_LIMITS,
) -> None:
    """Put the API and the account page into a Jupyter server's application.

    Parameters
    ----------
    plane:
        The control plane's facade.
    identity:
        How a request that Jupyter authenticated becomes a person.
    more_handlers:
        Those of the notebook wing, on the same base and in the same contract.
    find_kernel_actor:
        ``(token) -> Actor | None``, or a coroutine function, for the tokens that kernels were given.
    rate_limits:
        By route class, such as ``{"write": "120/minute"}``.
    """
    web_app.settings.update(
        computehub_plane=plane,
        computehub_identify=identity.identify,
        computehub_contract=Contract(CONTRACT_PATH),
        computehub_rate_limits=RateLimits(rate_limits),
    )
    if find_kernel_actor is not None:
        web_app.settings["computehub_kernel_actor"] = find_kernel_actor
    under_api = url_path_join(re.escape(base_url), re.escape(API_PATH), ".*")
    routes = [route(base_url, handler) for handler in (*HANDLERS, *more_handlers)]
    web_app.add_handlers(".*$", [*routes, *account.routes(base_url)])
    # Behind the routes that other extensions and the notebook wing add later, ahead of Jupyter's own page for 404.
    web_app.wildcard_router.rules.insert(0, Rule(PathMatches(under_api), UnknownPathHandler))
