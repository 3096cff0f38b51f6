"""WebSocket streams: subscribed once, kept through reconnects; books in step, private streams without a hole.

    async with Streams("ws://127.0.0.1:8001", token) as streams:
        async for book in streams.book("BTC-USD"):          # a LocalBook after each change
            print(book.levels(1))
        async for message in streams.orders():              # OrdersMessage, resumed after a cut
            ...

A book that falls out of step asks for a resync and is not shown until it is in step again. Who leaves a loop
leaves its stream. Who reads slower than messages come slows the connection down; the venue then skips for
public streams, and says so.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tradsys.client.book import LocalBook, OutOfStep
from tradsys.client.errors import Refused, Unreachable, refusal_of
from tradsys.client.retrying import Patience
from tradsys.client.sync import PATIENCE_S, TIMEOUT_S
from tradsys.codec import stream_v1 as s
from tradsys.codec.errors import NOT_LEADER

UNREAD_MAX = 1_000
"""Messages that wait for their reader; then nothing more is read from the connection until half are gone."""
CHANNELS_A_REQUEST = 100
"""The venue takes no more in one message."""
SILENCE_S = 10.0
"""A connection on which nothing comes for so long is dead: the venue sends a heartbeat each second."""

Message = (
    s.BookMessage
    | s.OrderBookMessage
    | s.TradesMessage
    | s.PriceMessage
    | s.TickerMessage
    | s.CandlesMessage
    | s.OrdersMessage
    | s.BalancesMessage
    | s.Heartbeat
    | s.ServerShutdown
)
Key = tuple[str, str, int, str]
"""(channel, symbol, depth, interval)"""

_MESSAGES = msgspec.json.Decoder(Message)


class _Subscription:
    """One stream's unread messages."""

    def __init__(self, channel: dict[str, Any]) -> None:
        self.channel = channel
        self.unread: deque[Any] = deque()
        self.news = asyncio.Event()
        self.failure: Exception | None = None
        self.book: LocalBook | None = None
        self.seq = self.epoch = -1
        """Of the last message."""

    def add(self, message: Any) -> None:
        self.unread.append(message)
        self.news.set()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.news.set()


class _Listener(WSListener):
    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self._streams = streams
        self._parts: list[bytes] = []
        self.last_s = 0.0

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.last_s = asyncio.get_running_loop().time()
        kind = frame.msg_type
        if kind == WSMsgType.CLOSE:
            transport.disconnect()
            return
        if kind not in (WSMsgType.TEXT, WSMsgType.CONTINUATION):
            return
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            text, self._parts = b"".join(self._parts), []
            self._streams._received(text)


class Streams:
    """One connection with any number of subscriptions; made and used in one loop."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`url` may have the path `/ws`. `patience_s`: how long the venue may be away before the streams end
        with Unreachable."""
        self.url = url.rstrip("/").removesuffix("/ws") + "/ws"
        self._token = token
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self._subscriptions: dict[Key, _Subscription] = {}
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count(1)
        self._transport: WSTransport | None = None
        self._paused = False
        self._open = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self.position: s.Heartbeat | None = None
        """The last heartbeat: how far the venue is, and what is durable."""
        self.connections = 0
        """Made so far."""

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        opening = asyncio.create_task(self._open.wait())
        await asyncio.wait((opening, self._running), return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if self._failure is not None:
            raise self._failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if self._transport is not None:
            self._transport.disconnect()
        self._end(Unreachable(self.url, "the streams were closed", outcome_unknown=False))

    # --- what one subscribes to ---------------------------------------------------------------------

    async def book(self, symbol: str, depth: int = 50) -> AsyncIterator[LocalBook]:
        """The book, in step, after each change; changes that come while one is being read are merged."""
        key = ("book", symbol, depth, "")
        subscription = await self._subscribe(key, symbols=[symbol], depth=depth)
        book = subscription.book = LocalBook()
        try:
            while True:
                await self._next(subscription)
                while subscription.unread:
                    try:
                        book.take(subscription.unread.popleft())
                    except OutOfStep as fault:
                        if fault.why != "no_snapshot":
                            await self._ask_for("resync", subscription)
                self._resume()
                if book.in_step:
                    yield book
        finally:
            self._leave(key)

    async def trades(self, symbol: str) -> AsyncIterator[s.TradesMessage]:
        async for message in self._messages(("trades", symbol, 0, ""), symbols=[symbol]):
            yield message

    async def ticker(self, symbol: str) -> AsyncIterator[s.TickerMessage]:
        async for message in self._messages(("ticker", symbol, 0, ""), symbols=[symbol]):
            yield message

    async def candles(self, symbol: str, interval: str = "1m") -> AsyncIterator[s.CandlesMessage]:
        key = ("candles", symbol, 0, interval)
        async for message in self._messages(key, symbols=[symbol], interval=interval):
            yield message

    async def orders(self) -> AsyncIterator[s.OrdersMessage]:
        """The account's orders: the open ones first, then what changes. After a cut it goes on where it was;
        a message with `gap` tells that what changed meanwhile is not all known."""
        async for message in self._messages(("orders", "", 0, "")):
            yield message

    async def balances(self) -> AsyncIterator[s.BalancesMessage]:
        async for message in self._messages(("balances", "", 0, "")):
            yield message

    async def place(self, order: dict[str, Any]) -> dict[str, Any]:
        """Place an order made by `calls.order_body`: the order, as REST has it. Raises Refused, Unreachable.

        It is not repeated; after Unreachable or OutcomeUnknown the same order again tells what became of it.
        """
        placed: dict[str, Any] = await self._ask("order.place", order=order)
        return placed

    async def cancel(self, order_id: str) -> dict[str, Any]:
        canceled: dict[str, Any] = await self._ask("order.cancel", order_id=order_id)
        return canceled

    async def _messages(self, key: Key, **channel: Any) -> AsyncIterator[Any]:
        subscription = await self._subscribe(key, **channel)
        try:
            while True:
                await self._next(subscription)
                while subscription.unread:
                    message = subscription.unread.popleft()
                    self._resume()
                    yield message
        finally:
            self._leave(key)

    async def _subscribe(self, key: Key, **channel: Any) -> _Subscription:
        if key in self._subscriptions:
            raise ValueError(f"subscribed to {key[0]} of {key[1] or 'the account'} already")
        subscription = _Subscription({"name": key[0], **channel})
        self._subscriptions[key] = subscription
        try:
            await self._ask_for("subscribe", subscription)
        except Refused:
            del self._subscriptions[key]
            raise
        except BaseException:
            # Whoever stopped waiting does not read it either, should it be there after all.
            self._leave(key)
            raise
        return subscription

    def _leave(self, key: Key) -> None:
        """Nobody reads the stream any more: its messages must not hold up the others."""
        subscription = self._subscriptions.pop(key)
        if self._transport is not None:
            asked = {"op": "unsubscribe", "id": next(self._ids), "channels": [subscription.channel]}
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(asked))
        self._resume()

    async def _ask_for(self, op: str, subscription: _Subscription) -> None:
        """Ask for a snapshot. Raises Refused, and Unreachable if the streams have ended."""
        try:
            await self._ask(op, channels=[subscription.channel])
        except Unreachable:
            # Of a line that was lost. The next one begins with snapshots of everything that is subscribed to.
            if self._failure is not None:
                raise

    async def _next(self, subscription: _Subscription) -> None:
        while not subscription.unread:
            if subscription.failure is not None:
                raise subscription.failure
            subscription.news.clear()
            await subscription.news.wait()

    # --- the connection -----------------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect, and again whenever the connection ends, until the venue is away for too long."""
        patience = Patience(self._patience_s)
        while True:
            try:
                listener = await self._connect()
                patience = Patience(self._patience_s)
                await self._watch(listener)
                why = "the connection ended"
            except (OSError, WSError, TimeoutError, Unreachable) as fault:
                why = str(fault) or "no answer"
            except Refused as refusal:
                if refusal.code != NOT_LEADER:
                    self._end(refusal)
                    return
                why = refusal.message
            self._lost(why)
            pause_s = patience.pause_s()
            if pause_s is None:
                self._end(Unreachable(self.url, why, outcome_unknown=False))
                return
            await asyncio.sleep(pause_s)

    async def _connect(self) -> _Listener:
        """Raises Refused if the token or a subscription is, OSError, WSError, TimeoutError."""
        transport, listener = await ws_connect(
            lambda: _Listener(self),
            self.url,
            websocket_handshake_timeout=self._timeout_s,
            extra_headers={"Sec-WebSocket-Protocol": s.JSON_V1},
        )
        assert isinstance(listener, _Listener)
        listener.last_s = asyncio.get_running_loop().time()
        self._transport = transport
        self._paused = False
        self.connections += 1
        try:
            if self._token:
                await self._ask_now("auth", token=self._token)
            channels = [self._from_here(one) for one in self._subscriptions.values()]
            for start in range(0, len(channels), CHANNELS_A_REQUEST):
                await self._ask_now("subscribe", channels=channels[start : start + CHANNELS_A_REQUEST])
        except BaseException:
            transport.disconnect()
            raise
        self._open.set()
        return listener

    def _from_here(self, subscription: _Subscription) -> dict[str, Any]:
        """The subscription's channel; a private one goes on where it was."""
        if subscription.channel["name"] not in s.PRIVATE_CHANNELS or subscription.seq < 0:
            return subscription.channel
        return {**subscription.channel, "from_seq": subscription.seq, "epoch": subscription.epoch}

    async def _watch(self, listener: _Listener) -> None:
        """Until the connection ends; a silent one is ended."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(self._transport.wait_disconnected())
        while not ended.done():
            await asyncio.wait((ended,), timeout=1.0)
            if not self._paused and loop.time() - listener.last_s > SILENCE_S:
                self._transport.disconnect(graceful=False)
        ended.cancelled() or ended.exception()

    def _lost(self, why: str) -> None:
        self._open.clear()
        self._transport = None
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(Unreachable(self.url, why, outcome_unknown=True))
        self._replies.clear()

    def _end(self, failure: Exception) -> None:
        self._failure = failure
        self._lost(str(failure))
        self._open.set()
        for subscription in self._subscriptions.values():
            subscription.fail(failure)

    async def _ask(self, op: str, **members: Any) -> Any:
        """The result of a request, sent as soon as there is a connection. Raises Refused, Unreachable."""
        await self._open.wait()
        return await self._ask_now(op, **members)

    async def _ask_now(self, op: str, **members: Any) -> Any:
        if self._failure is not None:
            raise self._failure
        assert self._transport is not None
        id = next(self._ids)
        reply = self._replies[id] = asyncio.get_running_loop().create_future()
        self._transport.send(WSMsgType.TEXT, msgspec.json.encode({"op": op, "id": id, **members}))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await reply
        except TimeoutError:
            raise Unreachable(self.url, f"no reply to {op}", outcome_unknown=True) from None
        finally:
            self._replies.pop(id, None)

    def _received(self, text: bytes) -> None:
        """One message of the venue."""
        try:
            message = _MESSAGES.decode(text)
        except msgspec.ValidationError:
            self._answered(text)
            return
        if isinstance(message, s.Heartbeat):
            self.position = message
            return
        if isinstance(message, s.ServerShutdown):
            return  # The connection ends next, and the pause before the next one is long enough.
        interval = message.interval if isinstance(message, s.CandlesMessage) else ""
        symbol = getattr(message, "symbol", "")
        depth = message.depth if isinstance(message, s.BookMessage | s.OrderBookMessage) else 0
        subscription = self._subscriptions.get((_CHANNELS[type(message)], symbol, depth, interval))
        if subscription is None:
            return
        more = isinstance(message, s.OrdersMessage | s.OrderBookMessage) and message.more
        if not more:
            subscription.seq, subscription.epoch = message.seq, message.epoch
        subscription.add(message)
        if len(subscription.unread) > UNREAD_MAX and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.underlying_transport.pause_reading()

    def _resume(self) -> None:
        if not self._paused or self._transport is None:
            return
        if max((len(one.unread) for one in self._subscriptions.values()), default=0) < UNREAD_MAX // 2:
            self._paused = False
            self._transport.underlying_transport.resume_reading()

    def _answered(self, text: bytes) -> None:
        said = msgspec.json.decode(text)
        reply = self._replies.get(said.get("id"))
        if reply is None or reply.done():
            return
        if said.get("ok"):
            reply.set_result(said.get("result"))
        else:
            reply.set_exception(refusal_of(0, said.get("error")))


_CHANNELS: dict[type, str] = {
    s.BookMessage: s.BOOK,
    s.OrderBookMessage: s.BOOK_L3,
    s.TradesMessage: s.TRADES,
    s.PriceMessage: s.PRICE,
    s.TickerMessage: s.TICKER,
    s.CandlesMessage: s.CANDLES,
    s.OrdersMessage: s.ORDERS,
    s.BalancesMessage: s.BALANCES,
}
