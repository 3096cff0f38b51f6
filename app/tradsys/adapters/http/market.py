"""Public market data, as far as the engine's memory goes; the rest is `query`'s."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from tradsys.adapters.http.desk import Desk
from tradsys.adapters.http.edge import PUBLIC, EdgeRequest, EdgeResponse
from tradsys.adapters.http.orders import limit_of, refuse_other_parameters
from tradsys.codec.errors import INVALID_REQUEST, Problem
from tradsys.codec.json_v1 import encode
from tradsys.codec.market_v1 import (
    Symbols,
    Trades,
    book_of,
    orders_within,
    recent_trades_of,
    symbol_of,
    ticker_of,
)
from tradsys.core.market import RECENT_TRADES_MAX, Market

DEPTH_MAX = 100
QUERY_DEPTH_MAX = 1_000
BOOK_ORDERS_MAX = 1_000
"""Orders of a book that the engine writes down for one request, which takes it less than a millisecond."""


class Time(Struct):
    time: str


class MarketResource:
    """What the market resources share."""

    needs: ClassVar = {"GET": PUBLIC}
    answers_while_draining = False

    def __init__(self, desk: Desk, endpoint: str):
        self.desk = desk
        self.endpoint = endpoint
        self.venue = desk.venue

    def market(self, symbol: str) -> Market:
        self.desk.grid(symbol)
        return self.venue.shard.markets[symbol]


class SymbolsResource(MarketResource):
    """GET /symbols"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        shard = self.venue.shard
        resp.data = encode(
            Symbols(
                [
                    symbol_of(market, shard.trading_status(market), self.endpoint)
                    for market in shard.markets.values()
                ]
            )
        )


class SymbolResource(MarketResource):
    """GET /symbols/{symbol}"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        market = self.market(symbol)
        resp.data = encode(symbol_of(market, self.venue.shard.trading_status(market), self.endpoint))


class BookResource(MarketResource):
    """GET /market/{symbol}/book"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        refuse_other_parameters(req, "depth", "level")
        market = self.market(symbol)
        depth = limit_of(req, 50, QUERY_DEPTH_MAX, "depth")
        level = {"2": 2, "3": 3}.get(req.get_param("level", default="2"))
        if level is None:
            raise Problem(INVALID_REQUEST, "level is 2 or 3", {"field": "level"})
        if depth > DEPTH_MAX or (level == 3 and orders_within(market, depth) > BOOK_ORDERS_MAX):
            self.desk.elsewhere(req, resp)
            return
        venue = self.venue
        resp.data = encode(
            book_of(market, depth, level, self.desk.shard_name, venue.seq, venue.journal.epoch, venue.time_ns)
        )


class TickerResource(MarketResource):
    """GET /market/{symbol}/ticker"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        market = self.market(symbol)
        status = self.venue.shard.trading_status(market)
        resp.data = encode(ticker_of(market, status, self.venue.seq, self.venue.time_ns))


class TradesResource(MarketResource):
    """GET /market/{symbol}/trades"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        refuse_other_parameters(req, "limit", "cursor")
        market = self.market(symbol)
        limit = limit_of(req, 50, 1_000)
        if limit > RECENT_TRADES_MAX or req.get_param("cursor") is not None:
            self.desk.elsewhere(req, resp)
            return
        items = recent_trades_of(market, limit)
        oldest = str(items[-1].trade_id) if len(items) == limit and items[-1].trade_id > 1 else None
        resp.data = encode(Trades(items, oldest))


class CandlesResource(MarketResource):
    """GET /market/{symbol}/candles: answered by `query`"""

    def on_get(self, req: EdgeRequest, resp: EdgeResponse, symbol: str) -> None:
        self.market(symbol)
        self.desk.elsewhere(req, resp)


class TimeResource:
    """GET /time"""

    needs: ClassVar = {"GET": PUBLIC}
    answers_while_draining = False

    def __init__(self, desk: Desk):
        self.venue = desk.venue

    def on_get(self, req: EdgeRequest, resp: EdgeResponse) -> None:
        resp.data = encode(Time(str(self.venue.clock())))
