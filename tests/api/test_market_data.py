"""Public market data: no token, the book best first with a checksum, ticker, trades, symbols."""

from __future__ import annotations

import time
import zlib
from typing import Any

import pytest

from tests.api.venue_process import API, RunningVenue, Trader

S = 1_000_000_000


@pytest.fixture
def market(venue: RunningVenue) -> str:
    return venue.market()


@pytest.fixture
def trader(venue: RunningVenue) -> Trader:
    return venue.account("limits")


def get(venue: RunningVenue, path: str) -> Any:
    return venue.ok(venue.call("GET", path))


def checksum(book: dict[str, Any]) -> int:
    """As a client computes it: ten best bids, then ten best asks."""
    rows = [f"{price}:{quantity}" for price, quantity in book["bids"][:10] + book["asks"][:10]]
    return zlib.crc32(",".join(rows).encode())


def test_an_empty_book_is_a_book(venue: RunningVenue, market: str) -> None:
    book = get(venue, f"/market/{market}/book")

    assert book == {
        "symbol": market,
        "seq": book["seq"],
        "epoch": 1,
        "ts": book["ts"],
        "checksum": 0,
        "bids": [],
        "asks": [],
    }


def test_price_levels_are_sums_best_first(venue: RunningVenue, market: str, trader: Trader) -> None:
    for side, quantity, price in (
        ("buy", "1", "99"), ("buy", "2", "99.5"), ("buy", "0.5", "99"), ("buy", "1", "9.99"),
        ("sell", "3", "101"), ("sell", "1", "100.5"), ("sell", "1.25", "1000"), ("sell", "1", "101"),
    ):  # fmt: skip
        last = trader.placed(market, side, quantity, price)

    book = get(venue, f"/market/{market}/book")

    assert book["bids"] == [["99.5", "2"], ["99", "1.5"], ["9.99", "1"]]
    assert book["asks"] == [["100.5", "1"], ["101", "4"], ["1000", "1.25"]]
    assert book["checksum"] == checksum(book)
    assert (book["seq"], book["ts"]) == (last["seq"], last["created_ts"])


def test_a_book_of_very_many_orders_is_not_written_down_by_the_engine(
    venue: RunningVenue, market: str, trader: Trader
) -> None:
    order = {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": "99"}
    venue.ok(trader.post("/orders/batch", {"orders": [order] * 1_000}))
    path = f"/market/{market}/book?level=3"

    written = get(venue, path)["bids"]
    venue.ok(trader.post("/orders", order))
    reply = venue.send("GET", f"/api/v1{path}")

    assert len(written) == 1_000
    assert reply.status == 307
    assert reply.headers["location"].endswith(path)
    assert get(venue, f"/market/{market}/book?level=2")["bids"] == [["99", "1001"]]


def test_orders_of_the_book_stand_in_their_priority(venue: RunningVenue, market: str, trader: Trader) -> None:
    ids = [
        trader.placed(market, "buy", quantity, price)["order_id"]
        for quantity, price in (("1", "99"), ("2", "100"), ("3", "99"))
    ]
    iceberg = trader.placed(market, "sell", "9", "101", display_quantity="2")["order_id"]

    book = get(venue, f"/market/{market}/book?level=3")

    assert book["bids"] == [["100", "2", ids[1]], ["99", "1", ids[0]], ["99", "3", ids[2]]]
    assert book["asks"] == [["101", "2", iceberg]]
    assert book["checksum"] == checksum(get(venue, f"/market/{market}/book"))
    # Depth counts levels, of which all orders are shown.
    assert get(venue, f"/market/{market}/book?level=3&depth=1")["bids"] == book["bids"][:1]


def test_depth_limits_the_levels_and_not_the_checksum(
    venue: RunningVenue, market: str, trader: Trader
) -> None:
    trader.post(
        "/orders/batch",
        {
            "orders": [
                {"symbol": market, "side": "buy", "type": "limit", "quantity": "1", "price": f"{price}"}
                for price in range(1, 121)
            ]
        },
    )
    whole = get(venue, f"/market/{market}/book?depth=100")

    assert [price for price, _ in whole["bids"]] == [str(price) for price in range(120, 20, -1)]
    for depth in (1, 5, 11, 50):
        book = get(venue, f"/market/{market}/book?depth={depth}")
        assert book["bids"] == whole["bids"][:depth]
        assert book["checksum"] == whole["checksum"] == checksum(whole)
    assert len(get(venue, f"/market/{market}/book")["bids"]) == 50


@pytest.mark.parametrize(
    "query",
    [
        "depth=0",
        "depth=1001",
        "depth=x",
        "depth=1e2",
        "depth=",
        "depth=%D9%A3",
        "depth=%2B1",
        "level=1",
        "level=4",
    ],
)
def test_a_depth_or_level_that_is_none_is_invalid(venue: RunningVenue, market: str, query: str) -> None:
    reply = venue.call("GET", f"/market/{market}/book?{query}")

    field = query.partition("=")[0]
    assert (reply.status, reply.code, reply.json["details"]) == (400, 1002, {"field": field})


def test_the_ticker_follows_trades_and_the_top_of_the_book(
    venue: RunningVenue, market: str, trader: Trader
) -> None:
    empty = get(venue, f"/market/{market}/ticker")
    trader.placed(market, "sell", "2", "100.5")
    trader.placed(market, "buy", "0.5", "100.5")
    trader.placed(market, "buy", "1", "99")
    venue.ok(venue.admin("PUT", f"/symbols/{market}/reference", {"price": "98"}))

    ticker = get(venue, f"/market/{market}/ticker")

    names = ("last", "reference", "bid", "bid_quantity", "ask", "ask_quantity")
    assert [empty[name] for name in names] == [None] * 6
    assert [ticker[name] for name in names] == ["100.5", "98", "99", "1", "100.5", "1.5"]
    assert (ticker["symbol"], ticker["status"]) == (market, "trading")


def test_trades_come_newest_first_with_the_takers_side(
    venue: RunningVenue, market: str, trader: Trader
) -> None:
    trader.placed(market, "sell", "1", "100")
    bought = trader.placed(market, "buy", "1", "100")
    trader.placed(market, "buy", "1", "99")
    trader.placed(market, "buy", "1", "98")
    sold = trader.placed(market, "sell", "2", "98")

    page = get(venue, f"/market/{market}/trades")

    assert [(one["price"], one["taker_side"]) for one in page["items"]] == [
        ("98", "sell"), ("99", "sell"), ("100", "buy"),
    ]  # fmt: skip
    assert [one["seq"] for one in page["items"]] == [sold["seq"], sold["seq"], bought["seq"]]
    ids = [one["trade_id"] for one in page["items"]]
    assert ids[0] == ids[1] + 1 > ids[2]
    assert {fill["trade_id"] for fill in sold["fills"]} == set(ids[:2])
    two = get(venue, f"/market/{market}/trades?limit=2")
    assert two == {"items": page["items"][:2], "next_cursor": str(ids[1])}


def test_symbols_tell_their_grid_and_where_they_are_served(venue: RunningVenue) -> None:
    market = venue.market(
        tick_size="0.05", lot_size="0.01", min_quantity="0.02", max_quantity="500", min_notional="10.5",
        band_bps="150.5", maker_fee_bps="1", taker_fee_bps="2.5",
    )  # fmt: skip

    symbol = get(venue, f"/symbols/{market}")

    assert symbol == {
        "symbol": market,
        "base": market.removesuffix("-USD"),
        "quote": "USD",
        "tick_size": "0.05",
        "lot_size": "0.01",
        "min_quantity": "0.02",
        "max_quantity": "500",
        "min_notional": "10.5",
        "band_bps": "150.5",
        "maker_fee_bps": "1",
        "taker_fee_bps": "2.5",
        "status": "trading",
        "endpoint": f"http://127.0.0.1:{venue.ports['port']}/s/a/api/v1",
    }
    everything = get(venue, "/symbols")["items"]
    assert symbol in everything and {"BTC-USD", "ETH-USD"} <= {one["symbol"] for one in everything}


def test_the_endpoint_of_a_symbol_takes_its_orders(venue: RunningVenue, market: str, trader: Trader) -> None:
    endpoint = get(venue, f"/symbols/{market}")["endpoint"]
    path = endpoint.removeprefix(f"http://127.0.0.1:{venue.ports['port']}")
    headers = {"Authorization": f"Bearer {trader.token}"}
    order = b'{"symbol":"%s","side":"buy","type":"limit","quantity":"1","price":"7"}' % market.encode()

    placed = venue.send("POST", f"{path}/orders", order, headers)
    found = venue.send("GET", f"{path}/orders/{placed.json['order_id']}", headers=headers)
    other_shard = venue.send("GET", "/s/b/api/v1/time")
    no_slash = venue.send("GET", "/s/aapi/v1/time")

    assert (placed.status, found.status, found.body) == (200, 200, placed.body)
    assert (other_shard.status, no_slash.status) == (404, 404)


def test_a_status_shows_in_symbol_and_ticker(venue: RunningVenue, market: str) -> None:
    venue.ok(venue.admin("PUT", f"/symbols/{market}/status", {"status": "cancel_only"}))

    assert get(venue, f"/symbols/{market}")["status"] == "cancel_only"
    assert get(venue, f"/market/{market}/ticker")["status"] == "cancel_only"


def test_time_is_the_engines_and_goes_on(venue: RunningVenue) -> None:
    before = time.time_ns()

    first, second = (int(get(venue, "/time")["time"]) for _ in range(2))

    assert first < second
    assert abs(first - before) < 3600 * S


@pytest.mark.parametrize("path", ["book", "ticker", "trades", "candles"])
@pytest.mark.parametrize("symbol", ["NO-SUCH", "btc-usd", "..%2f..", "A" * 300, "%F0%9F%98%80"])
def test_data_of_no_symbol_is_an_unknown_symbol(venue: RunningVenue, symbol: str, path: str) -> None:
    reply = venue.send("GET", f"{API}/market/{symbol}/{path}")

    assert (reply.status, reply.code) in ((404, 1003), (404, 1002))
    assert len(reply.body) < 1000
