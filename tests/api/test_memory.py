"""What the engine no longer remembers: answered elsewhere, and never a reason to fall over."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.api import records
from tests.api.venue_process import API, RunningVenue, Trader


@pytest.fixture(autouse=True)
def forgetful(venue: RunningVenue) -> Iterator[None]:
    """A venue that remembers one closed order, whatever was closed before."""
    venue.ok(venue.admin("PUT", "/rules", {"closed_orders_max": 1}))
    close_some(venue, 3)
    yield
    assert venue.call("GET", "/time").status == 200


def close_some(venue: RunningVenue, count: int) -> None:
    trader, market = venue.account("limits"), venue.market()
    for _ in range(count):
        trader.placed(market, "buy", "1", "1", time_in_force="ioc")


def resting(trader: Trader, market: str, count: int, side: str = "buy") -> list[int]:
    return [int(trader.placed(market, side, "1", "1")["order_id"][2:]) for _ in range(count)]


def binary(trader: Trader, body: bytes) -> list[records.Result]:
    reply = trader.post("/orders/batch", body, Content_Type=records.BINARY)
    assert reply.status == 200, reply
    return records.results(reply.body)


def test_a_forgotten_order_is_answered_elsewhere(venue: RunningVenue) -> None:
    trader, market = venue.account("limits"), venue.market()
    order = trader.placed(market, "buy", "1", "1", client_order_id="k1")["order_id"]
    venue.ok(trader.delete(f"/orders/{order}"))
    close_some(venue, 1)

    for path in (f"/orders/{order}", "/orders/by-client/k1", "/orders/by-client/never-used"):
        reply = trader.get(path)
        location = urlsplit(reply.headers["location"])
        assert (reply.status, location.path) == (307, f"{API}{path}")
        assert location.port == venue.ports["query_port"]
    assert trader.delete(f"/orders/{order}").code == 1007
    assert trader.put(f"/orders/{order}", {"price": "2"}).code == 1007
    # Its key is remembered for longer than the order.
    assert trader.place(market, "buy", "1", "1", client_order_id="k1").replayed


@pytest.mark.parametrize(
    "path",
    [
        "/orders?status=closed",
        "/orders?symbol=BTC-USD&status=filled&limit=7",
        "/fills",
        "/fills?cursor=3-1",
        "/market/BTC-USD/trades?limit=1000",
        "/market/BTC-USD/trades?cursor=17",
        "/market/BTC-USD/candles?interval=1m&start=1&end=2",
        "/market/BTC-USD/book?depth=101",
    ],
)
def test_what_query_serves_is_answered_there(venue: RunningVenue, path: str) -> None:
    reply = venue.account("limits").get(path)

    assert (reply.status, reply.body) == (307, b"")
    assert reply.headers["location"] == f"http://127.0.0.1:{venue.ports['query_port']}{API}{path}"


@pytest.mark.parametrize("kept", [0, 1])
def test_orders_that_leave_memory_at_once_are_still_answered_with(venue: RunningVenue, kept: int) -> None:
    trader, other, market = venue.account("limits"), venue.account("limits"), venue.market()
    numbers = resting(trader, market, 9)
    other.placed(market, "sell", "1", "2")
    venue.ok(venue.admin("PUT", "/rules", {"closed_orders_max": kept}))

    one = trader.delete(f"/orders/a-{numbers[0]}")
    some = trader.post("/orders/cancel-batch", {"order_ids": [f"a-{number}" for number in numbers[1:5]]})
    traded = trader.put(f"/orders/a-{numbers[5]}", {"price": "2"})
    found = binary(trader, b"".join(records.cancel(number) for number in numbers[6:]))

    assert (one.status, one.json["status"]) == (200, "canceled")
    assert [one["order"]["status"] for one in some.json["results"]] == ["canceled"] * 4
    assert (traded.status, traded.json["status"], traded.json["avg_price"]) == (200, "filled", "2")
    assert [one.status for one in found] == ["canceled"] * 3


def test_an_order_that_is_forgotten_and_used_again_within_its_batch_is_answered_as_it_was(
    venue: RunningVenue,
) -> None:
    trader, maker, market = venue.account("limits"), venue.account("limits"), venue.market()
    first, second = resting(trader, market, 2)
    resting(maker, market, 5)
    new = records.place({"symbol": market, "side": "buy", "type": "limit", "quantity": "7", "price": "0.5"})
    sweep = records.place({"symbol": market, "side": "sell", "type": "market", "quantity": "5"})

    batch = records.cancel(first) + records.replace(market, second, quantity="0.4") + sweep
    found = binary(trader, batch + records.cancel(second) + sweep + new + new)

    assert [one.code for one in found] == [0, 0, 0, 1007, 0, 0, 0]
    canceled, replaced = found[:2]
    assert (canceled.order_id, canceled.status, canceled.remaining) == (first, "canceled", records.e8("1"))
    # As its own command left it: what came later in the batch is told by what came later.
    assert (replaced.order_id, replaced.status) == (second, "new")
    assert (replaced.filled, replaced.remaining, replaced.fills) == (0, records.e8("0.4"), 0)
