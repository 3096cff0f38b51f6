"""One request id finds a call in every process that it passed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue, until
from tests.gateway.over_grpc import SERVICE, Caller, Failed
from tradsys.v1 import orders_pb2 as pb


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    processes = ("engine", "history", "query", "feed", "gateway")
    with feed_venue(tmp_path_factory.mktemp("ids"), processes, access_log="all") as running:
        yield running


def lines(venue: FeedVenue, process: str, name: str) -> list[dict[str, Any]]:
    """The log lines of a process that name a request; at least one comes."""

    def named() -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in venue.log(process).splitlines() if line.startswith(b'{"ts')]
        return [row for row in rows if row.get("request_id") == name]

    found: list[dict[str, Any]] = until(named, f"{process} says nothing of {name}")
    return found


def facts(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("ts", "us", "engine_us")}


def an_order(symbol: str) -> pb.PlaceOrderRequest:
    return pb.PlaceOrderRequest(
        symbol=symbol, side=pb.SIDE_BUY, type=pb.ORDER_TYPE_LIMIT, quantity="1", price="9",
        time_in_force=pb.TIME_IN_FORCE_GTC,
    )  # fmt: skip


def test_a_grpc_call_has_one_id_in_its_answer_and_in_the_logs_of_gateway_and_engine(venue):
    trader, market = venue.account("limits"), venue.market()

    with Caller(venue, trader.token) as caller:
        send = caller.channel.unary_unary(
            SERVICE + "PlaceOrder", pb.PlaceOrderRequest.SerializeToString, pb.OrderResult.FromString
        )
        metadata = [*caller.metadata, ("x-request-id", "order-of-alice-1")]
        _, call = send.with_call(an_order(market), timeout=30, metadata=metadata)

    assert ("x-request-id", "order-of-alice-1") in [tuple(pair) for pair in call.trailing_metadata()]
    (mine,) = lines(venue, "gateway", "order-of-alice-1")
    assert facts(mine) == {
        "level": "info", "process": "gateway", "event": "request", "request_id": "order-of-alice-1",
        "method": "POST", "path": "/tradsys.v1.OrderService/PlaceOrder", "grpc_status": "OK",
        "batch_id": "order-of-alice-1",
    }  # fmt: skip
    (engines,) = lines(venue, "engine", "order-of-alice-1")
    assert facts(engines) == {
        "level": "info", "process": "engine", "event": "request", "request_id": "order-of-alice-1",
        "method": "POST", "path": "/internal/commands", "status": 200,
    }  # fmt: skip


def test_a_refused_grpc_call_says_its_id_and_one_that_is_no_name_is_replaced(venue):
    trader = venue.account("limits")

    with Caller(venue, trader.token) as caller:
        for sent in ("refused-1", "this is no name"):
            with pytest.raises(Failed) as failed:
                caller.call("GetOrder", pb.GetOrderRequest(order_id="a-1"), pb.Order, ("x-request-id", sent))
            named = failed.value.request_id
            assert (named == sent) == (sent == "refused-1")
            assert lines(venue, "gateway", named)[0]["grpc_status"] == "NOT_FOUND"


def test_a_read_over_grpc_has_its_id_in_the_logs_of_engine_and_query(venue):
    trader, market = venue.account("limits"), venue.market()
    placed = trader.placed(market, "buy", "1", "9")

    with Caller(venue, trader.token) as caller:
        caller.call(
            "GetOrder", pb.GetOrderRequest(order_id=placed["order_id"]), pb.Order, ("x-request-id", "read-1")
        )
        asked = pb.ListOrdersRequest(status=pb.ORDER_STATUS_CANCELED)
        caller.call("ListOrders", asked, pb.ListOrdersResponse, ("x-request-id", "read-2"))

    assert [row["path"] for row in lines(venue, "engine", "read-1")] == [
        f"/api/v1/orders/{placed['order_id']}"
    ]
    assert [row["status"] for row in lines(venue, "engine", "read-2")] == [307]
    assert [row["status"] for row in lines(venue, "query", "read-2")] == [200]


def test_an_order_over_a_stream_is_known_by_the_id_of_its_message(venue):
    trader, market = venue.account("limits"), venue.market()
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "9"}

    with venue.connection() as stream:
        for message in (
            {"op": "auth", "id": "in", "token": trader.token},
            {"op": "order.place", "id": "over-a-stream-1", "order": order},
        ):
            stream.send(json.dumps(message))
            while json.loads(stream.recv(timeout=30)).get("id") != message["id"]:
                pass

    (feeds,) = lines(venue, "feed", "over-a-stream-1")
    assert facts(feeds) == {
        "level": "info", "process": "feed", "event": "request", "request_id": "over-a-stream-1",
        "op": "order.place", "code": 0, "batch_id": "over-a-stream-1",
    }  # fmt: skip
    assert lines(venue, "engine", "over-a-stream-1")[0]["path"] == "/internal/commands"


def test_a_message_of_trade_that_went_with_others_names_its_batch(venue):
    trader, market = venue.account("limits"), venue.market()

    with Caller(venue, trader.token) as caller:
        send = caller.channel.stream_stream(
            SERVICE + "Trade", pb.TradeRequest.SerializeToString, pb.TradeResponse.FromString
        )
        orders = [pb.TradeRequest(commands=[pb.Command(place=an_order(market))] * 3)] * 20
        answers = list(
            send(iter(orders), timeout=30, metadata=[*caller.metadata, ("x-request-id", "many-orders")])
        )

    assert sum(len(answer.outcomes) for answer in answers) == 60
    (mine,) = lines(venue, "gateway", "many-orders")
    assert lines(venue, "engine", mine["batch_id"])[0]["path"] == "/internal/commands"


def test_calls_without_an_id_get_different_ones(venue):
    trader = venue.account("limits")
    named = []
    with Caller(venue, trader.token) as caller:
        for _ in range(2):
            with pytest.raises(Failed) as failed:
                caller.call("GetOrder", pb.GetOrderRequest(order_id="a-1"), pb.Order)
            named.append(failed.value.request_id)

    assert len(set(named)) == 2 and all(name.startswith("g") for name in named)
