"""Many commands in one journal write: orders in JSON and binary, cancels, and mass cancels in steps."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api import records
from tests.api.venue_process import Reply, RunningVenue, Trader

S = 1_000_000_000


@pytest.fixture
def market(venue: RunningVenue) -> str:
    return venue.market(band_bps="2000")


def order(symbol: str, side: str, quantity: str, price: str = "", **more: Any) -> dict[str, Any]:
    kind = {"type": "limit", "price": price} if price else {"type": "market"}
    return {"symbol": symbol, "side": side, "quantity": quantity} | kind | more


def flow(market: str) -> list[dict[str, Any]]:
    """Orders of every kind, good ones and bad ones, whose outcome depends on those before."""
    return [
        order(market, "sell", "2", "101"),
        order(market, "sell", "5", "100", display_quantity="2"),
        order(market, "buy", "1", "99", client_order_id="k1"),
        order(market, "buy", "3", "100", client_order_id="k2"),
        order(market, "buy", "3", "100", client_order_id="k2"),
        order(market, "buy", "4", "100", client_order_id="k2"),
        order(market, "buy", "1", "150"),
        order(market, "buy", "1", "100", post_only=True),
        order(market, "buy", "9", "101", time_in_force="fok"),
        order(market, "buy", "3", "101", time_in_force="ioc"),
        order(market, "sell", "1", "99.005"),
        order(market, "sell", "0.0005", "99"),
        order("NO-SUCH", "sell", "1", "99"),
        order(market, "sell", "1", type="stop", stop_price="98"),
        order(market, "sell", "1", "97", type="stop_limit", stop_price="98"),
        order(market, "buy", "1", "98", time_in_force="day"),
        order(market, "buy", "1", "98", time_in_force="gtd", expire_at=str(4 * 10**18)),
        order(market, "buy", "1", "98", valid_until="1"),
        order(market, "sell", "2"),
        # Three makers at two prices: an average that has to be rounded.
        order(market, "sell", "2", "100.01"),
        order(market, "buy", "3", "101.01"),
        order(market, "buy", "1", "100.01", stp="cancel_maker"),
        order(market, "buy", "200000", "100"),
    ]


def placed(trader: Trader, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    reply = trader.post("/orders/batch", {"orders": orders})
    assert reply.status == 200, reply
    return reply.json["results"]


def placed_binary(trader: Trader, body: bytes) -> Reply:
    return trader.post("/orders/batch", body, Content_Type=records.BINARY)


def test_of_a_batch_that_has_done_very_much_only_cancels_are_taken_further(
    venue: RunningVenue, market: str
) -> None:
    maker, taker = venue.account("limits"), venue.account("limits")
    icebergs = [order(market, "sell", "1", "100", display_quantity="0.001") for _ in range(60)]
    takers = [order(market, "buy", "1", "100", client_order_id=f"t{i}") for i in range(60)]
    placed_binary(maker, b"".join(map(records.place, icebergs)))

    resting = taker.placed(market, "buy", "1", "99")["order_id"]
    cancel = records.cancel(int(resting.rpartition("-")[2]))
    batch = b"".join([*map(records.place, takers), cancel])
    *first, canceled = records.results(placed_binary(taker, batch).body)
    *again, _ = records.results(placed_binary(taker, batch).body)
    heavy = [order(market, "sell", "1", "100", display_quantity="0.001") for _ in range(60)]
    placed_binary(maker, b"".join(map(records.place, heavy)))
    much = [order(market, "buy", "1", "100") for _ in range(60)]
    *_, repeated = records.results(
        placed_binary(taker, b"".join(map(records.place, [*much, takers[0]]))).body
    )

    assert (canceled.code, canceled.status) == (0, "canceled")
    done = [one for one in first if not one.code]
    assert 50 <= len(done) < 60
    assert [one.code for one in first[len(done) :]] == [1020] * (60 - len(done))
    assert all(one.status == "filled" for one in done)
    assert [one.replayed for one in again] == [True] * len(done) + [False] * (60 - len(done))
    assert [one.order_id for one in again[: len(done)]] == [one.order_id for one in done]
    assert all((one.code, one.status) == (0, "filled") for one in again)
    # Nothing is done for a retry, so it is never too much.
    assert (repeated.replayed, repeated.order_id) == (True, first[0].order_id)


def test_a_batch_gives_a_result_for_each_order_with_consecutive_numbers(
    venue: RunningVenue, market: str
) -> None:
    trader = venue.account("limits")

    first, second, third = placed(
        trader,
        [
            order(market, "sell", "1", "100"),
            order(market, "sell", "1", "1.001"),
            order(market, "buy", "1", "100"),
        ],
    )

    assert (first["ok"], first["order"]["status"]) == (True, "new")
    assert list(second) == ["ok", "error"] and second["ok"] is False
    assert list(second["error"]) == ["code", "message", "details"] and second["error"]["code"] == 1004
    assert (third["order"]["status"], third["order"]["seq"]) == ("filled", first["order"]["seq"] + 1)


def test_a_batch_is_what_its_orders_would_have_been_one_by_one(venue: RunningVenue, market: str) -> None:
    alone, together = venue.account("limits"), venue.account("limits")
    other = venue.market(band_bps="2000")
    singly = [alone.post("/orders", one) for one in flow(market)]

    batch = placed(together, flow(other))

    assert len(batch) == len(singly)
    for one, reply in zip(batch, singly, strict=True):
        if reply.status == 200:
            assert comparable(one["order"]) == comparable(reply.json)
        else:
            expected = {name: reply.json[name] for name in ("code", "message", "details")}
            assert spoken_alike(one["error"], other) == spoken_alike(expected, market)


def test_a_binary_batch_has_the_results_of_the_json_batch(venue: RunningVenue, market: str) -> None:
    in_json, in_binary = venue.account("limits"), venue.account("limits")
    other = venue.market(band_bps="2000")

    batch = placed(in_json, flow(market))
    reply = placed_binary(in_binary, b"".join(records.place(one) for one in flow(other)))

    assert (reply.status, reply.headers["content-type"]) == (200, records.BINARY)
    found = records.results(reply.body)
    assert len(found) == len(batch)
    for record, one in zip(found, batch, strict=True):
        if not one["ok"]:
            assert (record.code, record.status, record.fills) == (one["error"]["code"], "rejected", 0)
            continue
        said = one["order"]
        assert (record.code, record.status, record.fills) == (0, said["status"], len(said["fills"]))
        assert (record.filled, record.remaining) == (
            records.e8(said["filled_quantity"]), records.e8(said["remaining_quantity"]),
        )  # fmt: skip
        assert record.avg_price == records.e8(said["avg_price"] or "0")
        now = in_binary.order(f"a-{record.order_id}")
        assert int(now["created_ts"]) == record.ts
    assert [record.replayed for record in found].count(True) == 1
    numbers = sorted({record.seq for record in found if record.seq})
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert reply.seq == numbers[-1]


def comparable(order: dict[str, Any]) -> dict[str, Any]:
    """An order without what differs between two equal ones: ids, names, times."""
    kept = {
        name: value
        for name, value in order.items()
        if name not in ("order_id", "account", "symbol", "created_ts", "updated_ts", "seq", "fills")
    }
    return kept | {
        "fills": [
            (fill["price"], fill["quantity"], fill["fee"], fill["liquidity"]) for fill in order["fills"]
        ]
    }


def spoken_alike(error: dict[str, Any], symbol: str) -> dict[str, Any]:
    details = {name: value for name, value in error["details"].items() if name != "now"}
    return error | {"message": error["message"].replace(symbol, "…"), "details": details}


def test_binary_commands_place_replace_and_cancel_in_one_batch(venue: RunningVenue, market: str) -> None:
    trader = venue.account("limits")
    number = int(trader.placed(market, "buy", "5", "100")["order_id"].removeprefix("a-"))

    reply = placed_binary(
        trader,
        records.replace(market, number, quantity="4", version=0)
        + records.replace(market, number, price="99", version=0)
        + records.replace(market, number, price="99")
        + records.cancel(number)
        + records.cancel(number)
        + records.cancel(2**64 - 1),
    )

    found = records.results(reply.body)
    assert [record.code for record in found] == [0, 1008, 0, 0, 0, 1007]
    assert {record.order_id for record in found[:5]} == {number}
    after = trader.order(f"a-{number}")
    assert (after["status"], after["price"], after["quantity"], after["version"]) == (
        "canceled",
        "99",
        "4",
        2,
    )


@pytest.mark.parametrize(
    ("record", "code"),
    [
        (records.COMMAND.pack(9, 1, 1, 1, 0, 0, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 1, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 2, 0, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 0, 1, 1, 0, 0, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 9, 1, 0, 0, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 9, 0, 0, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 9, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC-USD", 0, -(10**8), 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC-USD", 0, 10**8, -1, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC-USD", 0, 0, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC-USD", 0, 1, 10**8, 0, 0, 0, 0, b"", 0), 1004),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, -1, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC-USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"a b", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC\0USD", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"BTC-\xe9", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1002),
        (records.COMMAND.pack(1, 1, 1, 1, 0, 0, 0, b"", 0, 10**8, 10**8, 0, 0, 0, 0, b"", 0), 1003),
    ],
)
def test_a_bad_record_spoils_only_its_own_result(venue: RunningVenue, record: bytes, code: int) -> None:
    trader = venue.account("limits")
    good = records.place(order("BTC-USD", "buy", "1", "1"))

    reply = placed_binary(trader, good + record + good)

    found = records.results(reply.body)
    assert [(one.code, one.status) for one in found] == [(0, "new"), (code, "rejected"), (0, "new")]
    assert found[1].seq == 0 and found[2].seq == found[0].seq + 1


@pytest.mark.parametrize("body", [b"", b"\0" * 119, b"\0" * 121])
def test_half_a_record_is_no_batch(venue: RunningVenue, body: bytes) -> None:
    reply = placed_binary(venue.account("limits"), body)

    assert (reply.status, reply.code, reply.headers["content-type"]) == (400, 1002, "application/json")


def test_a_batch_has_one_to_a_thousand_orders(venue: RunningVenue, market: str) -> None:
    trader = venue.account("limits")
    one = order(market, "buy", "1", "1")

    none = trader.post("/orders/batch", {"orders": []})
    most = trader.post("/orders/batch", {"orders": [one] * 1000})
    more = trader.post("/orders/batch", {"orders": [one] * 1001})
    more_records = placed_binary(trader, records.place(one) * 1001)
    more_cancels = trader.post("/orders/cancel-batch", {"order_ids": ["a-1"] * 1001})

    assert [reply.status for reply in (none, most, more, more_records, more_cancels)] == [
        400, 200, 400, 400, 400,
    ]  # fmt: skip
    numbers = [one["order"]["seq"] for one in most.json["results"]]
    assert numbers == list(range(numbers[0], numbers[0] + 1000)) and most.seq == numbers[-1]
    assert len(venue.ok(trader.get("/orders?limit=1000"))["items"]) == 1000

    canceled = trader.post("/orders/cancel-batch", {"order_ids": [f"a-{number}" for number in numbers]})
    assert {one["order"]["status"] for one in canceled.json["results"]} == {"canceled"}
    assert venue.ok(trader.get("/orders"))["items"] == []


def test_a_cancel_batch_gives_each_cancels_own_answer(venue: RunningVenue, market: str) -> None:
    trader, other = venue.account("limits"), venue.account("limits")
    mine, filled = (trader.placed(market, "sell", "1", price)["order_id"] for price in ("101", "100"))
    other.placed(market, "buy", "1", "100")
    anothers = other.placed(market, "buy", "1", "99")["order_id"]

    ids = [mine, mine, filled, anothers, "a-999999999", "b-1", "what?"]
    results = venue.ok(trader.post("/orders/cancel-batch", {"order_ids": ids}))["results"]

    assert [one["ok"] for one in results] == [True, True, False, False, False, False, False]
    assert results[0] == results[1] and results[0]["order"]["status"] == "canceled"
    assert [one["error"]["code"] for one in results[2:]] == [1009, 1007, 1007, 1007, 1007]
    assert other.order(anothers)["status"] == "new"


def test_the_body_of_a_batch_may_be_a_mebibyte(venue: RunningVenue, market: str) -> None:
    trader = venue.account("limits")
    body = (
        b'{"orders":[{"symbol":"%s","side":"buy","type":"limit","quantity":"1","price":"1"}' % market.encode()
    )

    most = trader.post("/orders/batch", body + b" " * (2**20 - len(body) - 2) + b"]}")
    more = trader.post("/orders/batch", body + b" " * (2**20 - len(body) - 1) + b"]}")

    assert (most.status, more.status, more.code) == (200, 413, 1002)


def test_a_long_mass_cancel_goes_on_by_itself_in_steps(venue: RunningVenue, market: str) -> None:
    rules = venue.ok(venue.admin("GET", "/rules"))
    trader = venue.account("limits")
    try:
        venue.ok(venue.admin("PUT", "/rules", {"step_orders_max": 10}))
        placed(trader, [order(market, "buy", "1", "1")] * 95)

        answer = venue.ok(trader.delete("/orders"))

        assert answer == {"canceled": 10, "pending": True}
        deadline = time.monotonic() + 20
        while venue.ok(trader.get("/orders"))["items"]:
            assert time.monotonic() < deadline
        assert venue.ok(trader.get(f"/market/{market}/book"))["bids"] == []
    finally:
        venue.ok(venue.admin("PUT", "/rules", rules))
