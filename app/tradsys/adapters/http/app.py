"""The engine's HTTP: one Falcon app for each listener, told apart by the port a request came in on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import falcon

from tradsys.adapters.http import accounts, admin, market, ops, orders
from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import Edge, EdgeRequest, EdgeResponse
from tradsys.adapters.http.openapi import OpenApiResource, Operations

PREFIX = "/api/v1"

Route = tuple[str, Any]
"""(path, resource)"""


def public_routes(desk: Desk, *, endpoint: str, batch_body_max: int) -> list[Route]:
    """What clients call."""
    return [
        (f"{PREFIX}/orders", orders.OrdersResource(desk)),
        (f"{PREFIX}/orders/batch", orders.BatchResource(desk, batch_body_max)),
        (f"{PREFIX}/orders/cancel-batch", orders.CancelBatchResource(desk, batch_body_max)),
        (f"{PREFIX}/orders/test", orders.TestResource(desk)),
        (f"{PREFIX}/orders/by-client/{{client_order_id}}", orders.ByClientResource(desk)),
        (f"{PREFIX}/orders/{{order_id}}", orders.OrderResource(desk)),
        (f"{PREFIX}/fills", orders.ElsewhereResource(desk)),
        (f"{PREFIX}/symbols", market.SymbolsResource(desk, endpoint)),
        (f"{PREFIX}/symbols/{{symbol}}", market.SymbolResource(desk, endpoint)),
        (f"{PREFIX}/market/{{symbol}}/book", market.BookResource(desk, endpoint)),
        (f"{PREFIX}/market/{{symbol}}/ticker", market.TickerResource(desk, endpoint)),
        (f"{PREFIX}/market/{{symbol}}/trades", market.TradesResource(desk, endpoint)),
        (f"{PREFIX}/market/{{symbol}}/candles", market.CandlesResource(desk, endpoint)),
        (f"{PREFIX}/time", market.TimeResource(desk)),
        (f"{PREFIX}/accounts/me", accounts.MeResource(desk)),
        (f"{PREFIX}/balances", accounts.BalancesResource(desk)),
        (f"{PREFIX}/positions", accounts.PositionsResource(desk)),
        (f"{PREFIX}/risk/limits", accounts.RiskLimitsResource(desk)),
        (f"{PREFIX}/risk/state", accounts.RiskStateResource(desk)),
        (f"{PREFIX}/fees", accounts.FeesResource(desk)),
    ]


def admin_routes(
    desk: Desk,
    *,
    revoked: Callable[[Any], None],
    token_life_max_s: int,
    drain: Callable[[], None],
) -> list[Route]:
    """What administrators call, on their own listener."""
    at = f"{PREFIX}/admin"
    return [
        (f"{at}/accounts", admin.AccountsResource(desk)),
        (f"{at}/accounts/{{account}}", admin.OneAccountResource(desk)),
        (f"{at}/accounts/{{account}}/limits", admin.LimitsResource(desk)),
        (f"{at}/accounts/{{account}}/adjustments", admin.AdjustmentsResource(desk)),
        (f"{at}/symbols", admin.AdminSymbolsResource(desk)),
        (f"{at}/symbols/{{symbol}}/status", admin.SymbolStatusResource(desk)),
        (f"{at}/symbols/{{symbol}}/reference", admin.ReferenceResource(desk)),
        (f"{at}/symbols/{{symbol}}/fees", admin.SymbolFeesResource(desk)),
        (f"{at}/symbols/{{symbol}}/band", admin.SymbolBandResource(desk)),
        (f"{at}/kill", admin.KillResource(desk)),
        (f"{at}/cancel-all", admin.CancelAllResource(desk)),
        (f"{at}/tokens/revoke", admin.RevokeResource(desk, revoked, token_life_max_s)),
        (f"{at}/rules", admin.RulesResource(desk)),
        (f"{at}/drain", admin.DrainResource(desk, drain)),
    ]


def ops_routes(
    *,
    not_ready: Callable[[], list[str]],
    status: Callable[[], dict[str, Any]],
    pinning: Callable[[], dict[str, Any]],
    rendered_metrics: Callable[[], bytes | None],
) -> list[Route]:
    """What probes, Prometheus and the operator call."""
    return [
        ("/healthz", ops.HealthResource()),
        ("/readyz", ops.ReadyResource(not_ready)),
        ("/metrics", ops.MetricsResource(rendered_metrics)),
        ("/internal/status", ops.FactsResource(status)),
        ("/internal/pinning", ops.FactsResource(pinning)),
    ]


def internal_routes(desk: Desk, *, secret: bytes, batch_body_max: int) -> list[Route]:
    """What the venue's own processes call."""
    # A record with its sender is a third larger than without.
    return [("/internal/commands", ops.CommandsResource(desk, secret, batch_body_max * 4 // 3))]


def create_app(
    edge: Edge, routes: Iterable[Route], describe: bool = False, operations: Operations | None = None
) -> falcon.App[Any, Any]:
    """A Falcon app with these routes; `describe` adds its OpenAPI document, for which `operations` says what
    the engine's own table does not."""
    app = falcon.App(middleware=[edge], request_type=EdgeRequest, response_type=EdgeResponse)
    # Text of a path or a query is for us to judge; Falcon's own conversions are off.
    app.req_options.strip_url_path_trailing_slash = False
    app.req_options.auto_parse_form_urlencoded = False
    edge.install(app)
    routes = list(routes)
    for path, resource in routes:
        app.add_route(path, resource)
    if describe:
        app.add_route(f"{PREFIX}/openapi.json", OpenApiResource(routes, operations))
    return app


def below(path: str, app: WSGIApplication) -> WSGIApplication:
    """The app, also below the path at which clients reach it: an ingress leaves it in front."""
    if not path:
        return app

    def without_it(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = environ["PATH_INFO"]
        if asked.startswith(f"{path}/"):
            environ["PATH_INFO"] = asked[len(path) :]
        return app(environ, start_response)

    return without_it


class ByPort:
    """Hands each request to the app of the listener it came in on."""

    def __init__(self, apps: Mapping[int, WSGIApplication]):
        self._apps = {str(port): app for port, app in apps.items()}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._apps[environ["SERVER_PORT"]](environ, start_response)
