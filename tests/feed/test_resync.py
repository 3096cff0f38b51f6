"""What a client has missed comes again as it was, or, where that is too much, as a snapshot that says so."""

from __future__ import annotations

import json
from typing import Any

from tests.feed.feed_venue import FeedVenue, until


def quotes(venue: FeedVenue, symbol: str, count: int) -> None:
    trader = venue.account(mode="limits")
    for price in range(100, 100 + count):
        trader.placed(symbol, "buy", "1", f"{price}")


def wish(symbol: str, message: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    at = {"from_seq": message["seq"], "epoch": message["epoch"]}
    return [{"name": message["ch"], "symbols": [symbol]} | at | more]


def test_a_gap_is_filled_with_the_messages_that_were_missed(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as witness, venue.connection() as late:
        witness.subscribe("book", symbol)
        quotes(venue, symbol, 8)
        until(lambda: witness.book(symbol).levels()[0][:1] == [("107", "1")])
        seen = witness.of("book")
        request = {"op": "subscribe", "id": 1, "channels": wish(symbol, seen[1])}
        late.send(json.dumps(request))
        reply = json.loads(late.recv())

        assert reply["result"]["channels"][0]["filled"] == len(seen) - 2
        assert [json.loads(late.recv()) for _ in seen[2:]] == seen[2:]


def test_resync_from_the_last_message_repeats_nothing(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as client:
        client.subscribe("book", symbol)
        quotes(venue, symbol, 3)
        until(lambda: client.book(symbol).levels()[0][:1] == [("102", "1")])
        seen = client.of("book")

        (said,) = client.asked("resync", channels=wish(symbol, seen[-1]))["channels"]
        client.asked("ping")

        assert said["filled"] == 0
        assert client.of("book") == seen


def test_another_epoch_or_too_long_ago_is_a_snapshot_that_says_gap(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as client:
        client.subscribe("trades", symbol)
        (first,) = until(lambda: client.of("trades"))
        client.asked("resync", channels=wish(symbol, first | {"epoch": first["epoch"] + 1}))
        client.asked("resync", channels=wish(symbol, first | {"seq": max(0, first["seq"] - 1)}))
        until(lambda: len(client.of("trades")) == 3)

        assert [message.get("gap", False) for message in client.of("trades")] == [False, True, True]
