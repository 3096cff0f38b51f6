"""Public streams: books that prove themselves, trades, prices, tickers, and the binary frames."""

from __future__ import annotations

import random
import struct
from typing import Any

from tests.feed.feed_venue import FeedVenue, same_book, until


def a_trade(venue: FeedVenue, symbol: str, price: str = "100.25", quantity: str = "0.5") -> dict[str, Any]:
    """Two new accounts trade; the taker's fill."""
    seller, buyer = venue.account(**{symbol.split("-")[0]: "10"}), venue.account(USD="100000")
    seller.placed(symbol, "sell", quantity, price)
    fill: dict[str, Any] = buyer.placed(symbol, "buy", quantity, price)["fills"][0]
    return fill


def load(venue: FeedVenue, symbol: str, batches: int, seed: int) -> None:
    """Orders that rest, trade, are icebergs, are replaced in priority and canceled, in batches."""
    random_ = random.Random(seed)
    trader = venue.account(mode="limits")
    for _ in range(batches):
        orders = []
        for _ in range(40):
            side = random_.choice(("buy", "sell"))
            centre = 10_000 + (-8 if side == "buy" else 8)
            quantity = random_.randint(1, 9)
            order = {
                "symbol": symbol,
                "side": side,
                "type": "limit",
                "quantity": str(quantity),
                "price": f"{(centre + random_.randint(-90, 90)) / 100:.2f}",
            }
            if random_.random() < 0.2:
                order["display_quantity"] = "1"
            orders.append(order)
        reply = venue.ok(trader.post("/orders/batch", {"orders": orders}))
        assert all(row["ok"] for row in reply["results"])
        placed = [row["order"]["order_id"] for row in reply["results"] if "order" in row]
        venue.ok(trader.post("/orders/cancel-batch", {"order_ids": random_.sample(placed, 20)}))
    venue.ok(trader.delete(f"/orders?symbol={symbol}&side=buy"))


def test_a_book_kept_from_snapshot_and_deltas_is_the_engines(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as deep, venue.feed() as shallow:
        deep.subscribe("book", symbol, depth=100)
        shallow.subscribe("book", symbol, depth=10)
        load(venue, symbol, batches=12, seed=1)

        until(lambda: same_book(venue, deep, symbol, 100) and same_book(venue, shallow, symbol, 10))

        assert deep.book(symbol, 100).deltas > 1
        assert (deep.book(symbol, 100).snapshots, shallow.book(symbol, 10).snapshots) == (1, 1)


def test_who_subscribes_later_gets_a_snapshot_and_then_the_same(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as early, venue.feed() as late:
        early.subscribe("book", symbol)
        load(venue, symbol, batches=3, seed=2)
        late.subscribe("book", symbol)
        load(venue, symbol, batches=3, seed=3)

        until(lambda: same_book(venue, early, symbol) and same_book(venue, late, symbol))

        assert early.book(symbol).seq == late.book(symbol).seq


def test_all_changes_of_one_batch_are_one_delta(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as client:
        client.subscribe("book", symbol)
        order = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1"}
        trader.post("/orders/batch", {"orders": [order | {"price": f"{price}"} for price in range(10, 15)]})
        until(lambda: len(client.of("book")) > 1)

        snapshot, delta = client.of("book")
        assert (snapshot["bids"], snapshot["asks"]) == ([], [])
        assert delta["bids"] == [[f"{price}", "1"] for price in (14, 13, 12, 11, 10)]
        assert (delta["prev_seq"], delta["type"]) == (snapshot["seq"], "delta")


def test_a_symbol_whose_grid_changes_starts_again(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as client:
        client.subscribe("book", symbol)
        order = trader.placed(symbol, "buy", "1", "10.01")
        venue.ok(trader.delete(f"/orders/{order['order_id']}"))
        venue.ok(venue.admin("POST", "/symbols", {"symbol": symbol, "tick_size": "0.5", "lot_size": "0.1"}))
        trader.placed(symbol, "buy", "0.3", "10.5")

        until(lambda: client.of("book")[-1]["bids"] == [["10.5", "0.3"]])
        assert same_book(venue, client, symbol)


def test_trades_and_prices_come_as_they_were_made(venue: FeedVenue) -> None:
    symbol = venue.market()
    before = a_trade(venue, symbol, "99")
    with venue.feed() as client:
        client.subscribe("trades", symbol)
        client.subscribe("price", symbol)
        fill = a_trade(venue, symbol)
        until(lambda: len(client.of("trades")) > 1 and len(client.of("price")) > 1)

        rest = venue.ok(venue.call("GET", f"/market/{symbol}/trades"))["items"]
        snapshot, delta = client.of("trades")
        assert (delta["items"], snapshot["items"]) == (rest[:1], rest[1:])
        assert [message["items"] for message in client.of("price")] == [
            [["99", "0.5", before["ts"]]],
            [["100.25", "0.5", fill["ts"]]],
        ]


def test_the_ticker_says_what_rest_says(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as client:
        client.subscribe("ticker", symbol)
        a_trade(venue, symbol)
        trader = venue.account(mode="limits")
        trader.placed(symbol, "buy", "2", "100")
        venue.ok(venue.admin("PUT", f"/symbols/{symbol}/status", {"status": "halted"}))

        def latest() -> bool:
            rest = venue.ok(venue.call("GET", f"/market/{symbol}/ticker"))
            said = client.of("ticker")[-1]
            return all(said[name] == rest[name] for name in rest if name not in ("seq", "ts"))

        until(latest)
        venue.ok(venue.admin("PUT", f"/symbols/{symbol}/status", {"status": "trading"}))
        until(latest)


def test_bin_v1_is_exactly_the_32_bytes_of_the_plan(venue: FeedVenue) -> None:
    symbol = venue.market(tick_size="0.01", lot_size="0.001")
    assert len(symbol) <= 8
    with venue.feed("tradsys.bin.v1") as client:
        client.subscribe("price", symbol)
        fill = a_trade(venue, symbol, "100.25", "0.5")
        until(lambda: client.frames)

        assert client.frames == [
            symbol.encode().ljust(8, b"\0")
            + (10_025_000_000).to_bytes(8, "little")
            + (50_000_000).to_bytes(8, "little")
            + int(fill["ts"]).to_bytes(8, "little", signed=True)
        ]
        a_trade(venue, symbol)
        a_trade(venue, symbol)
        until(lambda: len(client.frames) == 3)
        assert {len(frame) for frame in client.frames} == {32}


def test_bin_v1_refuses_a_symbol_it_has_no_room_for(venue: FeedVenue) -> None:
    symbol = "LONGNAME-USD"
    venue.admin("POST", "/symbols", {"symbol": symbol, "tick_size": "0.01", "lot_size": "0.001"})
    with venue.feed("tradsys.bin.v1") as client:
        reply = client.ask("subscribe", channels=[{"name": "price", "symbols": [symbol]}])

        assert (reply["ok"], reply["error"]["code"]) == (False, 1002)
        client.subscribe("trades", symbol)


HEADER = struct.Struct("<BBHIQ")
BOOK = struct.Struct("<QQqIHH")


class BinaryBook:
    """A book kept from bin.v2 frames."""

    def __init__(self) -> None:
        self.dense_seq = self.checksum = 0
        self.halves: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def take(self, frame: bytes) -> None:
        kind, flags, length, _, dense_seq = HEADER.unpack_from(frame)
        assert len(frame) == HEADER.size + length
        assert (kind, flags) in ((2, 2), (3, 0))
        if kind == 2:
            self.halves = ({}, {})
        else:
            assert dense_seq == self.dense_seq + 1
        self.dense_seq = dense_seq
        *_, self.checksum, bids, asks = BOOK.unpack_from(frame, HEADER.size)
        levels = list(struct.iter_unpack("<QQ", frame[HEADER.size + BOOK.size :]))
        assert len(levels) == bids + asks
        for half, changes in zip(self.halves, (levels[:bids], levels[bids:]), strict=True):
            for price, quantity in changes:
                if quantity:
                    half[price] = quantity
                else:
                    del half[price]


def test_bin_v2_books_are_the_same_as_in_json(venue: FeedVenue) -> None:
    symbol = venue.market()
    binary_book, taken = BinaryBook(), 0
    with venue.feed("tradsys.bin.v2") as binary, venue.feed() as text:
        binary.subscribe("book", symbol)
        text.subscribe("book", symbol)
        load(venue, symbol, batches=4, seed=4)
        until(lambda: same_book(venue, text, symbol))
        until(lambda: len(binary.frames) >= len(text.of("book")))

        for frame in binary.frames[taken:]:
            binary_book.take(frame)

        book = text.book(symbol)
        assert binary_book.checksum == text.of("book")[-1]["checksum"]
        assert binary_book.halves == tuple(
            {hundred_millionths(price): hundred_millionths(quantity) for price, quantity in half}
            for half in book.levels()
        )
        assert binary_book.dense_seq == book.deltas


def hundred_millionths(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(8, "0"))


def test_bin_v2_trades_carry_what_json_says(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed("tradsys.bin.v2") as binary, venue.feed() as text:
        (described,) = binary.subscribe("trades", symbol)["channels"]
        text.subscribe("trades", symbol)
        a_trade(venue, symbol)
        until(lambda: len(binary.frames) == 2 and len(text.of("trades")) == 2)

        snapshot, delta = binary.frames
        assert HEADER.unpack(snapshot) == (1, 2, 0, described["stream"], 0)
        assert HEADER.unpack_from(delta) == (1, 0, 48, described["stream"], 1)
        (trade,) = text.of("trades")[1]["items"]
        assert struct.unpack("<QQqQQb7x", delta[16:]) == (
            hundred_millionths(trade["price"]),
            hundred_millionths(trade["quantity"]),
            int(trade["ts"]),
            trade["trade_id"],
            trade["seq"],
            1,
        )


def test_resync_from_nowhere_answers_with_a_snapshot_that_says_gap(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as client:
        client.subscribe("book", symbol)
        client.asked("resync", channels=[{"name": "book", "symbols": [symbol]}])
        until(lambda: client.book(symbol).snapshots == 2)

        assert [message.get("gap", False) for message in client.of("book")] == [False, True]


def test_who_has_unsubscribed_hears_no_more(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as leaver, venue.feed() as stayer:
        for client in (leaver, stayer):
            client.subscribe("book", symbol)
        left = leaver.asked("unsubscribe", channels=[{"name": "book", "symbols": [symbol]}])
        load(venue, symbol, batches=1, seed=5)
        until(lambda: same_book(venue, stayer, symbol))
        leaver.asked("ping")

        assert [one["symbol"] for one in left["channels"]] == [symbol]
        assert leaver.book(symbol).deltas == 0
        reply = leaver.ask("resync", channels=[{"name": "book", "symbols": [symbol]}])
        assert reply["error"]["code"] == 1002


def test_heartbeats_say_where_each_stream_stands(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as client:
        client.subscribe("book", symbol)
        load(venue, symbol, batches=1, seed=6)
        until(lambda: same_book(venue, client, symbol))
        seen = len(client.beats)
        beat = until(lambda: client.beats[seen + 1 :])[0]

        (position,) = beat["channels"]
        assert position == {"name": "book", "symbol": symbol, "depth": 50, "seq": client.book(symbol).seq}
        assert beat["epoch"] == client.book(symbol).epoch
        assert beat["durable_seq"] <= beat["seq"]


def test_a_client_that_names_no_subprotocol_is_sent_json(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed("") as client:
        client.subscribe("book", symbol)
        until(lambda: client.book(symbol).snapshots == 1)
