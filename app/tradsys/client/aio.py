"""The client for programs with an asyncio loop: the calls of `sync.Client`, awaited.

    async with AsyncClient("http://127.0.0.1:8000", token) as venue:
        order = await venue.place("BTC-USD", "buy", "0.5", "50000.00")

Many calls may be under way at once, each on a connection of its own from a pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from tradsys.client import calls
from tradsys.client.calls import API, Amount, Call, T
from tradsys.client.errors import Refused, Unreachable, refusal_of
from tradsys.client.retrying import Patience
from tradsys.client.sync import PATIENCE_S, TIMEOUT_S, outcomes_of
from tradsys.codec.json_v1 import OrderReply
from tradsys.codec.market_v1 import Book, Symbol, Ticker, Trades

CONNECTIONS_MAX = 64


class AsyncClient:
    """Raises Refused (see errors.py for the classes) and Unreachable."""

    def __init__(
        self, url: str, token: str = "", *, timeout_s: float = TIMEOUT_S, patience_s: float = PATIENCE_S
    ) -> None:
        self.url = url.rstrip("/")
        self._host = urlsplit(self.url).hostname
        self._token = token
        self._patience_s = patience_s
        self._http = httpx.AsyncClient(
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def do(self, call: Call[T]) -> T:
        """Send any call of calls.py."""
        response = await self._attempts(call)
        if response.status_code == 307 and call.method == "GET":
            response = await self._elsewhere(response.headers.get("location", ""))
        if response.status_code >= 400:
            raise refusal_of(response.status_code, _json_of(response.content))
        return call.decode(response.content)

    async def _attempts(self, call: Call[Any]) -> httpx.Response:
        patience = Patience(self._patience_s if call.repeatable else 0.0)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if call.body:
            headers["Content-Type"] = "application/json"
        while True:
            try:
                response = await self._http.request(
                    call.method, self.url + call.target, content=call.body, headers=headers
                )
                status, after = response.status_code, response.headers.get("retry-after", "")
                pause_s = patience.after_answer(self.url, call.method, status, response.content, after)
                if pause_s is None:
                    return response
            except httpx.TransportError as fault:
                sent = not isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
                patience.unknown |= sent and call.method != "GET"
                pause_s = patience.pause_s()
                if pause_s is None:
                    why = str(fault) or "it took too long"
                    raise Unreachable(self.url, why, outcome_unknown=patience.unknown) from None
            await asyncio.sleep(pause_s)

    async def _elsewhere(self, location: str) -> httpx.Response:
        """Follow a redirect to the process that keeps history."""
        parts = urlsplit(location)
        if not parts.path.startswith(API):
            raise Unreachable(self.url, f"it redirects to {location!r}, which is no API of a venue", False)
        # The token goes only to the host that it was meant for.
        own = parts.hostname in (None, self._host)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token and own else {}
        try:
            return await self._http.get(location if parts.netloc else self.url + location, headers=headers)
        except httpx.TransportError as fault:
            raise Unreachable(location, str(fault), False) from None

    # --- orders -------------------------------------------------------------------------------------

    async def place(
        self, symbol: str, side: str, quantity: Amount, price: Amount | None = None, **more: Any
    ) -> OrderReply:
        """Buy or sell; `more` are the other arguments of `calls.order_body`."""
        return await self.do(calls.place(calls.order_body(symbol, side, quantity, price, **more)))

    async def place_many(self, orders: list[dict[str, Any]]) -> list[OrderReply | Refused]:
        """Orders made by `calls.order_body`, journalled together; an outcome for each, in their order."""
        return outcomes_of(await self.do(calls.place_many(orders)))

    async def test(
        self, symbol: str, side: str, quantity: Amount, price: Amount | None = None, **more: Any
    ) -> calls.Tested:
        """Check an order against every rule, and do not place it."""
        return await self.do(calls.test(calls.order_body(symbol, side, quantity, price, **more)))

    async def cancel(self, order_id: str) -> OrderReply:
        return await self.do(calls.cancel(order_id))

    async def cancel_by_client(self, client_order_id: str) -> OrderReply:
        """Cancel the order that was placed with this client_order_id."""
        return await self.cancel((await self.order_by_client(client_order_id)).order_id)

    async def cancel_all(self, symbol: str = "", side: str = "") -> calls.Canceled:
        """Cancel the account's open orders; the venue goes on with the rest if there are many."""
        return await self.do(calls.cancel_all(symbol, side))

    async def replace(
        self,
        order_id: str,
        *,
        quantity: Amount | None = None,
        price: Amount | None = None,
        version: int | None = None,
    ) -> OrderReply:
        """`quantity` is the new total. Repeated by itself only with a `version`."""
        return await self.do(calls.replace(order_id, quantity, price, version))

    async def order(self, order_id: str) -> OrderReply:
        return await self.do(calls.order(order_id))

    async def order_by_client(self, client_order_id: str) -> OrderReply:
        return await self.do(calls.order_by_client(client_order_id))

    async def orders(
        self, symbol: str = "", status: str = "open", page: int = 100
    ) -> AsyncIterator[OrderReply]:
        """The account's orders, newest first, page by page."""
        cursor = ""
        while True:
            answer = await self.do(calls.orders(symbol, status, page, cursor))
            for order in answer.items:
                yield order
            if answer.next_cursor is None:
                return
            cursor = answer.next_cursor

    # --- account and market -------------------------------------------------------------------------

    async def account(self) -> calls.AccountFacts:
        return await self.do(calls.account())

    async def balances(self) -> list[calls.Balance]:
        return (await self.do(calls.balances())).items

    async def positions(self) -> list[calls.Position]:
        return (await self.do(calls.positions())).items

    async def symbols(self) -> list[Symbol]:
        return (await self.do(calls.symbols())).items

    async def symbol(self, name: str) -> Symbol:
        return await self.do(calls.symbol(name))

    async def book(self, symbol: str, depth: int = 50) -> Book:
        return await self.do(calls.book(symbol, depth))

    async def ticker(self, symbol: str) -> Ticker:
        return await self.do(calls.ticker(symbol))

    async def trades(self, symbol: str, limit: int = 100, cursor: str = "") -> Trades:
        """The last trades, newest first."""
        return await self.do(calls.trades(symbol, limit, cursor))


def _json_of(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
