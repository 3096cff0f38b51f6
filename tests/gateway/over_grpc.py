"""Calls as any gRPC client makes them, and what the journal says of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

from tests.api.venue_process import RunningVenue, Trader
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.codec.grpc_v1 import DETAILS_KEY, problem_of
from tradsys.v1 import orders_pb2 as pb
from tradsys.venue.ports import Entry

SERVICE = "/tradsys.v1.OrderService/"
WAIT_S = 30.0
SIDES = {"buy": pb.SIDE_BUY, "sell": pb.SIDE_SELL}


def target_of(venue: RunningVenue) -> str:
    return f"127.0.0.1:{venue.ports['grpc_port']}"


class Failed(Exception):
    """A call that ended with a status: its name, the venue's code (0: none), and the message."""

    def __init__(self, error: Any) -> None:
        super().__init__(f"{error.code().name}: {error.details()}")
        self.status: str = error.code().name
        self.code, self.message, self.details, self.request_id = 0, error.details(), {}, ""
        for key, value in error.trailing_metadata() or ():
            if key == DETAILS_KEY:
                found = problem_of(value)
                assert found is not None
                problem, self.request_id = found
                self.code, self.message, self.details = problem.code, problem.message, problem.details


class Caller:
    """One channel; `call` is one unary call of the service."""

    def __init__(self, venue: RunningVenue, token: str | None, **options: Any) -> None:
        self.channel = grpc.insecure_channel(target_of(venue), [(k, v) for k, v in options.items()])
        self.metadata: list[tuple[str, str]] = [("authorization", f"Bearer {token}")] if token else []

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, method: str, request: Any, reply: type[Any], *more: tuple[str, str]) -> Any:
        send = self.channel.unary_unary(SERVICE + method, type(request).SerializeToString, reply.FromString)
        try:
            return send(request, timeout=WAIT_S, metadata=[*self.metadata, *more])
        except grpc.RpcError as error:
            raise Failed(error) from None

    def place(self, order: pb.PlaceOrderRequest, *more: tuple[str, str]) -> pb.OrderResult:
        placed: pb.OrderResult = self.call("PlaceOrder", order, pb.OrderResult, *more)
        return placed

    def cancel(self, order_id: str) -> pb.OrderResult:
        done: pb.OrderResult = self.call(
            "CancelOrder", pb.CancelOrderRequest(order_id=order_id), pb.OrderResult
        )
        return done

    def replace(self, **change: Any) -> pb.OrderResult:
        done: pb.OrderResult = self.call("ReplaceOrder", pb.ReplaceOrderRequest(**change), pb.OrderResult)
        return done

    def get(self, **by: str) -> pb.Order:
        order: pb.Order = self.call("GetOrder", pb.GetOrderRequest(**by), pb.Order)
        return order

    def list(self, **asked: Any) -> pb.ListOrdersResponse:
        page: pb.ListOrdersResponse = self.call(
            "ListOrders", pb.ListOrdersRequest(**asked), pb.ListOrdersResponse
        )
        return page

    def trade(self, requests: Iterator[pb.TradeRequest]) -> Any:
        """The stream of answers; its errors are gRPC's own."""
        return self.channel.stream_stream(
            SERVICE + "Trade", pb.TradeRequest.SerializeToString, pb.TradeResponse.FromString
        )(requests, timeout=WAIT_S, metadata=self.metadata)

    def events(self, **asked: Any) -> Any:
        return self.channel.unary_stream(
            SERVICE + "StreamEvents",
            pb.StreamEventsRequest.SerializeToString,
            pb.StreamEventsResponse.FromString,
        )(pb.StreamEventsRequest(**asked), timeout=WAIT_S, metadata=self.metadata)


@contextlib.contextmanager
def caller(venue: RunningVenue, trader: Trader) -> Iterator[Caller]:
    with Caller(venue, trader.token) as one:
        yield one


def limit(symbol: str, side: str, quantity: str, price: str, **more: Any) -> pb.PlaceOrderRequest:
    return pb.PlaceOrderRequest(
        symbol=symbol, side=SIDES[side], type=pb.ORDER_TYPE_LIMIT, quantity=quantity, price=price, **more
    )


def failing(call: Any, *arguments: Any, **named: Any) -> Failed:
    """What a call that must fail fails with."""
    try:
        call(*arguments, **named)
    except Failed as failure:
        return failure
    raise AssertionError("the call succeeded")


def ended(stream: Any) -> Failed:
    """How a stream ends that is read to its end."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        return Failed(error)
    raise AssertionError("the stream ended well")


def journalled(venue: RunningVenue, seqs: list[int]) -> list[Entry]:
    """The commands of these numbers with their events, as the journal has them."""
    reader = LogReader(str(venue.data), OsFiles())
    found = {
        frame.first_seq + i: entry
        for frame in reader.frames(max(seqs))
        for i, entry in enumerate(frame.entries)
    }
    reader.close()
    return [found[seq] for seq in seqs]
