"""The calls of REST as values: what is sent, what comes back, and whether a repeat is safe. No I/O.

Both clients send the same calls. Amounts are decimal text, `Decimal` or whole numbers, never floats.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from tradsys.codec.json_v1 import OrderReply
from tradsys.codec.market_v1 import Book, Symbol, Symbols, Ticker, Trades

T = TypeVar("T")
Amount = str | int | Decimal

API = "/api/v1"


@dataclass(frozen=True)
class Call(Generic[T]):
    method: str
    path: str
    """Below /api/v1, with its query."""
    reply: type[T]
    body: bytes = b""
    repeatable: bool = True
    """A repeat gets the first answer, or has the same effect."""
    query: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        return f"{API}{self.path}" + (f"?{urlencode(self.query)}" if self.query else "")

    def decode(self, body: bytes) -> T:
        return msgspec.json.decode(body, type=self.reply)


class Canceled(Struct, frozen=True):
    canceled: int
    pending: bool
    """The venue goes on with the rest by itself."""


class Tested(Struct, frozen=True):
    valid: bool
    worst_notional: str


class OrderPage(Struct, frozen=True):
    items: list[OrderReply]
    next_cursor: str | None


class AccountFacts(Struct, frozen=True):
    account: str
    mode: str
    killed: bool
    open_orders: int


class Balance(Struct, frozen=True):
    asset: str
    free: str
    reserved: str
    total: str


class Balances(Struct, frozen=True):
    items: list[Balance]


class Position(Struct, frozen=True):
    symbol: str
    quantity: str
    open_buys: str
    open_sells: str


class Positions(Struct, frozen=True):
    items: list[Position]


class FillRow(Struct, frozen=True):
    """One order's side of a trade."""

    trade_id: int
    order_id: str
    symbol: str
    side: str
    price: str
    quantity: str
    fee: str
    liquidity: str
    ts: str
    seq: int


class FillPage(Struct, frozen=True):
    items: list[FillRow]
    next_cursor: str | None


class Result(Struct, frozen=True):
    """Of one order of a batch: the order, or the error that it alone would have got."""

    ok: bool
    order: OrderReply | None = None
    error: dict[str, Any] | None = None


class Results(Struct, frozen=True):
    results: list[Result]


def text_of(amount: Amount) -> str:
    """Raises TypeError for a float: 0.1 has no exact binary form."""
    if isinstance(amount, bool) or not isinstance(amount, str | int | Decimal):
        raise TypeError(f"an amount is text, Decimal or int, not {type(amount).__name__}")
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)


def made_client_order_id() -> str:
    """What makes a repeat safe: 24 characters that nobody else has."""
    return f"sdk-{secrets.token_hex(10)}"


def order_body(
    symbol: str,
    side: str,
    quantity: Amount,
    price: Amount | None = None,
    *,
    type: str = "",
    time_in_force: str = "",
    stop_price: Amount | None = None,
    display_quantity: Amount | None = None,
    post_only: bool = False,
    stp: str = "",
    expire_at: int = 0,
    valid_until: int = 0,
    client_order_id: str = "",
) -> dict[str, Any]:
    """An order as REST and the WebSocket take it.

    With a price it is a limit order, without one a market order. A client_order_id is made if none is given.
    """
    kind = type or (
        ("limit" if price is not None else "market")
        if stop_price is None
        else ("stop_limit" if price is not None else "stop")
    )
    body: dict[str, Any] = {"symbol": symbol, "side": side, "type": kind, "quantity": text_of(quantity)}
    for name, amount in (
        ("price", price),
        ("stop_price", stop_price),
        ("display_quantity", display_quantity),
    ):
        if amount is not None:
            body[name] = text_of(amount)
    for name, word in (("time_in_force", time_in_force), ("stp", stp)):
        if word:
            body[name] = word
    for name, time_ns in (("expire_at", expire_at), ("valid_until", valid_until)):
        if time_ns:
            body[name] = str(time_ns)
    if post_only:
        body["post_only"] = True
    body["client_order_id"] = client_order_id or made_client_order_id()
    return body


def place(body: dict[str, Any]) -> Call[OrderReply]:
    return Call("POST", "/orders", OrderReply, msgspec.json.encode(body))


def place_many(bodies: list[dict[str, Any]]) -> Call[Results]:
    return Call("POST", "/orders/batch", Results, msgspec.json.encode({"orders": bodies}))


def test(body: dict[str, Any]) -> Call[Tested]:
    return Call("POST", "/orders/test", Tested, msgspec.json.encode(body))


def cancel(order_id: str) -> Call[OrderReply]:
    return Call("DELETE", path_of("orders", order_id), OrderReply)


def cancel_all(symbol: str = "", side: str = "") -> Call[Canceled]:
    return Call("DELETE", "/orders", Canceled, query=_given(symbol=symbol, side=side))


def replace(
    order_id: str, quantity: Amount | None, price: Amount | None, version: int | None
) -> Call[OrderReply]:
    body: dict[str, Any] = {}
    if quantity is not None:
        body["quantity"] = text_of(quantity)
    if price is not None:
        body["price"] = text_of(price)
    if version is not None:
        body["version"] = version
    # Said with a version, a repeat of what was done is refused (1008) and does no harm; without one it may
    # undo what another client has done between.
    encoded = msgspec.json.encode(body)
    return Call("PUT", path_of("orders", order_id), OrderReply, encoded, repeatable=version is not None)


def order(order_id: str) -> Call[OrderReply]:
    return Call("GET", path_of("orders", order_id), OrderReply)


def order_by_client(client_order_id: str) -> Call[OrderReply]:
    return Call("GET", path_of("orders", "by-client", client_order_id), OrderReply)


def orders(symbol: str, status: str, limit: int, cursor: str) -> Call[OrderPage]:
    query = _given(symbol=symbol, status=status, limit=str(limit), cursor=cursor)
    return Call("GET", "/orders", OrderPage, query=query)


def account() -> Call[AccountFacts]:
    return Call("GET", "/accounts/me", AccountFacts)


def balances() -> Call[Balances]:
    return Call("GET", "/balances", Balances)


def positions() -> Call[Positions]:
    return Call("GET", "/positions", Positions)


def symbols() -> Call[Symbols]:
    return Call("GET", "/symbols", Symbols)


def symbol(name: str) -> Call[Symbol]:
    return Call("GET", path_of("symbols", name), Symbol)


def book(name: str, depth: int) -> Call[Book]:
    return Call("GET", path_of("market", name, "book"), Book, query={"depth": str(depth)})


def ticker(name: str) -> Call[Ticker]:
    return Call("GET", path_of("market", name, "ticker"), Ticker)


def trades(name: str, limit: int, cursor: str) -> Call[Trades]:
    query = _given(limit=str(limit), cursor=cursor)
    return Call("GET", path_of("market", name, "trades"), Trades, query=query)


def _given(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def path_of(*parts: str) -> str:
    """A path from parts that may hold any character."""
    return "".join("/" + quote(part, safe="") for part in parts)
