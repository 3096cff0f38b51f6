"""The life of an order over REST, for each type and time in force."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.venue_process import RunningVenue, Trader

S = 1_000_000_000


@pytest.fixture
def market(venue: RunningVenue) -> str:
    return venue.market()


@pytest.fixture
def alice(venue: RunningVenue) -> Trader:
    return venue.account("limits")


@pytest.fixture
def bob(venue: RunningVenue) -> Trader:
    return venue.account("limits")


def in_a_while(trader: Trader, order_id: str, status: str) -> Any:
    """The order once it has the status; it gets it by itself."""
    deadline = time.monotonic() + 20
    while (order := trader.order(order_id))["status"] != status:
        assert time.monotonic() < deadline, order
        time.sleep(0.01)
    return order


def fills(order: Any) -> list[tuple[str, str, str]]:
    return [(fill["price"], fill["quantity"], fill["liquidity"]) for fill in order["fills"]]


def test_a_limit_order_rests_and_its_reply_is_the_whole_order(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    before = time.time_ns()

    order = alice.placed(market, "buy", "1.500", "100.10", client_order_id="first_1-A")

    seq = int(order["order_id"].removeprefix("a-"))
    assert abs(int(order["created_ts"]) - before) < 3600 * S
    assert order == {
        "order_id": f"a-{seq}",
        "client_order_id": "first_1-A",
        "account": alice.name,
        "symbol": market,
        "side": "buy",
        "type": "limit",
        "time_in_force": "gtc",
        "price": "100.1",
        "stop_price": None,
        "quantity": "1.5",
        "filled_quantity": "0",
        "remaining_quantity": "1.5",
        "avg_price": None,
        "status": "new",
        "created_ts": order["created_ts"],
        "updated_ts": order["created_ts"],
        "seq": seq,
        "version": 0,
        "fills": [],
    }
    assert alice.order(order["order_id"]) == order
    assert venue.ok(alice.get("/orders/by-client/first_1-A")) == order
    assert venue.ok(alice.get(f"/orders?symbol={market}&status=open")) == {
        "items": [order],
        "next_cursor": None,
    }


def test_a_partial_fill_keeps_the_remainder_on_the_book(market: str, alice: Trader, bob: Trader) -> None:
    maker = alice.placed(market, "sell", "10", "50")

    taker = bob.placed(market, "buy", "4", "51")

    assert (taker["status"], taker["avg_price"], fills(taker)) == ("filled", "50", [("50", "4", "taker")])
    after = alice.order(maker["order_id"])
    assert (after["status"], after["filled_quantity"], after["remaining_quantity"]) == (
        "partially_filled", "4", "6",
    )  # fmt: skip
    assert fills(after) == [("50", "4", "maker")]
    assert after["fills"][0]["trade_id"] == taker["fills"][0]["trade_id"]
    assert after["seq"] == taker["seq"] and after["updated_ts"] == taker["created_ts"]


def test_a_taker_sweeps_levels_best_first_and_rests_the_remainder(
    market: str, alice: Trader, bob: Trader
) -> None:
    alice.placed(market, "sell", "1", "101")
    alice.placed(market, "sell", "1", "100")
    alice.placed(market, "sell", "1", "100")

    taker = bob.placed(market, "buy", "4", "101")

    assert fills(taker) == [("100", "1", "taker"), ("100", "1", "taker"), ("101", "1", "taker")]
    # (100 + 100 + 101) / 3, half to even at eight digits.
    assert (taker["status"], taker["avg_price"]) == ("partially_filled", "100.33333333")
    assert taker["remaining_quantity"] == "1"


@pytest.mark.parametrize(("tif", "extra"), [("gtc", {}), ("day", {}), ("gtd", {"expire_at": 10**18 * 4})])
def test_what_may_rest_rests(market: str, alice: Trader, tif: str, extra: dict[str, Any]) -> None:
    more = {name: str(value) for name, value in extra.items()}

    order = alice.placed(market, "buy", "1", "10", time_in_force=tif, **more)

    assert (order["status"], order["time_in_force"]) == ("new", tif)
    assert alice.venue.ok(alice.delete(f"/orders/{order['order_id']}"))["status"] == "canceled"


def test_a_gtd_order_expires_by_itself_when_its_time_is_up(market: str, alice: Trader) -> None:
    at = str(int(alice.venue.ok(alice.get("/time"))["time"]) + S // 4)
    order = alice.placed(market, "buy", "1", "10", time_in_force="gtd", expire_at=at)
    assert order["status"] == "new"

    expired = in_a_while(alice, order["order_id"], "expired")

    assert (expired["reason"], expired["remaining_quantity"]) == ("time_up", "1")
    assert int(expired["updated_ts"]) >= int(at)


@pytest.mark.parametrize("type_", ["limit", "market"])
def test_what_an_ioc_leaves_unfilled_expires(market: str, alice: Trader, bob: Trader, type_: str) -> None:
    alice.placed(market, "sell", "1", "100")

    price = "100" if type_ == "limit" else ""
    order = bob.placed(market, "buy", "3", price, time_in_force="ioc")

    assert (order["status"], order["reason"], fills(order)) == (
        "expired", "unfilled", [("100", "1", "taker")],
    )  # fmt: skip
    assert (order["filled_quantity"], order["remaining_quantity"]) == ("1", "2")
    assert bob.order(order["order_id"]) == order


@pytest.mark.parametrize("type_", ["limit", "market"])
def test_a_fok_trades_whole_or_not_at_all(market: str, alice: Trader, bob: Trader, type_: str) -> None:
    maker = alice.placed(market, "sell", "2", "100")
    price = "100" if type_ == "limit" else ""

    too_much = bob.placed(market, "buy", "3", price, time_in_force="fok")
    enough = bob.placed(market, "buy", "2", price, time_in_force="fok")

    assert (too_much["status"], too_much["reason"], too_much["fills"]) == ("expired", "unfilled", [])
    assert (enough["status"], fills(enough)) == ("filled", [("100", "2", "taker")])
    assert alice.order(maker["order_id"])["status"] == "filled"


def test_a_market_order_is_an_ioc_and_never_rests(market: str, alice: Trader) -> None:
    order = alice.placed(market, "buy", "1")

    assert (order["type"], order["time_in_force"], order["status"]) == ("market", "ioc", "expired")
    assert order["price"] is None
    assert alice.venue.ok(alice.get("/orders"))["items"] == []


def test_a_market_order_stops_at_the_protection_price(market: str, alice: Trader, bob: Trader) -> None:
    # Without a band, ten percent from the reference, which the first trade makes.
    alice.placed(market, "sell", "1", "100")
    bob.placed(market, "buy", "1", "100")
    alice.placed(market, "sell", "1", "110")
    alice.placed(market, "sell", "1", "110.01")

    order = bob.placed(market, "buy", "2")

    assert (order["status"], fills(order)) == ("expired", [("110", "1", "taker")])


@pytest.mark.parametrize("type_", ["stop", "stop_limit"])
def test_a_stop_waits_and_fires_at_its_stop_price(
    venue: RunningVenue, market: str, alice: Trader, bob: Trader, type_: str
) -> None:
    price = {"price": "105"} if type_ == "stop_limit" else {}
    waiting = bob.placed(market, "buy", "1", type=type_, stop_price="103", **price)
    assert (waiting["status"], waiting["stop_price"]) == ("new", "103")
    assert venue.ok(bob.get(f"/market/{market}/book"))["bids"] == []
    for at in ("102", "103", "104"):
        alice.placed(market, "sell", "1", at)

    below = bob.placed(market, "buy", "1", "102")
    assert bob.order(waiting["order_id"])["status"] == "new"
    due = bob.placed(market, "buy", "1", "103")

    fired = bob.order(waiting["order_id"])
    assert [below["status"], due["status"]] == ["filled", "filled"]
    assert (fired["status"], fills(fired)) == ("filled", [("104", "1", "taker")])
    trades = venue.ok(bob.get(f"/market/{market}/trades"))["items"]
    assert [trade["price"] for trade in trades] == ["104", "103", "102"]


def test_a_stop_that_is_canceled_never_fires(market: str, alice: Trader, bob: Trader) -> None:
    waiting = bob.placed(market, "sell", "1", type="stop", stop_price="90")
    assert bob.venue.ok(bob.delete(f"/orders/{waiting['order_id']}"))["status"] == "canceled"
    alice.placed(market, "buy", "2", "90")

    alice.placed(market, "sell", "1", "90")

    assert bob.order(waiting["order_id"])["status"] == "canceled"
    assert alice.venue.ok(alice.get(f"/market/{market}/book"))["bids"] == [["90", "1"]]


def test_an_iceberg_shows_its_slice_and_trades_whole(
    venue: RunningVenue, market: str, alice: Trader, bob: Trader
) -> None:
    iceberg = alice.placed(market, "sell", "10", "100", display_quantity="3")
    behind = alice.placed(market, "sell", "1", "100")
    assert venue.ok(bob.get(f"/market/{market}/book"))["asks"] == [["100", "4"]]

    taker = bob.placed(market, "buy", "5", "100")

    # The slice, then the order behind it, then the next slice: a new slice stands last.
    assert [quantity for _, quantity, _ in fills(taker)] == ["3", "1", "1"]
    assert alice.order(behind["order_id"])["status"] == "filled"
    assert alice.order(iceberg["order_id"])["remaining_quantity"] == "6"
    assert venue.ok(bob.get(f"/market/{market}/book"))["asks"] == [["100", "2"]]


def test_a_post_only_order_rests_where_it_does_not_cross(market: str, alice: Trader, bob: Trader) -> None:
    alice.placed(market, "sell", "1", "100")

    refused = bob.place(market, "buy", "1", "100", post_only=True)
    resting = bob.placed(market, "buy", "1", "99.99", post_only=True)

    assert (refused.status, refused.code) == (422, 1011)
    assert refused.json["details"] == {"best_opposite": "100", "price": "100"}
    assert resting["status"] == "new"


@pytest.mark.parametrize(
    ("stp", "taker", "maker"),
    [
        ("none", "filled", "filled"),
        ("cancel_taker", "canceled", "new"),
        ("cancel_maker", "new", "canceled"),
        ("cancel_both", "canceled", "canceled"),
    ],
)
def test_self_trade_prevention_follows_the_takers_mode(
    market: str, alice: Trader, stp: str, taker: str, maker: str
) -> None:
    resting = alice.placed(market, "sell", "1", "100")

    order = alice.placed(market, "buy", "1", "100", stp=stp)

    after = alice.order(resting["order_id"])
    assert (order["status"], after["status"]) == (taker, maker)
    for one in (order, after):
        assert one.get("reason") == ("self_trade" if one["status"] == "canceled" else None)


def test_a_canceled_order_is_gone_and_answers_with_itself_again(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    order = alice.placed(market, "buy", "2", "100")

    first = alice.delete(f"/orders/{order['order_id']}")
    again = alice.delete(f"/orders/{order['order_id']}")

    assert (first.status, first.json["status"], first.json["reason"]) == (200, "canceled", "requested")
    assert again.body == first.body and again.status == 200
    assert venue.ok(alice.get(f"/market/{market}/book"))["bids"] == []
    assert venue.ok(alice.get("/orders"))["items"] == []


def test_orders_are_listed_newest_first_in_pages(venue: RunningVenue, market: str, alice: Trader) -> None:
    other = venue.market()
    ids = [alice.placed(market, "buy", "1", str(10 + i))["order_id"] for i in range(5)]
    elsewhere = alice.placed(other, "buy", "1", "10")["order_id"]

    first = venue.ok(alice.get(f"/orders?symbol={market}&limit=2"))
    second = venue.ok(alice.get(f"/orders?symbol={market}&limit=2&cursor={first['next_cursor']}"))
    third = venue.ok(alice.get(f"/orders?symbol={market}&limit=2&cursor={second['next_cursor']}"))

    listed = [[item["order_id"] for item in page["items"]] for page in (first, second, third)]
    assert listed == [ids[4:2:-1], ids[2:0:-1], ids[:1]]
    assert third["next_cursor"] is None
    everything = venue.ok(alice.get("/orders"))["items"]
    assert [item["order_id"] for item in everything] == [elsewhere, *reversed(ids)]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("sybmol=BTC-USD", 1002),
        ("symbol=BTC-USD&symbol=ETH-USD", 1002),
        ("symbol=", 1003),
        ("symbol=NO-SUCH", 1003),
        ("side=", 1002),
        ("side=Buy", 1002),
        ("sides=buy", 1002),
        ("symbol=BTC-USD&account=demo", 1002),
    ],
)
def test_a_filter_that_is_none_cancels_nothing(
    venue: RunningVenue, alice: Trader, query: str, code: int
) -> None:
    order = alice.placed("BTC-USD", "buy", "1", "1")["order_id"]

    reply = alice.delete(f"/orders?{query}")

    assert reply.code == code
    assert alice.order(order)["status"] == "new"


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=",
        "cursor=7",
        "cursor=b-7",
        "state=open",
        "limit=1&limit=2",
    ],
)
def test_a_list_asked_for_in_a_wrong_way_is_no_list(alice: Trader, query: str) -> None:
    reply = alice.get(f"/orders?{query}")

    assert (reply.status, reply.code) == (400, 1002)


# --- replace ----------------------------------------------------------------------------------------


def queue_at(venue: RunningVenue, trader: Trader, market: str) -> list[str]:
    """Order ids of the asks, first in line first."""
    return [row[2] for row in venue.ok(trader.get(f"/market/{market}/book?level=3"))["asks"]]


def test_less_quantity_keeps_the_place_in_the_queue_and_more_loses_it(
    venue: RunningVenue, market: str, alice: Trader
) -> None:
    first, second = (alice.placed(market, "sell", "5", "100")["order_id"] for _ in range(2))

    smaller = venue.ok(alice.put(f"/orders/{first}", {"quantity": "4"}))
    assert (smaller["quantity"], smaller["remaining_quantity"], smaller["version"]) == ("4", "4", 1)
    assert queue_at(venue, alice, market) == [first, second]

    larger = venue.ok(alice.put(f"/orders/{first}", {"quantity": "6"}))
    assert (larger["quantity"], larger["version"], larger["order_id"]) == ("6", 2, first)
    assert queue_at(venue, alice, market) == [second, first]


def test_a_new_price_loses_the_place_and_may_trade(
    venue: RunningVenue, market: str, alice: Trader, bob: Trader
) -> None:
    resting = bob.placed(market, "buy", "1", "98")["order_id"]
    order = alice.placed(market, "sell", "3", "100")["order_id"]

    replaced = venue.ok(alice.put(f"/orders/{order}", {"price": "98", "quantity": "2"}))

    assert (replaced["status"], replaced["price"], fills(replaced)) == (
        "partially_filled", "98", [("98", "1", "taker")],
    )  # fmt: skip
    assert (replaced["quantity"], replaced["remaining_quantity"]) == ("2", "1")
    assert bob.order(resting)["status"] == "filled"


def test_a_replace_with_another_version_is_refused(venue: RunningVenue, market: str, alice: Trader) -> None:
    order = alice.placed(market, "sell", "5", "100")["order_id"]

    done = alice.put(f"/orders/{order}", {"quantity": "4", "version": 0})
    late = alice.put(f"/orders/{order}", {"quantity": "3", "version": 0})

    assert (done.status, done.json["version"]) == (200, 1)
    assert (late.status, late.code, late.json["details"]) == (409, 1008, {"version": 1, "asked": 0})
    assert alice.order(order)["quantity"] == "4"


def test_a_replace_below_what_is_filled_is_refused(
    venue: RunningVenue, market: str, alice: Trader, bob: Trader
) -> None:
    order = alice.placed(market, "sell", "5", "100")["order_id"]
    bob.placed(market, "buy", "2", "100")

    reply = alice.put(f"/orders/{order}", {"quantity": "2"})

    assert (reply.status, reply.code, reply.json["details"]) == (409, 1009, {"filled_quantity": "2"})


def test_a_replace_of_nothing_is_invalid(market: str, alice: Trader) -> None:
    order = alice.placed(market, "sell", "5", "100")["order_id"]

    reply = alice.put(f"/orders/{order}", {})

    assert (reply.status, reply.code) == (400, 1002)


# --- mass cancel ------------------------------------------------------------------------------------


def test_mass_cancel_takes_the_accounts_own_orders_of_symbol_and_side(
    venue: RunningVenue, market: str, alice: Trader, bob: Trader
) -> None:
    other = venue.market()
    buys = [alice.placed(market, "buy", "1", "10")["order_id"] for _ in range(2)]
    stop = alice.placed(market, "buy", "1", type="stop", stop_price="50")["order_id"]
    sell = alice.placed(market, "sell", "1", "20")["order_id"]
    elsewhere = alice.placed(other, "buy", "1", "10")["order_id"]
    anothers = bob.placed(market, "buy", "1", "10")["order_id"]

    def opened() -> list[str]:
        return [item["order_id"] for item in venue.ok(alice.get("/orders"))["items"]]

    assert venue.ok(alice.delete(f"/orders?symbol={market}&side=buy")) == {"canceled": 3, "pending": False}
    assert opened() == [elsewhere, sell]
    assert {alice.order(one)["status"] for one in (*buys, stop)} == {"canceled"}
    assert venue.ok(alice.delete(f"/orders?symbol={market}")) == {"canceled": 1, "pending": False}
    assert venue.ok(alice.delete("/orders")) == {"canceled": 1, "pending": False}
    assert opened() == []
    assert venue.ok(alice.delete("/orders")) == {"canceled": 0, "pending": False}
    assert bob.order(anothers)["status"] == "new"


def test_a_test_order_is_checked_and_changes_nothing(
    venue: RunningVenue, market: str, alice: Trader, bob: Trader
) -> None:
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "2", "price": "100.5"}
    before = alice.get("/orders").seq

    good = alice.post("/orders/test", order)
    bad = alice.post("/orders/test", order | {"quantity": "2.0005"})

    assert (good.status, good.json) == (200, {"valid": True, "worst_notional": "201"})
    assert (bad.status, bad.code) == (422, 1004)
    assert venue.ok(alice.get("/orders"))["items"] == [] and alice.get("/orders").seq == before


def test_a_test_order_answers_with_the_refusal_that_the_order_would_get(
    venue: RunningVenue, market: str
) -> None:
    poor = venue.account("cash", USD="100")
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "2", "price": "100"}

    tested, placed = poor.post("/orders/test", order), poor.post("/orders", order)

    assert (tested.status, tested.code) == (422, 3003) == (placed.status, placed.code)
    assert tested.json["details"] == placed.json["details"] == {"needed": "200", "free": "100"}


# --- numbers that are too large ---------------------------------------------------------------------

MOST = "46116860184.27387904"
"""2**62 in 1e-8: the most that the venue counts."""


@pytest.mark.parametrize("mode", ["cash", "limits"])
@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(
    ("quantity", "price", "more"),
    [
        ("40000000000", "2", {}),
        ("1000000000", "47", {"time_in_force": "ioc"}),
        ("999999999999999999", "0.01", {}),
        ("0.001", "46116860184.28", {}),
        ("40000000000", "", {"type": "stop", "stop_price": "1"}),
        ("40000000000", "2", {"type": "stop_limit", "stop_price": "1"}),
    ],
)
def test_an_order_worth_more_than_can_be_counted_is_invalid(
    venue: RunningVenue, mode: str, side: str, quantity: str, price: str, more: dict[str, Any]
) -> None:
    market = venue.market(max_quantity="46000000000")
    trader = venue.account(mode, USD=MOST)

    single = trader.place(market, side, quantity, price, **more)
    tested = trader.post(
        "/orders/test", {"symbol": market, "side": side, "quantity": quantity, "type": "limit", "price": "2"}
    )

    assert (single.status, single.code) == (400, 1002)
    assert tested.status in (200, 400, 422)
    assert venue.call("GET", "/time").status == 200


def test_the_largest_orders_trade(venue: RunningVenue) -> None:
    market = venue.market(max_quantity="46000000000", taker_fee_bps="1000", maker_fee_bps="1000")
    seller, buyer = venue.account("limits"), venue.account("limits")
    seller.placed(market, "sell", "46000000000", "1")

    order = buyer.placed(market, "buy", "23000000000")

    assert (order["status"], order["avg_price"], order["fills"][0]["fee"]) == ("filled", "1", "2300000000")
    assert seller.balance("USD") == ("20700000000", "0")
