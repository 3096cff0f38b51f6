"""Counts the requests that a worker of `query` answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableSequence
from time import perf_counter_ns
from typing import Any

from falcon import Response

from tradsys import metrics

LOOK_EVERY_NS = 1_000_000_000

_ROUTES = {
    "/api/v1/orders": "orders",
    "/api/v1/orders/{order_id}": "order",
    "/api/v1/orders/by-client/{client_order_id}": "by_client",
    "/api/v1/fills": "fills",
    "/api/v1/market/{symbol}/trades": "trades",
    "/api/v1/market/{symbol}/candles": "candles",
    "/api/v1/market/{symbol}/book": "book",
    "/": "console",
}
"""What the metrics call a path; all others are "other"."""


class Counted:
    """Middleware; behind the edge, which noted when a request came. Threads of a worker share it."""

    def __init__(self, words: MutableSequence[int], look: Callable[[], None]) -> None:
        """`look` is called about once a second while requests come."""
        self._words = words
        self._look = look
        self._look_due_ns = 0
        self._lock = threading.Lock()

    def process_response(self, req: Any, resp: Response, resource: Any, ok: bool) -> None:
        now = perf_counter_ns()
        route = _ROUTES.get(req.uri_template or "", "other")
        status = metrics.QUERY_REQUESTS.word(route, f"{str(resp.status)[0]}xx")
        series = metrics.QUERY_DURATION.series(route)
        with self._lock:
            self._words[status] += 1
            series.observe(self._words, now - req.started_ns)
            if now >= self._look_due_ns:
                self._look_due_ns = now + LOOK_EVERY_NS
                self._look()
