"""`Streams` for programs without an event loop: the same streams, run in a thread of their own.

    with SyncStreams("ws://127.0.0.1:8001", token) as streams:
        for book in streams.book("BTC-USD"):
            print(book.levels(1))

A book changes only while its iterator is asked for the next one, so what was given may be read in peace.
Different streams may be read by different threads, each stream by one; `close`, from any thread, ends all of
them with Unreachable.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from tradsys.client.book import LocalBook
from tradsys.client.errors import Unreachable
from tradsys.client.streams import Streams
from tradsys.client.sync import PATIENCE_S, TIMEOUT_S
from tradsys.codec import stream_v1 as s

T = TypeVar("T")


class SyncStreams:
    """One connection with any number of subscriptions. Raises Refused and Unreachable as `Streams` does."""

    def __init__(
        self, url: str, token: str = "", *, timeout_s: float = TIMEOUT_S, patience_s: float = PATIENCE_S
    ) -> None:
        """`patience_s`: how long the venue may be away before the streams end with Unreachable."""
        self.url = url
        self._token = token
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tradsys-streams", daemon=True)
        self._streams: Streams
        self._closing = threading.Lock()
        self._open = False

    def __enter__(self) -> Self:
        self._thread.start()
        self._open = True
        try:
            self._streams = self._done(self._made())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; who waits for a message gets Unreachable."""
        with self._closing:
            if self._open:
                self._done(self._streams.__aexit__(None, None, None))
                self._end_loop()

    async def _made(self) -> Streams:
        streams = Streams(self.url, self._token, timeout_s=self._timeout_s, patience_s=self._patience_s)
        return await streams.__aenter__()

    def _done(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that is done in the thread of the streams."""
        if not self._open:
            work.close()
            raise Unreachable(self.url, "the streams were closed", outcome_unknown=False)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_loop(self) -> None:
        self._open = False

        async def rest() -> None:
            # Readers that were just told of the end are let out first.
            left = asyncio.all_tasks() - {asyncio.current_task()}
            if left:
                await asyncio.wait(left, timeout=self._timeout_s)
            await self._loop.shutdown_asyncgens()

        asyncio.run_coroutine_threadsafe(rest(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- what one subscribes to ---------------------------------------------------------------------

    def book(self, symbol: str, depth: int = 50) -> Iterator[LocalBook]:
        """The book, in step, after each change; changes that come while one is being read are merged."""
        return self._each(self._streams.book(symbol, depth))

    def trades(self, symbol: str) -> Iterator[s.TradesMessage]:
        return self._each(self._streams.trades(symbol))

    def ticker(self, symbol: str) -> Iterator[s.TickerMessage]:
        return self._each(self._streams.ticker(symbol))

    def candles(self, symbol: str, interval: str = "1m") -> Iterator[s.CandlesMessage]:
        return self._each(self._streams.candles(symbol, interval))

    def orders(self) -> Iterator[s.OrdersMessage]:
        """The account's orders: the open ones first, then what changes, resumed after a cut."""
        return self._each(self._streams.orders())

    def balances(self) -> Iterator[s.BalancesMessage]:
        return self._each(self._streams.balances())

    def place(self, order: dict[str, Any]) -> dict[str, Any]:
        """Place an order made by `calls.order_body`: the order, as REST has it. It is not repeated."""
        return self._done(self._streams.place(order))

    def cancel(self, order_id: str) -> dict[str, Any]:
        return self._done(self._streams.cancel(order_id))

    @property
    def position(self) -> s.Heartbeat | None:
        """The last heartbeat: how far the venue is, and what is durable."""
        return self._streams.position

    @property
    def connections(self) -> int:
        """Made so far."""
        return self._streams.connections

    def _each(self, messages: AsyncIterator[T]) -> Iterator[T]:
        while True:
            yield self._done(_next_of(messages))


async def _next_of(messages: AsyncIterator[T]) -> T:
    return await anext(messages)
