"""`cancel_on_disconnect` where it is hard: with a rate limit, and while the engine is away."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.feed.feed_venue import Client, FeedVenue, feed_venue, until
from tests.feed.test_orders import order

RATE = 10


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    directory = tmp_path_factory.mktemp("venue")
    with feed_venue(directory, ("engine", "history", "feed"), rate_limit_per_s=RATE) as running:
        yield running


def watched(venue: FeedVenue, token: str) -> Client:
    watcher = venue.feed()
    watcher.asked("auth", token=token)
    watcher.subscribe("orders")
    return watcher


def canceled(watcher: Client) -> int:
    return sum(item["status"] == "canceled" for one in watcher.of("orders") for item in one["items"])


def leave(venue: FeedVenue, token: str, symbol: str, count: int) -> Client:
    """A client with so many open orders that end with it."""
    client = venue.feed()
    client.asked("auth", token=token)
    client.asked("cancel_on_disconnect", on=True)
    while count:
        if client.ask("order.place", order=order(symbol, "buy", "1", "10"))["ok"]:
            count -= 1
        else:
            time.sleep(0.1)
    return client


def test_a_rate_limit_keeps_no_order_open_that_ends_with_its_connection(venue: FeedVenue) -> None:
    symbol, trader = venue.market(), venue.account(mode="limits")
    with watched(venue, trader.token) as watcher:
        leave(venue, trader.token, symbol, 2 * RATE).close()

        until(lambda: canceled(watcher) == 2 * RATE, "orders are still open")


def test_orders_that_end_while_the_engine_is_away_end_when_it_is_back(venue: FeedVenue) -> None:
    symbol, trader = venue.market(), venue.account(mode="limits")
    with watched(venue, trader.token) as watcher:
        leaver = leave(venue, trader.token, symbol, 3)
        venue.kill9("engine")
        leaver.close()
        venue.start()

        until(lambda: canceled(watcher) == 3, "orders are still open")
