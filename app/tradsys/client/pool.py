"""gRPC: a pool of channels, and the calls of OrderService on it.

    with OrderPool("127.0.0.1:50051", token) as venue:
        result = venue.place(PlaceOrderRequest(symbol="BTC-USD", side=SIDE_BUY, …))

Calls go to the channels in turn. Each channel is a connection of its own, is opened at once and kept alive
by a ping each 10 s, also without calls, so that a call never waits for a handshake. A call is repeated while
the gateway says UNAVAILABLE and a repeat is safe: reads, cancels, and orders, which get a client_order_id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import cycle
from types import TracebackType
from typing import Any, Self

import grpc

from tradsys.client.calls import made_client_order_id
from tradsys.client.errors import OutcomeUnknown, Refused, Unreachable, refused
from tradsys.client.retrying import NOT_LOOKED_UP, Patience
from tradsys.client.sync import PATIENCE_S, TIMEOUT_S
from tradsys.codec.grpc_v1 import DETAILS_KEY, SERVICE, STATUS_NUMBERS, problem_of
from tradsys.v1 import orders_pb2 as pb

CHANNELS = 4
KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 10, 3
READY_S = 5.0

CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Channels of one target would share one connection.
    ("grpc.use_local_subchannel_pool", 1),
    # The pool repeats by itself, and only what is safe.
    ("grpc.enable_retries", 0),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)

_UNARY: dict[str, tuple[Any, Any]] = {
    "PlaceOrder": (pb.PlaceOrderRequest, pb.OrderResult),
    "CancelOrder": (pb.CancelOrderRequest, pb.OrderResult),
    "ReplaceOrder": (pb.ReplaceOrderRequest, pb.OrderResult),
    "GetOrder": (pb.GetOrderRequest, pb.Order),
    "ListOrders": (pb.ListOrdersRequest, pb.ListOrdersResponse),
}


class _Stubs:
    """The methods on one channel, of either kind."""

    def __init__(self, channel: Any) -> None:
        at = f"/{SERVICE}/"
        self.unary = {
            name: channel.unary_unary(
                at + name,
                request_serializer=request.SerializeToString,
                response_deserializer=reply.FromString,
            )
            for name, (request, reply) in _UNARY.items()
        }
        self.trade = channel.stream_stream(
            at + "Trade",
            request_serializer=pb.TradeRequest.SerializeToString,
            response_deserializer=pb.TradeResponse.FromString,
        )
        self.events = channel.unary_stream(
            at + "StreamEvents",
            request_serializer=pb.StreamEventsRequest.SerializeToString,
            response_deserializer=pb.StreamEventsResponse.FromString,
        )


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def _with_key(order: pb.PlaceOrderRequest) -> pb.PlaceOrderRequest:
    if order.client_order_id:
        return order
    keyed = pb.PlaceOrderRequest()
    keyed.CopyFrom(order)
    keyed.client_order_id = made_client_order_id()
    return keyed


def failure_of(target: str, error: Any, reading: bool) -> Refused | Unreachable:
    """What a gRPC error means, as REST's exceptions say it."""
    code: grpc.StatusCode = error.code()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            found = problem_of(value)
            if found is not None:
                problem, request_id = found
                return refused(0, problem.code, problem.message, problem.details, request_id)
    if code.name in STATUS_NUMBERS and code is not grpc.StatusCode.UNAVAILABLE:
        return Refused(0, 0, f"{code.name}: {error.details()}")
    return Unreachable(target, f"{code.name.lower()}: {error.details()}", outcome_unknown=not reading)


def _may_repeat(failure: Refused | Unreachable) -> bool:
    return isinstance(failure, Unreachable | OutcomeUnknown) or failure.code == 1020


def _retry_after_s(failure: Refused | Unreachable) -> float:
    return 1.0 if isinstance(failure, Refused) and failure.code == 1020 else 0.0


_READS = ("GetOrder", "ListOrders")


def _pause_after(target: str, failure: Refused | Unreachable, patience: Patience) -> float:
    """How long to wait before a call that failed is repeated. Raises what it ends with if it is not."""
    if isinstance(failure, Unreachable):
        patience.unknown |= failure.outcome_unknown
    else:
        patience.unknown |= isinstance(failure, OutcomeUnknown)
    pause_s = patience.pause_s(_retry_after_s(failure)) if _may_repeat(failure) else None
    if pause_s is not None:
        return pause_s
    if isinstance(failure, Refused) and patience.unknown and failure.code in NOT_LOOKED_UP:
        raise Unreachable(target, f"the last answer was {failure}", outcome_unknown=True)
    raise failure


class OrderPool:
    """For programs without an event loop; its methods may be called from many threads."""

    def __init__(
        self,
        target: str,
        token: str = "",
        *,
        channels: int = CHANNELS,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`credentials` of `grpc.ssl_channel_credentials`; without them nothing is encrypted."""
        self.target = target
        self._metadata = _metadata(token)
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self.channels = [
            grpc.insecure_channel(target, CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, CHANNEL_OPTIONS)
            for _ in range(channels)
        ]
        self._turns = cycle([_Stubs(channel) for channel in self.channels])

    def __enter__(self) -> Self:
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Open every channel. Raises Unreachable."""
        waiting = [grpc.channel_ready_future(channel) for channel in self.channels]
        deadline = time.monotonic() + timeout_s
        for one in waiting:
            try:
                one.result(timeout=max(0.0, deadline - time.monotonic()))
            except grpc.FutureTimeoutError:
                raise Unreachable(self.target, "no connection in time", outcome_unknown=False) from None

    def close(self) -> None:
        for channel in self.channels:
            channel.close()

    def _call(self, name: str, request: Any, repeatable: bool = True) -> Any:
        patience = Patience(self._patience_s if repeatable else 0.0)
        while True:
            try:
                return next(self._turns).unary[name](
                    request, timeout=self._timeout_s, metadata=self._metadata
                )
            except grpc.RpcError as error:
                failure = failure_of(self.target, error, name in _READS)
            time.sleep(_pause_after(self.target, failure, patience))

    def place(self, order: pb.PlaceOrderRequest) -> pb.OrderResult:
        reply: pb.OrderResult = self._call("PlaceOrder", _with_key(order))
        return reply

    def cancel(self, order_id: str) -> pb.OrderResult:
        reply: pb.OrderResult = self._call("CancelOrder", pb.CancelOrderRequest(order_id=order_id))
        return reply

    def cancel_by_client(self, client_order_id: str) -> pb.OrderResult:
        """Cancel the order that was placed with this client_order_id."""
        return self.cancel(self.order(client_order_id=client_order_id).order_id)

    def replace(self, change: pb.ReplaceOrderRequest) -> pb.OrderResult:
        """Repeated by itself only with a version."""
        reply: pb.OrderResult = self._call("ReplaceOrder", change, change.HasField("version"))
        return reply

    def order(self, order_id: str = "", client_order_id: str = "") -> pb.Order:
        asked = (
            pb.GetOrderRequest(client_order_id=client_order_id)
            if client_order_id
            else pb.GetOrderRequest(order_id=order_id)
        )
        reply: pb.Order = self._call("GetOrder", asked)
        return reply

    def orders(self, asked: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
        reply: pb.ListOrdersResponse = self._call("ListOrders", asked)
        return reply

    def trade(self, requests: Iterable[pb.TradeRequest]) -> Iterator[pb.TradeResponse]:
        """One stream of commands; it is not repeated. Raises Refused, Unreachable."""
        try:
            yield from next(self._turns).trade(iter(requests), metadata=self._metadata)
        except grpc.RpcError as error:
            raise failure_of(self.target, error, reading=False) from None

    def events(
        self,
        from_seq: int | None = None,
        epoch: int = 0,
        stop: Callable[[], bool] = lambda: False,
        *,
        shard: str = "",
    ) -> Iterator[pb.StreamEventsResponse]:
        """The account's events; resumed where they ended when the stream is cut off, until `stop` says so.

        `shard` names one where the venue has several. A position with `gap` tells that something may be
        missing: look at the orders again.
        """
        patience, place = Patience(self._patience_s), _Place(from_seq, epoch, shard)
        while not stop():
            try:
                for message in next(self._turns).events(place.request(), metadata=self._metadata):
                    patience = Patience(self._patience_s)
                    if place.is_new(message):
                        yield message
                    if stop():
                        return
                failure: Refused | Unreachable = Unreachable(self.target, "the stream ended", False)
            except grpc.RpcError as error:
                failure = failure_of(self.target, error, reading=True)
            pause_s = patience.pause_s() if _may_resume(failure) else None
            if pause_s is None:
                raise failure
            time.sleep(pause_s)


class AsyncOrderPool:
    """For programs with an asyncio loop; made inside of it."""

    def __init__(
        self,
        target: str,
        token: str = "",
        *,
        channels: int = CHANNELS,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`credentials` of `grpc.ssl_channel_credentials`; without them nothing is encrypted."""
        self.target = target
        self._metadata = _metadata(token)
        self._timeout_s, self._patience_s = timeout_s, patience_s
        self.channels = [
            grpc.aio.insecure_channel(target, CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, CHANNEL_OPTIONS)
            for _ in range(channels)
        ]
        self._turns = cycle([_Stubs(channel) for channel in self.channels])

    async def __aenter__(self) -> Self:
        await self.wait_ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Open every channel. Raises Unreachable."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(channel.channel_ready() for channel in self.channels))
        except TimeoutError:
            raise Unreachable(self.target, "no connection in time", outcome_unknown=False) from None

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()

    async def _call(self, name: str, request: Any, repeatable: bool = True) -> Any:
        patience = Patience(self._patience_s if repeatable else 0.0)
        while True:
            try:
                return await next(self._turns).unary[name](
                    request, timeout=self._timeout_s, metadata=self._metadata
                )
            except grpc.aio.AioRpcError as error:
                failure = failure_of(self.target, error, name in _READS)
            await asyncio.sleep(_pause_after(self.target, failure, patience))

    async def place(self, order: pb.PlaceOrderRequest) -> pb.OrderResult:
        reply: pb.OrderResult = await self._call("PlaceOrder", _with_key(order))
        return reply

    async def cancel(self, order_id: str) -> pb.OrderResult:
        reply: pb.OrderResult = await self._call("CancelOrder", pb.CancelOrderRequest(order_id=order_id))
        return reply

    async def cancel_by_client(self, client_order_id: str) -> pb.OrderResult:
        """Cancel the order that was placed with this client_order_id."""
        return await self.cancel((await self.order(client_order_id=client_order_id)).order_id)

    async def replace(self, change: pb.ReplaceOrderRequest) -> pb.OrderResult:
        """Repeated by itself only with a version."""
        reply: pb.OrderResult = await self._call("ReplaceOrder", change, change.HasField("version"))
        return reply

    async def order(self, order_id: str = "", client_order_id: str = "") -> pb.Order:
        asked = (
            pb.GetOrderRequest(client_order_id=client_order_id)
            if client_order_id
            else pb.GetOrderRequest(order_id=order_id)
        )
        reply: pb.Order = await self._call("GetOrder", asked)
        return reply

    async def orders(self, asked: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
        reply: pb.ListOrdersResponse = await self._call("ListOrders", asked)
        return reply

    async def trade(self, requests: AsyncIterable[pb.TradeRequest]) -> AsyncIterator[pb.TradeResponse]:
        """One stream of commands; it is not repeated. Raises Refused, Unreachable."""
        try:
            async for response in next(self._turns).trade(requests, metadata=self._metadata):
                yield response
        except grpc.aio.AioRpcError as error:
            raise failure_of(self.target, error, reading=False) from None

    async def events(
        self, from_seq: int | None = None, epoch: int = 0, *, shard: str = ""
    ) -> AsyncIterator[pb.StreamEventsResponse]:
        """The account's events; resumed where they ended when the stream is cut off.

        `shard` names one where the venue has several. A position with `gap` tells that something may be
        missing: look at the orders again.
        """
        patience, place = Patience(self._patience_s), _Place(from_seq, epoch, shard)
        while True:
            try:
                async for message in next(self._turns).events(place.request(), metadata=self._metadata):
                    patience = Patience(self._patience_s)
                    if place.is_new(message):
                        yield message
                failure: Refused | Unreachable = Unreachable(self.target, "the stream ended", False)
            except grpc.aio.AioRpcError as error:
                failure = failure_of(self.target, error, reading=True)
            pause_s = patience.pause_s() if _may_resume(failure) else None
            if pause_s is None:
                raise failure
            await asyncio.sleep(pause_s)


class _Place:
    """Where a stream of events stands, so that the next one goes on there, with nothing twice."""

    def __init__(self, from_seq: int | None, epoch: int, shard: str) -> None:
        self._from_seq, self._epoch, self._shard = from_seq, epoch, shard
        self._seq = self._seen = self._skip = 0
        """Events of command `_seq` that were seen; others of it may follow."""

    def request(self) -> pb.StreamEventsRequest:
        self._skip = self._seen
        return pb.StreamEventsRequest(from_seq=self._from_seq, epoch=self._epoch, shard=self._shard)

    def is_new(self, message: pb.StreamEventsResponse) -> bool:
        if message.WhichOneof("message") == "position":
            position = message.position
            self._from_seq, self._epoch = position.seq, position.epoch
            if position.seq >= self._seq:
                self._seq = self._seen = self._skip = 0
            return True
        seq = message.event.seq
        if seq != self._seq:
            self._seq, self._seen, self._skip = seq, 0, 0
            self._from_seq = seq - 1
        elif self._skip:
            self._skip -= 1
            return False
        self._seen += 1
        return True


def _may_resume(failure: Refused | Unreachable) -> bool:
    return _may_repeat(failure) or (isinstance(failure, Refused) and failure.code == 3029)
