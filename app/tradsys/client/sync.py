"""The client for programs without an event loop.

    with Client("http://127.0.0.1:8000", token) as venue:
        order = venue.place("BTC-USD", "buy", "0.5", "50000.00")
        venue.cancel(order.order_id)

One connection, for one thread at a time. What is safe to repeat is repeated for up to `patience_s` when the
venue is away: reads, cancels, and orders, each of which carries a client_order_id (made if none is given).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from tradsys.client import calls
from tradsys.client.calls import Amount, Call, T
from tradsys.client.errors import Refused, refusal_of
from tradsys.client.rest import RestClient, answer_of
from tradsys.codec.json_v1 import OrderReply
from tradsys.codec.market_v1 import Book, Symbol, Ticker, Trades

TIMEOUT_S = 5.0
PATIENCE_S = 30.0


class Client:
    """Raises Refused (see errors.py for the classes) and Unreachable."""

    def __init__(
        self, url: str, token: str = "", *, timeout_s: float = TIMEOUT_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._rest = RestClient(url, token, timeout_s=timeout_s, patience_s=patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._rest.close()

    def do(self, call: Call[T]) -> T:
        """Send any call of calls.py."""
        response = self._rest.exchange(call.method, call.target, call.body, call.repeatable)
        if response.status >= 400:
            answer_of(response)
        return call.decode(response.body)

    # --- orders -------------------------------------------------------------------------------------

    def place(
        self, symbol: str, side: str, quantity: Amount, price: Amount | None = None, **more: Any
    ) -> OrderReply:
        """Buy or sell; `more` are the other arguments of `calls.order_body`."""
        return self.do(calls.place(calls.order_body(symbol, side, quantity, price, **more)))

    def place_many(self, orders: list[dict[str, Any]]) -> list[OrderReply | Refused]:
        """Orders made by `calls.order_body`, journalled together; an outcome for each, in their order."""
        return outcomes_of(self.do(calls.place_many(orders)))

    def test(
        self, symbol: str, side: str, quantity: Amount, price: Amount | None = None, **more: Any
    ) -> calls.Tested:
        """Check an order against every rule, and do not place it."""
        return self.do(calls.test(calls.order_body(symbol, side, quantity, price, **more)))

    def cancel(self, order_id: str) -> OrderReply:
        return self.do(calls.cancel(order_id))

    def cancel_by_client(self, client_order_id: str) -> OrderReply:
        """Cancel the order that was placed with this client_order_id."""
        return self.cancel(self.order_by_client(client_order_id).order_id)

    def cancel_all(self, symbol: str = "", side: str = "") -> calls.Canceled:
        """Cancel the account's open orders; the venue goes on with the rest if there are many."""
        return self.do(calls.cancel_all(symbol, side))

    def replace(
        self,
        order_id: str,
        *,
        quantity: Amount | None = None,
        price: Amount | None = None,
        version: int | None = None,
    ) -> OrderReply:
        """`quantity` is the new total. Repeated by itself only with a `version`."""
        return self.do(calls.replace(order_id, quantity, price, version))

    def order(self, order_id: str) -> OrderReply:
        return self.do(calls.order(order_id))

    def order_by_client(self, client_order_id: str) -> OrderReply:
        return self.do(calls.order_by_client(client_order_id))

    def orders(self, symbol: str = "", status: str = "open", page: int = 100) -> Iterator[OrderReply]:
        """The account's orders, newest first, page by page."""
        cursor = ""
        while True:
            answer = self.do(calls.orders(symbol, status, page, cursor))
            yield from answer.items
            if answer.next_cursor is None:
                return
            cursor = answer.next_cursor

    # --- account and market -------------------------------------------------------------------------

    def account(self) -> calls.AccountFacts:
        return self.do(calls.account())

    def balances(self) -> list[calls.Balance]:
        return self.do(calls.balances()).items

    def positions(self) -> list[calls.Position]:
        return self.do(calls.positions()).items

    def symbols(self) -> list[Symbol]:
        return self.do(calls.symbols()).items

    def symbol(self, name: str) -> Symbol:
        return self.do(calls.symbol(name))

    def book(self, symbol: str, depth: int = 50) -> Book:
        return self.do(calls.book(symbol, depth))

    def ticker(self, symbol: str) -> Ticker:
        return self.do(calls.ticker(symbol))

    def trades(self, symbol: str, limit: int = 100, cursor: str = "") -> Trades:
        """The last trades, newest first."""
        return self.do(calls.trades(symbol, limit, cursor))


def outcomes_of(answer: calls.Results) -> list[OrderReply | Refused]:
    return [one.order if one.order is not None else refusal_of(0, one.error) for one in answer.results]
