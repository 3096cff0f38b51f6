"""The REST routes that are answered from the read model: closed orders, fills, the history of trades.

The engine sends clients here (307) for what it has no longer in memory. Answers are as old as the read
model: `X-Read-Seq` says which command it has reached, `X-Durable-Seq` which ones are on the disk.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import falcon
from falcon import Response
from msgspec import Struct

from tradsys.codec.decimals import grid_of
from tradsys.codec.errors import ERRORS, INVALID_REQUEST, NOT_LEADER, UNKNOWN_SYMBOL, Problem
from tradsys.codec.json_v1 import (
    Fill,
    OrderReply,
    client_order_id_of,
    encode,
    fill_of,
    order_number,
    reply_of_order,
)
from tradsys.codec.market_v1 import Trade, Trades
from tradsys.core import messages as m
from tradsys.venue.past import NEWEST, OPEN, HistoryNotReady, Past, PastFill, PastOrder, PastTrade, PastView
from tradsys.venue.ports import READ, Authenticator, Busy, Identity, Unauthorized

OWN = MappingProxyType({"GET": READ})
PUBLIC: Mapping[str, int] = MappingProxyType({})
"""Scopes that the routes need, by method."""
LIMIT_DEFAULT, LIMIT_MAX = 100, 1_000
REVOCATIONS_EVERY_NS = 250_000_000
"""How old a worker's knowledge of revoked tokens may be, beside the read model's own age."""

_STATUSES = {"open": OPEN} | {word: status for status, word in m.STATUS_WORDS.items()}
_NUMBER = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_FILL_CURSOR = re.compile(r"([1-9][0-9]{0,18})-([1-9][0-9]{0,18})", re.ASCII)


class OrderPage(Struct):
    items: list[OrderReply]
    next_cursor: str | None


class AccountFill(Struct):
    """A fill with the order it belongs to."""

    trade_id: int
    order_id: str
    symbol: str
    side: m.SideWord
    price: str
    quantity: str
    fee: str
    liquidity: str
    seq: int
    ts: str


class FillPage(Struct):
    items: list[AccountFill]
    next_cursor: str | None


class RevocationsFollowed:
    """An authenticator that knows what was revoked a moment ago, before it judges a token.

    Costs a clock reading, and a look into the read model a few times a second. Threads may share one: at
    worst two look at the same time.
    """

    def __init__(
        self, verifier: Authenticator, past: Past, revoke: Callable[[m.RevokeToken, int], None]
    ) -> None:
        """`revoke` tells the verifier of a command, with the unix time in seconds."""
        self._verifier = verifier
        self._past = past
        self._revoke = revoke
        self._seen_seq = 0
        self._due_ns = 0

    def verify(self, header_value: str | None, now_ns: int) -> Identity | Unauthorized | Busy:
        now = time.monotonic_ns()
        if now >= self._due_ns:
            self._due_ns = now + REVOCATIONS_EVERY_NS
            self._look(now_ns // 1_000_000_000)
        return self._verifier.verify(header_value, now_ns)

    def _look(self, now_s: int) -> None:
        with _view(self._past) as view:
            for seq, command in view.revocations(self._seen_seq):
                self._revoke(command, now_s)
                self._seen_seq = seq


def query_routes(shard: str, past: Past) -> list[tuple[str, Any]]:
    """(path, resource), for the app that all REST processes of the venue are made of."""
    return [
        ("/api/v1/orders", OrdersResource(shard, past)),
        ("/api/v1/orders/{order_id}", OrderResource(shard, past)),
        ("/api/v1/orders/by-client/{client_order_id}", ByClientResource(shard, past)),
        ("/api/v1/fills", FillsResource(shard, past)),
        ("/api/v1/market/{symbol}/trades", TradesResource(past)),
    ]


@contextmanager
def _view(past: Past) -> Iterator[PastView]:
    """Raises Problem 1020 while there is nothing to read from."""
    try:
        with past.view() as view:
            yield view
    except HistoryNotReady:
        raise Problem(NOT_LEADER, "history is not ready yet; try again", retry_after_s=1) from None


class OrderResource:
    """GET /orders/{order_id}"""

    needs = OWN
    answers_while_draining = True

    def __init__(self, shard: str, past: Past) -> None:
        self._shard = shard
        self._past = past

    def on_get(self, req: Any, resp: Response, order_id: str) -> None:
        number = order_number(order_id, self._shard)
        with _view(self._past) as view:
            found = view.order(req.account, number) if number else None
            _answer(resp, view.seq)
        if found is None:
            raise Problem(m.NO_SUCH_ORDER)
        resp.data = encode(_order_text(found, self._shard))


class ByClientResource:
    """GET /orders/by-client/{client_order_id}"""

    needs = OWN
    answers_while_draining = True

    def __init__(self, shard: str, past: Past) -> None:
        self._shard = shard
        self._past = past

    def on_get(self, req: Any, resp: Response, client_order_id: str) -> None:
        name = client_order_id_of(client_order_id)
        with _view(self._past) as view:
            found = view.order_by_client(req.account, name)
            _answer(resp, view.seq)
        if found is None:
            raise Problem(m.NO_SUCH_ORDER)
        resp.data = encode(_order_text(found, self._shard))


class OrdersResource:
    """GET /orders?symbol&status&cursor&limit"""

    needs = OWN
    answers_while_draining = True

    def __init__(self, shard: str, past: Past) -> None:
        self._shard = shard
        self._past = past

    def on_get(self, req: Any, resp: Response) -> None:
        _known_parameters(req, ("symbol", "status", "cursor", "limit"))
        word = req.get_param("status", default="")
        if word and word not in _STATUSES:
            raise Problem(INVALID_REQUEST, f"status is one of {', '.join(_STATUSES)}", {"field": "status"})
        cursor = req.get_param("cursor")
        before = NEWEST if cursor is None else order_number(cursor, self._shard)
        if not before:
            raise _bad_cursor()
        symbol, limit = req.get_param("symbol", default=""), _limit(req)
        with _view(self._past) as view:
            if symbol and not view.has_symbol(symbol):
                raise Problem(UNKNOWN_SYMBOL)
            page = view.orders(
                req.account, symbol=symbol, status=_STATUSES.get(word, 0), before=before, limit=limit
            )
            _answer(resp, view.seq)
        following = f"{self._shard}-{page.before}" if page.before else None
        resp.data = encode(OrderPage([_order_text(item, self._shard) for item in page.items], following))


class FillsResource:
    """GET /fills?symbol&cursor&limit"""

    needs = OWN
    answers_while_draining = True

    def __init__(self, shard: str, past: Past) -> None:
        self._shard = shard
        self._past = past

    def on_get(self, req: Any, resp: Response) -> None:
        _known_parameters(req, ("symbol", "cursor", "limit"))
        before = (NEWEST, 0)
        cursor = req.get_param("cursor")
        if cursor is not None:
            found = _FILL_CURSOR.fullmatch(cursor)
            if found is None or max(before := (int(found[1]), int(found[2]))) > NEWEST:
                raise _bad_cursor()
        symbol, limit = req.get_param("symbol", default=""), _limit(req)
        with _view(self._past) as view:
            if symbol and not view.has_symbol(symbol):
                raise Problem(UNKNOWN_SYMBOL)
            page = view.fills(req.account, symbol=symbol, before=before, limit=limit)
            _answer(resp, view.seq)
        following = f"{page.before[0]}-{page.before[1]}" if page.before else None
        resp.data = encode(FillPage([_fill_text(item, self._shard) for item in page.items], following))


class TradesResource:
    """GET /market/{symbol}/trades?cursor&limit; needs no token"""

    needs = PUBLIC
    answers_while_draining = True

    def __init__(self, past: Past) -> None:
        self._past = past

    def on_get(self, req: Any, resp: Response, symbol: str) -> None:
        _known_parameters(req, ("cursor", "limit"))
        before = NEWEST
        cursor = req.get_param("cursor")
        if cursor is not None and (_NUMBER.fullmatch(cursor) is None or (before := int(cursor)) > NEWEST):
            raise _bad_cursor()
        limit = _limit(req)
        with _view(self._past) as view:
            if not view.has_symbol(symbol):
                raise Problem(UNKNOWN_SYMBOL)
            page = view.trades(symbol, before=before, limit=limit)
            _answer(resp, view.seq)
        following = str(page.before) if page.before else None
        resp.data = encode(Trades([_trade_text(item) for item in page.items], following))


# --- text -------------------------------------------------------------------------------------------


def _order_text(past: PastOrder, shard: str) -> OrderReply:
    reply = reply_of_order(past.order, shard)
    if past.refusal:
        reply.reason = ERRORS[past.refusal].name
    return reply


def _fill_text(past: PastFill, shard: str) -> AccountFill:
    fill: Fill = fill_of(grid_of(past.instrument), past.trade, past.order_id, past.time_ns)
    return AccountFill(
        fill.trade_id,
        f"{shard}-{past.order_id}",
        past.symbol,
        m.SIDE_WORDS[past.side],
        fill.price,
        fill.quantity,
        fill.fee,
        fill.liquidity,
        past.seq,
        fill.ts,
    )


def _trade_text(past: PastTrade) -> Trade:
    grid = grid_of(past.instrument)
    return Trade(
        past.trade_id,
        grid.price_text(past.price),
        grid.qty_text(past.qty),
        m.SIDE_WORDS[past.taker_side],
        past.seq,
        str(past.time_ns),
    )


# --- parameters -------------------------------------------------------------------------------------


def _known_parameters(req: falcon.Request, names: Collection[str]) -> None:
    """Raises Problem 1002: a misspelled filter must not give an unfiltered answer."""
    for name in req.params:
        if name not in names:
            raise Problem(INVALID_REQUEST, f"there is no parameter of this name; known: {', '.join(names)}")
    for name in names:
        if isinstance(req.params.get(name), list):
            raise Problem(INVALID_REQUEST, f"{name} is given twice", {"field": name})


def _limit(req: falcon.Request) -> int:
    text = req.get_param("limit")
    if text is None:
        return LIMIT_DEFAULT
    if _NUMBER.fullmatch(text) is None or int(text) > LIMIT_MAX:
        raise Problem(INVALID_REQUEST, f"limit is 1 to {LIMIT_MAX}", {"field": "limit"})
    return int(text)


def _bad_cursor() -> Problem:
    return Problem(INVALID_REQUEST, "cursor is a next_cursor of an earlier answer", {"field": "cursor"})


def _answer(resp: Response, read_seq: int) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.set_header("X-Read-Seq", str(read_seq))
