"""The REST routes that are answered from the read model: closed orders, fills, trades, candles, deep books.

The engine sends clients here (307) for what it has no longer in memory. Answers are as old as the read
model: `X-Read-Seq` says which command it has reached, `X-Durable-Seq` which ones are on the disk.

But nothing is said to be absent that may only not have come here yet. Who asks can know of no command later
than `published_seq`, which engine and query share: an order that is not there, one that is there as open,
and a page that goes on from something the read model does not have, are looked at again until it has come
so far; after a short while the answer is 1020.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore
from types import MappingProxyType
from typing import Any, TypeVar

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
from tradsys.codec.market_v1 import (
    CHECKSUM_LEVELS,
    Book,
    Candles,
    Level,
    OrderBook,
    OrderLevel,
    Trade,
    Trades,
    candle_item_of,
    checksum_of,
)
from tradsys.core import messages as m
from tradsys.core.candles import INTERVALS
from tradsys.venue.past import (
    NEWEST,
    OPEN,
    HistoryNotReady,
    Past,
    PastBook,
    PastFill,
    PastOrder,
    PastTrade,
    PastView,
)
from tradsys.venue.ports import READ, Authenticator, Busy, Identity, Unauthorized

OWN: Mapping[str, int] = MappingProxyType({"GET": READ})
PUBLIC: Mapping[str, int] = MappingProxyType({})
"""Scopes that the routes need, by method."""
LIMIT_DEFAULT, LIMIT_MAX = 100, 1_000
"""Rows of a page, levels of a book."""
INTERVAL_DEFAULT = "1m"
REVOCATIONS_EVERY_NS = 250_000_000
"""How old a worker's knowledge of revoked tokens may be, beside the read model's own age."""
BEHIND_S = 0.5
"""How long a question waits for a read model that is behind; by itself it is so for some 50 ms."""
BEHIND_AGAIN_S = 0.01
"""How often it looks meanwhile."""
BEHIND_AT_ONCE = 3
"""Questions that wait in one worker: fewer than its threads, so that nobody keeps all of them waiting."""

STATUSES = {"open": OPEN} | {word: status for status, word in m.STATUS_WORDS.items()}
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_FILL_CURSOR = re.compile(r"([1-9][0-9]{0,18})-([1-9][0-9]{0,18})", re.ASCII)


T = TypeVar("T")


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


def query_routes(shard: str, past: Past, published: Callable[[], int]) -> list[tuple[str, Any]]:
    """(path, resource), for the app that all REST processes of the venue are made of.

    `published` gives the last command that anybody may have heard of.
    """
    reading = Reading(past, published)
    return [
        ("/api/v1/orders", OrdersResource(shard, reading)),
        ("/api/v1/orders/{order_id}", OrderResource(shard, reading)),
        ("/api/v1/orders/by-client/{client_order_id}", ByClientResource(shard, reading)),
        ("/api/v1/fills", FillsResource(shard, reading)),
        ("/api/v1/market/{symbol}/trades", TradesResource(shard, reading)),
        ("/api/v1/market/{symbol}/candles", CandlesResource(shard, reading)),
        ("/api/v1/market/{symbol}/book", BookResource(shard, reading)),
    ]


@contextmanager
def _view(past: Past) -> Iterator[PastView]:
    """Raises Problem 1020 while there is nothing to read from."""
    try:
        with past.view() as view:
            yield view
    except HistoryNotReady:
        raise Problem(NOT_LEADER, "history is not ready yet; try again", retry_after_s=1) from None


class Behind(Exception):
    """The read model may not have come yet to what is asked for."""


class Asked(Struct, frozen=True):
    """A view, and what whoever asks may know."""

    view: PastView
    published: int
    """The last command that had been published when the question came."""

    def reaches(self, seq: int = NEWEST) -> None:
        """Raises Behind unless the view has the command `seq`, as far as that can be known of at all."""
        if self.view.seq < min(seq, self.published):
            raise Behind

    def known_symbol(self, symbol: str) -> str:
        """Raises Problem 1003, Behind."""
        if not self.view.has_symbol(symbol):
            self.reaches()
            raise Problem(UNKNOWN_SYMBOL)
        return symbol


class Reading:
    """Asks the read model, and for a moment again while it is behind. Threads share it."""

    def __init__(self, past: Past, published: Callable[[], int]) -> None:
        self._past = past
        self._published = published
        self._waiting = BoundedSemaphore(BEHIND_AT_ONCE)

    def first(self, look: Callable[[Asked], T]) -> T:
        """What `look` finds in the first view for which it does not raise Behind. Raises Problem 1020."""
        published = self._published()
        try:
            return self._look(look, published)
        except Behind:
            pass
        if self._waiting.acquire(blocking=False):
            try:
                end = time.monotonic() + BEHIND_S
                while time.monotonic() < end:
                    time.sleep(BEHIND_AGAIN_S)
                    try:
                        return self._look(look, published)
                    except Behind:
                        continue
            finally:
                self._waiting.release()
        raise Problem(NOT_LEADER, "history has not come so far yet; try again", retry_after_s=1)

    def _look(self, look: Callable[[Asked], T], published: int) -> T:
        with _view(self._past) as view:
            return look(Asked(view, published))


class Question(ABC):
    """What all resources here are: a GET that is answered from one view, and says how far it reaches."""

    needs = OWN
    answers_while_draining = True
    parameters: tuple[str, ...] = ()
    """Of the query string."""

    def __init__(self, shard: str, reading: Reading) -> None:
        self.shard = shard
        self._reading = reading

    def on_get(self, req: Any, resp: Response, **path: str) -> None:
        _known_parameters(req, self.parameters)

        def look(asked: Asked) -> bytes:
            resp.set_header("X-Read-Seq", str(asked.view.seq))
            return encode(self.answer(asked, req, *path.values()))

        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._reading.first(look)

    @abstractmethod
    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        """The body; `named` is the order or symbol that the path names. Raises Problem, Behind."""


class OrderResource(Question):
    """GET /orders/{order_id}"""

    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        number = order_number(named, self.shard)
        # An order's number is that of the command that placed it: there can't be a later one.
        if number <= asked.published:
            asked.reaches(number)
        found = asked.view.order(req.account, number) if number else None
        return _order_text(_as_of_now(asked, found), self.shard)


class ByClientResource(Question):
    """GET /orders/by-client/{client_order_id}"""

    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        found = asked.view.order_by_client(req.account, client_order_id_of(named))
        if found is None:
            asked.reaches()
        return _order_text(_as_of_now(asked, found), self.shard)


class OrdersResource(Question):
    """GET /orders?symbol&status&cursor&limit"""

    parameters = ("symbol", "status", "cursor", "limit")

    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        word = req.get_param("status", default="")
        if word and word not in STATUSES:
            raise Problem(INVALID_REQUEST, f"status is one of {', '.join(STATUSES)}", {"field": "status"})
        cursor = req.get_param("cursor")
        before = NEWEST if cursor is None else order_number(cursor, self.shard)
        if not before:
            raise _bad_cursor()
        limit, symbol = _count(req, "limit"), _symbol_filter(req, asked)
        if cursor is not None:
            asked.reaches(before - 1)
        page = asked.view.orders(
            req.account, symbol=symbol, status=STATUSES.get(word, 0), before=before, limit=limit
        )
        following = f"{self.shard}-{page.before}" if page.before else None
        return OrderPage([_order_text(item, self.shard) for item in page.items], following)


class FillsResource(Question):
    """GET /fills?symbol&cursor&limit"""

    parameters = ("symbol", "cursor", "limit")

    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        before = (NEWEST, 0)
        cursor = req.get_param("cursor")
        if cursor is not None:
            found = _FILL_CURSOR.fullmatch(cursor)
            if found is None or max(before := (int(found[1]), int(found[2]))) > NEWEST:
                raise _bad_cursor()
        limit, symbol = _count(req, "limit"), _symbol_filter(req, asked)
        page = asked.view.fills(req.account, symbol=symbol, before=before, limit=limit)
        following = f"{page.before[0]}-{page.before[1]}" if page.before else None
        return FillPage([_fill_text(item, self.shard) for item in page.items], following)


class TradesResource(Question):
    """GET /market/{symbol}/trades?cursor&limit; needs no token"""

    needs = PUBLIC
    parameters = ("cursor", "limit")

    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        before = _number(req, "cursor", NEWEST, _bad_cursor())
        limit = _count(req, "limit")
        view, symbol = asked.view, asked.known_symbol(named)
        if before < NEWEST:
            # The engine's own pages come first: what they end with may not be here yet, nor what is before.
            newest = view.trades(symbol, limit=1).items
            if not newest or newest[0].trade_id < before:
                asked.reaches()
        page = view.trades(symbol, before=before, limit=limit)
        following = str(page.before) if page.before else None
        return Trades([_trade_text(item) for item in page.items], following)


class CandlesResource(Question):
    """GET /market/{symbol}/candles?interval&start&end&cursor&limit; needs no token"""

    needs = PUBLIC
    parameters = ("interval", "start", "end", "cursor", "limit")

    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        interval = req.get_param("interval", default=INTERVAL_DEFAULT)
        if interval not in INTERVALS:
            raise Problem(
                INVALID_REQUEST, f"interval is one of {', '.join(INTERVALS)}", {"field": "interval"}
            )
        start = _number(req, "start", 0, _bad_time("start"))
        end = _number(req, "end", NEWEST, _bad_time("end"))
        before = _number(req, "cursor", NEWEST, _bad_cursor())
        limit = _count(req, "limit")
        symbol = asked.known_symbol(named)
        page = asked.view.candles(
            symbol, INTERVALS[interval], start_ns=start, before_ns=min(end, before), limit=limit
        )
        following = str(page.before) if page.before else None
        return Candles(symbol, interval, [candle_item_of(candle) for candle in page.items], following)


class BookResource(Question):
    """GET /market/{symbol}/book; needs no token"""

    needs = PUBLIC
    parameters = ("depth", "level")

    def answer(self, asked: Asked, req: Any, named: str = "") -> Struct:
        depth = _count(req, "depth")
        level = req.get_param("level", default="2")
        if level not in ("2", "3"):
            raise Problem(INVALID_REQUEST, "level is 2 or 3", {"field": "level"})
        view, symbol = asked.view, asked.known_symbol(named)
        past = view.book(symbol, max(depth, CHECKSUM_LEVELS))
        bids, asks = _levels_text(past, past.bids), _levels_text(past, past.asks)
        checksum, ts = checksum_of(bids, asks), str(past.time_ns)
        if level == "2":
            return Book(symbol, view.seq, past.epoch, ts, checksum, bids[:depth], asks[:depth])
        past = view.book(symbol, depth, orders=True)
        bid_orders, ask_orders = (_orders_text(past, half, self.shard) for half in (past.bids, past.asks))
        return OrderBook(symbol, view.seq, past.epoch, ts, checksum, bid_orders, ask_orders)


def _as_of_now(asked: Asked, found: PastOrder | None) -> PastOrder | None:
    """An order as it is. Raises Behind: it may have been closed since, as the engine, which has let it go,
    knows; a closed one never changes."""
    if found is not None and found.order.status in (m.NEW, m.PARTIALLY_FILLED):
        asked.reaches()
    return found


# --- text -------------------------------------------------------------------------------------------


def _order_text(past: PastOrder | None, shard: str) -> OrderReply:
    """Raises Problem 1007: another account's is as absent as one that never was."""
    if past is None:
        raise Problem(m.NO_SUCH_ORDER)
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


def _levels_text(past: PastBook, half: list[tuple[int, ...]]) -> list[Level]:
    grid = grid_of(past.instrument)
    return [(grid.price_text(price), grid.qty_text(qty)) for price, qty in half]


def _orders_text(past: PastBook, half: list[tuple[int, ...]], shard: str) -> list[OrderLevel]:
    grid = grid_of(past.instrument)
    return [(grid.price_text(price), grid.qty_text(qty), f"{shard}-{number}") for price, qty, number in half]


# --- parameters -------------------------------------------------------------------------------------


def _known_parameters(req: falcon.Request, names: Collection[str]) -> None:
    """Raises Problem 1002: a misspelled filter must not give an unfiltered answer."""
    for name in req.params:
        if name not in names:
            raise Problem(INVALID_REQUEST, f"there is no parameter of this name; known: {', '.join(names)}")
    for name in names:
        if isinstance(req.params.get(name), list):
            raise Problem(INVALID_REQUEST, f"{name} is given twice", {"field": name})


def _number(req: falcon.Request, name: str, default: int, bad: Problem) -> int:
    """A whole number up to 2^63 − 1."""
    text = req.get_param(name)
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None or (number := int(text)) > NEWEST:
        raise bad
    return number


def _count(req: falcon.Request, name: str) -> int:
    """How many rows or levels are wanted."""
    bad = Problem(INVALID_REQUEST, f"{name} is 1 to {LIMIT_MAX}", {"field": name})
    count = _number(req, name, LIMIT_DEFAULT, bad)
    if not 1 <= count <= LIMIT_MAX:
        raise bad
    return count


def _symbol_filter(req: falcon.Request, asked: Asked) -> str:
    """A symbol that is known, or "" for any."""
    symbol = req.get_param("symbol", default="")
    return asked.known_symbol(symbol) if symbol else ""


def _bad_cursor() -> Problem:
    return Problem(INVALID_REQUEST, "cursor is a next_cursor of an earlier answer", {"field": "cursor"})


def _bad_time(name: str) -> Problem:
    return Problem(INVALID_REQUEST, f"{name} is a time in unix nanoseconds", {"field": name})
