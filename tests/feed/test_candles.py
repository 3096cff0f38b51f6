"""Channel candles: what REST has of an interval, as it grows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.feed.feed_venue import Client, FeedVenue, feed_venue, until


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    processes = ("engine", "history", "query", "feed")
    with feed_venue(tmp_path_factory.mktemp("venue"), processes, snapshot_every=60) as running:
        yield running


def trade(venue: FeedVenue, symbol: str, *prices: str) -> None:
    seller, buyer = venue.account(mode="limits"), venue.account(mode="limits")
    for price in prices:
        seller.placed(symbol, "sell", "2", price)
        buyer.placed(symbol, "buy", "1.5", price)
        venue.ok(seller.delete(f"/orders?symbol={symbol}"))


def known(client: Client, interval: str) -> list[dict[str, object]]:
    """The candles of an interval as the client has them, the latest state of each."""
    latest = {
        item["start_ts"]: item
        for message in client.of("candles")
        if message["interval"] == interval
        for item in message["items"]
    }
    return list(latest.values())


def trades(candles: list[dict[str, object]]) -> int:
    return sum(int(str(candle["trades"])) for candle in candles)


def rest(venue: FeedVenue, symbol: str, interval: str) -> list[dict[str, object]]:
    """Oldest first; nothing as long as `query`, which comes after, does not know the symbol."""
    reply = venue.call("GET", f"/market/{symbol}/candles?interval={interval}", port="query_port")
    return [] if reply.code == 1003 else venue.ok(reply)["items"][::-1]


def test_candles_grow_with_each_trade_and_are_those_of_rest(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as client:
        for interval in ("1s", "1m", "1d"):
            client.subscribe("candles", symbol, interval=interval)
        trade(venue, symbol, "100", "103", "99.5", "101")

        for interval in ("1s", "1m", "1d"):
            until(
                lambda interval=interval: (
                    known(client, interval) and known(client, interval) == rest(venue, symbol, interval)
                )
            )
        volume = sum(float(str(candle["volume"])) for candle in known(client, "1d"))
        assert volume == 6


def test_who_subscribes_later_gets_the_running_candle_whole(venue: FeedVenue) -> None:
    symbol = venue.market()
    trade(venue, symbol, "100", "103")
    with venue.feed() as client:
        client.subscribe("candles", symbol, interval="1d")
        until(lambda: known(client, "1d") and known(client, "1d") == rest(venue, symbol, "1d"))
        (snapshot,) = client.of("candles")
        assert [snapshot["type"], snapshot["items"][0]["trades"]] == ["snapshot", 2]


def test_a_feed_that_starts_from_a_snapshot_knows_the_day_before_it(venue: FeedVenue) -> None:
    symbol = venue.market()
    trade(venue, symbol, *["100"] * 20, "90", "110")
    until(lambda: any((venue.data).glob("**/snapshot-*.tsn")), "no snapshot")
    venue.kill9("feed")
    trade(venue, symbol, "95")
    venue.start()
    with venue.feed() as client:
        client.subscribe("candles", symbol, interval="1d")
        trade(venue, symbol, "96")
        until(lambda: trades(known(client, "1d")) == trades(rest(venue, symbol, "1d")) == 24)
        assert known(client, "1d") == rest(venue, symbol, "1d")


def test_an_interval_that_is_none_is_refused(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as client:
        wish = {"name": "candles", "symbols": [symbol], "interval": "2m"}
        reply = client.ask("subscribe", channels=[wish])
        assert (reply["error"]["code"], reply["error"]["details"]) == (1002, {"field": "interval"})
        said = client.subscribe("candles", symbol)["channels"]
        assert [channel["interval"] for channel in said] == ["1m"]
        (left,) = client.asked("unsubscribe", channels=[{"name": "candles", "interval": "1m"}])["channels"]
        assert left["symbol"] == symbol
