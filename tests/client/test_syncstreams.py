"""Streams without an event loop: the same ones, as iterators that block."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from tests.feed.feed_venue import feed_venue
from tradsys.client import Client, Refused, SyncStreams, Unreachable, errors, order_body


def test_each_stream_gives_what_happens(venue, url, ws_url):
    market, trader = venue.market(), venue.account("limits")
    with Client(url, trader.token) as client, SyncStreams(ws_url, trader.token) as streams:
        client.place(market, "sell", "3", "10")
        client.place(market, "buy", "1", "10")
        trade = next(message for message in streams.trades(market) if message.items)
        ticker = next(message for message in streams.ticker(market) if message.last)
        candles = next(message for message in streams.candles(market) if message.items)
        book = next(book for book in streams.book(market, depth=10) if book.levels()[1])
        orders, balances = next(streams.orders()), next(streams.balances())

    assert [(one.price, one.quantity) for one in trade.items] == [("10", "1")]
    assert (ticker.last, candles.items[-1].close, book.levels()) == ("10", "10", ([], [("10", "2")]))
    assert [one.symbol for one in orders.items] == [market]
    assert balances.account == trader.name
    assert streams.connections == 1


def test_orders_are_placed_and_canceled_over_the_same_connection(venue, ws_url):
    market, trader = venue.market(), venue.account("limits")
    with SyncStreams(ws_url, trader.token) as streams:
        placed = streams.place(order_body(market, "buy", "1", "9"))
        with pytest.raises(errors.OffGrid):
            streams.place(order_body(market, "buy", "1", "9.001"))
        canceled = streams.cancel(placed["order_id"])

    assert (placed["status"], canceled["status"]) == ("new", "canceled")


def test_what_is_refused_is_raised_where_it_was_asked(venue, ws_url):
    with SyncStreams(ws_url) as streams:
        with pytest.raises(errors.UnknownSymbol):
            next(streams.book("NO-USD"))
        with pytest.raises(Refused) as caught:
            next(streams.orders())

    assert caught.value.code == 2001


@pytest.mark.parametrize(("url", "fault"), [("", errors.Unauthorized), ("ws://127.0.0.1:1", Unreachable)])
def test_streams_that_can_not_begin_leave_no_thread(venue, ws_url, url, fault):
    before = threading.active_count()
    with pytest.raises(fault), SyncStreams(url or ws_url, "x.y.z", patience_s=0.2):
        raise AssertionError("it was let in")

    assert threading.active_count() == before


def test_who_waits_when_the_streams_are_closed_is_told(venue, ws_url):
    market, met = venue.market(), []
    reading = threading.Event()

    def read() -> None:
        trades = streams.trades(market)
        next(trades)
        reading.set()
        try:
            next(trades)
        except Unreachable as fault:
            met.append(fault)

    with SyncStreams(ws_url) as streams:
        reader = threading.Thread(target=read)
        reader.start()
        reading.wait(30)
    reader.join(30)

    assert len(met) == 1
    with pytest.raises(Unreachable):
        next(streams.trades(market))
    streams.close()


@pytest.mark.timeout(200)
def test_a_book_goes_on_after_the_feed_has_begun_again(tmp_path):
    with feed_venue(tmp_path, ("engine", "history", "feed")) as venue:
        market, trader = venue.market(), venue.account("limits")
        with SyncStreams(f"ws://127.0.0.1:{venue.ws_port}", trader.token, patience_s=60) as streams:
            trader.placed(market, "buy", "1", "9")
            books: Any = streams.book(market)
            next(book for book in books if book.levels()[0])
            venue.end(signal.SIGTERM, ("feed",))
            trader.placed(market, "buy", "1", "8")
            venue.start()
            book = next(book for book in books if len(book.levels()[0]) == 2)
            levels = book.levels()

    assert levels == ([("9", "1"), ("8", "1")], [])
    assert streams.connections == 2
