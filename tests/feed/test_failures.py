"""The feed and the engine end in every way; clients see it, come back, and have the same book as before."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator

import pytest

from tests.feed.feed_venue import FeedVenue, feed_venue, same_book, until
from tradsys.adapters.feed.process import allow_files
from tradsys.adapters.page.page import ASLEEP, Page, boot_id
from tradsys.adapters.page.waking import FOLLOWERS

FEED_SLEEPS = ASLEEP + FOLLOWERS.index("feed")


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    with feed_venue(tmp_path_factory.mktemp("venue"), snapshot_every=40) as running:
        yield running


def quote(venue: FeedVenue, symbol: str, first: int, count: int = 30) -> None:
    trader = venue.account(mode="limits")
    for price in range(first, first + count):
        trader.placed(symbol, "buy", "1", str(price))


def test_a_new_epoch_begins_with_a_snapshot_and_goes_on(venue: FeedVenue) -> None:
    symbol = venue.market()
    alice = venue.account(USD="100000")
    with venue.feed() as client:
        client.asked("auth", token=alice.token)
        client.subscribe("book", symbol)
        client.subscribe("orders")
        client.subscribe("trades", symbol)
        quote(venue, symbol, 100)
        order = alice.placed(symbol, "buy", "1", "50")
        until(lambda: same_book(venue, client, symbol) and len(client.of("orders")) == 2)
        epoch = client.book(symbol).epoch

        venue.kill9("engine")
        venue.start()
        until(lambda: client.book(symbol).epoch > epoch)
        until(lambda: [len(client.of(name)) for name in ("orders", "trades")] == [3, 2])
        quote(venue, symbol, 200)
        until(lambda: same_book(venue, client, symbol))

        assert client.book(symbol).snapshots == 2
        renewed = client.of("orders")[-1]
        assert (renewed["type"], renewed["items"], renewed["epoch"]) == (
            "snapshot",
            [order],
            client.book(symbol).epoch,
        )


def test_a_feed_whose_waking_was_lost_looks_by_itself(venue: FeedVenue) -> None:
    symbol = venue.market()
    page = Page.open(str(venue.data / "page"), boot_id())
    with venue.feed() as client:
        client.subscribe("book", symbol)
        until(lambda: page.words[FEED_SLEEPS])
        # As another feed on the same directory leaves it when it ends.
        page.words[FEED_SLEEPS] = 0
        quote(venue, symbol, 100, 1)

        until(lambda: same_book(venue, client, symbol))


def test_a_killed_feed_comes_back_with_the_same_state(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    with venue.feed() as before:
        before.subscribe("book", symbol)
        quote(venue, symbol, 100)
        until(lambda: same_book(venue, before, symbol))
        venue.kill9("feed")
        assert before.wait_closed()[0] == 1006
    quote(venue, symbol, 200)
    kept = trader.placed(symbol, "sell", "1", "1000")
    venue.start()
    with venue.feed() as after:
        after.asked("auth", token=trader.token)
        after.subscribe("book", symbol)
        after.subscribe("orders")
        until(lambda: same_book(venue, after, symbol) and after.of("orders"))
        assert after.of("orders")[0]["items"] == [kept]
        quote(venue, symbol, 300)
        until(lambda: same_book(venue, after, symbol))


def test_a_feed_that_starts_again_still_refuses_what_was_revoked(venue: FeedVenue) -> None:
    trader = venue.account()
    token = venue.token(trader.name, jti="long-gone")
    venue.ok(venue.admin("POST", "/tokens/revoke", {"jti": "long-gone"}))
    venue.kill9("feed")
    venue.start()
    with venue.feed() as client:
        assert client.ask("auth", token=token)["error"]["code"] == 2002


def test_a_feed_that_is_told_to_stop_says_when_to_come_back(venue: FeedVenue) -> None:
    symbol = venue.market()
    with venue.feed() as first, venue.feed() as second:
        for client in (first, second):
            client.subscribe("book", symbol)
        assert venue.end(signal.SIGTERM, ["feed"]) == {"feed": 0}

        assert [client.wait_closed()[0] for client in (first, second)] == [1012, 1012]
        said = {client.of("server_shutdown")[-1]["reconnect_after_ms"] for client in (first, second)}
        assert said == {500, 550}
    venue.start()


def test_an_order_under_way_is_answered_before_the_feed_ends(venue: FeedVenue) -> None:
    symbol, trader = venue.market(), venue.account(mode="limits")
    engine = venue.processes["engine"]
    body = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": "10"}
    with venue.feed() as client:
        client.asked("auth", token=trader.token)
        client.asked("cancel_on_disconnect", on=True)
        engine.send_signal(signal.SIGSTOP)
        try:
            client.connection.send(json.dumps({"op": "order.place", "id": "mine", "order": body}))
            client.asked("ping")
            venue.processes["feed"].send_signal(signal.SIGTERM)
            until(lambda: client.of("server_shutdown"))
            refused = client.ask("order.place", order=body)["error"]
        finally:
            engine.send_signal(signal.SIGCONT)
        reply = client.reply("mine")
        client.wait_closed()
    venue.end(signal.SIGTERM, ["feed"])

    assert refused["code"] == 1020
    assert (reply["ok"], reply["result"]["status"]) == (True, "new")
    assert trader.order(reply["result"]["order_id"])["status"] == "canceled"
    venue.start()


def test_a_feed_that_may_not_open_a_file_for_each_connection_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] == resource.RLIM_INFINITY:
        pytest.skip("any number of files is allowed")
    try:
        allow_files(limits[1] + 1)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limits[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert f"{limits[1] + 1} open files are needed for max_connections, and {limits[1]} are" in caplog.text
