"""Channel book_l3: every order of the best levels, in the order in which they will trade."""

from __future__ import annotations

import random
from typing import Any

from tests.api.venue_process import Trader
from tests.feed.feed_venue import Client, FeedVenue, until


def same_orders(venue: FeedVenue, client: Client, symbol: str, depth: int) -> bool:
    """The client's orders are the engine's: prices, quantities, numbers, priority."""
    client.check()
    engine = venue.ok(venue.call("GET", f"/market/{symbol}/book?depth={depth}&level=3"))
    bids, asks = client.order_books[symbol, depth].orders(depth)
    return (engine["bids"], engine["asks"]) == ([list(row) for row in bids], [list(row) for row in asks])


def subscribed(client: Client, symbol: str, depth: int = 10) -> None:
    client.subscribe("book_l3", symbol, depth=depth)
    until(lambda: client.order_books.get((symbol, depth)))


def rows(message: dict[str, Any]) -> list[list[str]]:
    return [*message["bids"], *message["asks"]]


def test_an_order_book_kept_from_snapshot_and_deltas_is_the_engines(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as deep, venue.feed() as shallow:
        subscribed(deep, symbol, 100)
        subscribed(shallow, symbol, 10)
        flow(venue, trader, symbol, batches=10, seed=7)

        until(lambda: same_orders(venue, deep, symbol, 100) and same_orders(venue, shallow, symbol, 10))

        books = deep.order_books[symbol, 100], shallow.order_books[symbol, 10]
        assert [book.snapshots for book in books] == [1, 1]
        assert all(book.deltas > 1 for book in books)


def flow(venue: FeedVenue, trader: Trader, symbol: str, batches: int, seed: int) -> None:
    """Few price levels, so that queues are long; icebergs, replaces up and down, cancels, trades."""
    chance = random.Random(seed)
    open_ids: list[str] = []
    for _ in range(batches):
        orders = []
        for _ in range(30):
            side = chance.choice(("buy", "sell"))
            price = 100 + chance.randint(-14, 3) if side == "buy" else 100 + chance.randint(-3, 14)
            quantity = chance.randint(1, 6)
            more = {"display_quantity": "1"} if quantity > 1 and chance.random() < 0.2 else {}
            orders.append(
                {
                    "symbol": symbol,
                    "side": side,
                    "type": "limit",
                    "quantity": f"{quantity}",
                    "price": f"{price}",
                }
                | more
            )
        reply = venue.ok(trader.post("/orders/batch", {"orders": orders}))
        open_ids += [row["order"]["order_id"] for row in reply["results"]]
        for order_id in chance.sample(open_ids, 5):
            change = chance.choice(({"quantity": "1"}, {"quantity": "9"}, {"price": "99"}, {"price": "101"}))
            trader.put(f"/orders/{order_id}", change)
        venue.ok(trader.post("/orders/cancel-batch", {"order_ids": chance.sample(open_ids, 10)}))


def test_an_order_keeps_its_place_when_it_shrinks_and_loses_it_when_it_grows(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    first, second = (trader.placed(symbol, "buy", "5", "100")["order_id"] for _ in range(2))
    with venue.feed() as client:
        subscribed(client, symbol)
        said = []
        for change in ({"quantity": "3"}, {"quantity": "4"}):
            venue.ok(trader.put(f"/orders/{first}", change))
            said.append(until(lambda: client.of("book_l3")[1 + len(said) :])[0])

        assert [rows(message) for message in said] == [
            [["100", "3", first]],
            [["100", "0", first], ["100", "4", first]],
        ]
        bids, _ = client.order_books[symbol, 10].orders()
        assert bids == [("100", "5", second), ("100", "4", first)]


def test_an_iceberg_goes_last_with_each_slice(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader, taker = venue.account(mode="limits"), venue.account(mode="limits")
    iceberg = trader.placed(symbol, "sell", "5", "100", display_quantity="2")["order_id"]
    other = trader.placed(symbol, "sell", "1", "100")["order_id"]
    with venue.feed() as client:
        subscribed(client, symbol)
        taker.placed(symbol, "buy", "2", "100")
        until(lambda: len(client.of("book_l3")) == 2)

        assert rows(client.of("book_l3")[1]) == [["100", "0", iceberg], ["100", "2", iceberg]]
        _, asks = client.order_books[symbol, 10].orders()
        assert asks == [("100", "1", other), ("100", "2", iceberg)]


def test_a_level_that_comes_into_view_brings_its_orders(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    placed = [trader.placed(symbol, "buy", "1", f"{100 - n}")["order_id"] for n in range(11)]
    with venue.feed() as client:
        subscribed(client, symbol)
        assert placed[10] not in client.order_books[symbol, 10]
        venue.ok(trader.delete(f"/orders/{placed[0]}"))
        until(lambda: placed[10] in client.order_books[symbol, 10])

        better = trader.placed(symbol, "buy", "1", "200")["order_id"]
        until(lambda: placed[10] not in client.order_books[symbol, 10])
        assert better in client.order_books[symbol, 10]
        assert same_orders(venue, client, symbol, 10)


def test_a_long_snapshot_comes_in_several_messages(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    order = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": "10"}
    venue.ok(trader.post("/orders/batch", {"orders": [order] * 701}))
    with venue.feed() as client:
        subscribed(client, symbol)
        until(lambda: len(client.of("book_l3")) == 2)

        assert [message.get("more", False) for message in client.of("book_l3")] == [True, False]
        assert client.order_books[symbol, 10].count == 701
        assert same_orders(venue, client, symbol, 10)


def test_an_order_book_whose_grid_changes_starts_again(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as client:
        subscribed(client, symbol)
        order = trader.placed(symbol, "buy", "1", "10.01")
        venue.ok(trader.delete(f"/orders/{order['order_id']}"))
        venue.ok(venue.admin("POST", "/symbols", {"symbol": symbol, "tick_size": "0.5", "lot_size": "0.1"}))
        trader.placed(symbol, "buy", "0.3", "10.5")

        until(lambda: client.of("book_l3")[-1]["bids"])
        until(lambda: same_orders(venue, client, symbol, 10))
