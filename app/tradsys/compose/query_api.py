"""What query's REST routes are for: the part of its OpenAPI document that no type says."""

from __future__ import annotations

from tradsys.adapters.http.openapi import CURSOR, SYMBOL, Operation, Operations, Parameter, number
from tradsys.adapters.query import app as query
from tradsys.codec import json_v1, market_v1
from tradsys.codec.errors import UNKNOWN_SYMBOL
from tradsys.core import messages as m
from tradsys.core.candles import INTERVALS

_LIMIT = number("limit", query.LIMIT_MAX, query.LIMIT_DEFAULT)
_NO_SYMBOL = (UNKNOWN_SYMBOL,)


def _time(name: str, description: str) -> Parameter:
    return Parameter(name, {"type": "string", "pattern": "^(0|[1-9][0-9]{0,18})$"}, description)


OPERATIONS: Operations = {
    (query.OrdersResource, "GET"): Operation(
        "The account's orders, newest first, also those that have left the engine's memory",
        query.OrderPage,
        errors=_NO_SYMBOL,
        query=(
            SYMBOL,
            Parameter(
                "status",
                {"enum": list(query.STATUSES)},
                "only orders in this state; open: any that may trade",
            ),
            _LIMIT,
            CURSOR,
        ),
        reads=True,
    ),
    (query.OrderResource, "GET"): Operation(
        "One order of the account", json_v1.OrderReply, errors=(m.NO_SUCH_ORDER,), reads=True
    ),
    (query.ByClientResource, "GET"): Operation(
        "The latest order with this id of the client's",
        json_v1.OrderReply,
        errors=(m.NO_SUCH_ORDER,),
        reads=True,
    ),
    (query.FillsResource, "GET"): Operation(
        "The account's fills, newest first",
        query.FillPage,
        errors=_NO_SYMBOL,
        query=(SYMBOL, _LIMIT, CURSOR),
        reads=True,
    ),
    (query.TradesResource, "GET"): Operation(
        "The trades of a symbol, newest first",
        market_v1.Trades,
        errors=_NO_SYMBOL,
        query=(_LIMIT, CURSOR),
        reads=True,
    ),
    (query.CandlesResource, "GET"): Operation(
        "Candles of a symbol, newest first; an interval without trades has none, the newest one still grows",
        market_v1.Candles,
        errors=_NO_SYMBOL,
        query=(
            Parameter("interval", {"enum": list(INTERVALS), "default": query.INTERVAL_DEFAULT}),
            _time("start", "those that begin at this time or later, unix nanoseconds"),
            _time("end", "those that begin before this time, unix nanoseconds"),
            _LIMIT,
            CURSOR,
        ),
        reads=True,
    ),
    (query.BookResource, "GET"): Operation(
        "The order book as of X-Read-Seq, best first: price levels (level 2) or orders (level 3)",
        market_v1.Book | market_v1.OrderBook,
        errors=_NO_SYMBOL,
        query=(
            number("depth", query.LIMIT_MAX, query.LIMIT_DEFAULT, "price levels"),
            number("level", 3, 2, least=2),
        ),
        reads=True,
    ),
}
