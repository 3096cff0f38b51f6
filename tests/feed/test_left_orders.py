"""`cancel_on_disconnect` where it is hard: with a rate limit, and while the engine is away."""

from __future__ import annotations

import socket
import time

from tests.adapters.server_process import HOST
from tests.conftest import RATE_LIMIT
from tests.feed.feed_venue import WAIT_S, Client, FeedVenue, until
from tests.feed.test_orders import order
from tradsys.adapters.feed.session import CANCEL_AGAIN_S


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


def test_a_rate_limit_keeps_no_order_open_that_ends_with_its_connection(limited: FeedVenue) -> None:
    symbol, trader = limited.market(), limited.account(mode="limits")
    with watched(limited, trader.token) as watcher:
        leave(limited, trader.token, symbol, 2 * RATE_LIMIT).close()

        until(lambda: canceled(watcher) == 2 * RATE_LIMIT, "orders are still open")


def test_orders_that_end_while_the_engine_is_away_end_when_it_is_back(limited: FeedVenue) -> None:
    symbol, trader = limited.market(), limited.account(mode="limits")
    with watched(limited, trader.token) as watcher:
        leaver = leave(limited, trader.token, symbol, 3)
        limited.kill9("engine")
        leaver.close()
        limited.start()

        until(lambda: canceled(watcher) == 3, "orders are still open")


def test_an_engine_that_stays_away_is_asked_at_growing_distances(limited: FeedVenue) -> None:
    symbol, trader = limited.market(), limited.account(mode="limits")
    leaver = leave(limited, trader.token, symbol, 1)
    limited.kill9("engine")
    asked: list[float] = []
    # In its place somebody who only takes note of who calls.
    with socket.create_server((HOST, limited.ports["internal_port"])) as nobody:
        nobody.settimeout(WAIT_S)
        leaver.close()
        while len(asked) < 4:
            nobody.accept()[0].close()
            asked.append(time.monotonic())
    limited.start()

    # One, two and four times the first pause. No machine is so busy that a pause gets shorter.
    assert asked[3] - asked[0] > 5 * CANCEL_AGAIN_S
