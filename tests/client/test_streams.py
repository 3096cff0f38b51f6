"""Streams of the SDK: in step, resumed, and ended with a reason."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.feed.feed_venue import feed_venue
from tradsys.client import AsyncClient, Refused, Streams, Unreachable, errors, order_body
from tradsys.client import streams as streams_module
from tradsys.codec.stream_v1 import DEPTHS, INTERVALS

WAIT_S = 60.0


def run(coroutine: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(WAIT_S):
            return await coroutine

    return asyncio.run(bounded())


async def first(items: AsyncIterator[Any], wanted: Any = lambda item: True) -> Any:
    async for item in items:
        if wanted(item):
            return item
    raise AssertionError("the stream ended")


def test_trades_ticker_candles_and_balances_come_as_they_happen(venue, url, ws_url):
    market, trader = venue.market(), venue.account("limits")

    async def watch() -> tuple[Any, ...]:
        async with AsyncClient(url, trader.token) as client, Streams(ws_url, trader.token) as streams:
            await client.place(market, "sell", "1", "10")
            await client.place(market, "buy", "1", "10")
            trade = await first(streams.trades(market), lambda message: message.items)
            ticker = await first(streams.ticker(market), lambda message: message.last)
            candles = await first(streams.candles(market), lambda message: message.items)
            balances = await first(streams.balances())
            while streams.position is None:
                await asyncio.sleep(0.01)
            return trade, ticker, candles, balances, streams.position

    trade, ticker, candles, balances, position = run(watch())

    assert [(one.price, one.quantity) for one in trade.items] == [("10", "1")]
    assert (ticker.last, candles.items[-1].close) == ("10", "10")
    assert balances.account == trader.name
    assert position.durable_seq <= position.seq


def test_an_order_may_be_placed_over_the_stream(venue, ws_url):
    market, trader = venue.market(), venue.account("limits")

    async def trade() -> tuple[Any, ...]:
        async with Streams(ws_url, trader.token) as streams:
            placed = await streams.place(order_body(market, "buy", "1", "9"))
            with pytest.raises(errors.OffGrid):
                await streams.place(order_body(market, "buy", "1", "9.001"))
            return placed, await streams.cancel(placed["order_id"])

    placed, canceled = run(trade())

    assert (placed["status"], canceled["status"]) == ("new", "canceled")


def test_what_is_refused_is_said_where_it_was_asked(venue, ws_url):
    async def ask() -> list[int]:
        codes = []
        async with Streams(ws_url) as streams:
            for stream in (streams.book("NO-USD"), streams.orders()):
                with pytest.raises(Refused) as caught:
                    await first(stream)
                codes.append(caught.value.code)
        return codes

    assert run(ask()) == [1003, 2001]


def test_a_wrong_token_ends_the_streams(venue, ws_url):
    async def ask() -> None:
        async with Streams(ws_url, "x.y.z"):
            raise AssertionError("it was let in")

    with pytest.raises(errors.Unauthorized):
        run(ask())


def test_a_second_reader_of_the_same_stream_is_a_mistake(venue, ws_url):
    market = venue.market()

    async def ask() -> None:
        async with Streams(ws_url) as streams:
            reader = streams.trades(market)
            await anext(reader)
            with pytest.raises(ValueError):
                await first(streams.trades(market))

    run(ask())


def test_a_stream_that_nobody_reads_any_more_holds_up_no_other(venue, url, ws_url, monkeypatch):
    monkeypatch.setattr(streams_module, "UNREAD_MAX", 20)
    market, trader = venue.market(), venue.account("limits")

    async def watch() -> tuple[int, list[str]]:
        async with AsyncClient(url, trader.token) as client, Streams(ws_url, trader.token) as streams:
            orders = streams.orders()
            await anext(orders)
            async for _ in streams.book(market):
                break
            for price in range(1, 61):
                placed = await client.place(market, "buy", "1", price)
            found = await first(orders, lambda one: placed.order_id in [item.order_id for item in one.items])
            book = await anext(streams.book(market))
            return found.items[-1].seq, [price for price, _ in book.levels(1)[0]]

    seq, best = run(watch())

    assert seq > 0
    assert best == ["60"]


def test_many_subscriptions_go_on_after_the_line_was_lost(venue, url, ws_url):
    markets, trader = [venue.market() for _ in range(9)], venue.account("limits")

    async def watch() -> tuple[int, int]:
        async with AsyncClient(url, trader.token) as client, Streams(ws_url, trader.token) as streams:
            kinds = [
                *(lambda market, depth=depth: streams.book(market, depth) for depth in DEPTHS),
                *(
                    lambda market, interval=interval: streams.candles(market, interval)
                    for interval in INTERVALS
                ),
                streams.ticker,
                streams.trades,
            ]
            readers = [kind(market) for market in markets for kind in kinds]
            for reader in readers:
                await anext(reader)
            streams._transport.disconnect(graceful=False)
            for market in markets:
                await client.place(market, "buy", "1", "7")
            # The first book that was subscribed to, and the last one.
            for reader in (readers[0], readers[-len(kinds)]):
                await first(reader, lambda book: [price for price, _ in book.levels(1)[0]] == ["7"])
            return len(readers), streams.connections

    count, connections = run(watch())

    assert count > 100
    assert connections == 2


def test_who_stops_waiting_for_a_stream_may_ask_for_it_again(venue, ws_url):
    market, trader = venue.market(), venue.account("limits")

    async def watch() -> Any:
        async with Streams(ws_url, trader.token) as streams:
            await first(streams.balances())
            waiting = asyncio.ensure_future(anext(streams.ticker(market)))
            # It has sent what it asks, and waits for the answer.
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            return await first(streams.ticker(market))

    assert run(watch()).symbol == market


@pytest.mark.parametrize("end", ["", "/", "/ws", "/ws/"])
def test_the_address_may_have_its_path(venue, ws_url, end):
    async def connected() -> int:
        async with Streams(ws_url + end) as streams:
            return streams.connections

    assert run(connected()) == 1


def test_nobody_there_is_unreachable():
    async def ask() -> None:
        async with Streams("ws://127.0.0.1:1", patience_s=0.2):
            pass

    with pytest.raises(Unreachable):
        run(ask())


def test_streams_that_were_closed_say_so_to_their_readers(venue, ws_url):
    market = venue.market()

    async def ask() -> None:
        async with Streams(ws_url) as streams:
            trades = streams.trades(market)
            await anext(trades)
            waiting = asyncio.ensure_future(anext(trades))
            await asyncio.sleep(0)
        with pytest.raises(Unreachable):
            await waiting

    run(ask())


@pytest.mark.timeout(200)
def test_a_stream_that_is_asked_for_while_the_feed_dies_begins_with_the_next_one(tmp_path):
    async def watch(venue: Any) -> tuple[Any, int]:
        market, trader = venue.market(), venue.account("limits")
        async with Streams(f"ws://127.0.0.1:{venue.ws_port}", patience_s=60) as streams:
            os.kill(venue.processes["feed"].pid, signal.SIGSTOP)
            book = asyncio.ensure_future(first(streams.book(market), lambda book: book.levels()[0]))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(venue.kill9, "feed")
            await asyncio.to_thread(venue.start)
            await asyncio.to_thread(trader.placed, market, "buy", "1", "9")
            return (await book).levels(), streams.connections

    with feed_venue(tmp_path, ("engine", "history", "feed")) as venue:
        levels, connections = asyncio.run(asyncio.wait_for(watch(venue), 180))

    assert levels == ([("9", "1")], [])
    assert connections == 2


@pytest.mark.timeout(200)
def test_books_and_orders_go_on_after_feed_and_engine_have_begun_again(tmp_path):
    async def watch(venue: Any) -> tuple[Any, ...]:
        market, trader = venue.market(), venue.account("limits")
        url, ws_url = f"http://127.0.0.1:{venue.ports['port']}", f"ws://127.0.0.1:{venue.ws_port}"
        orders: dict[str, str] = {}

        async def keep_orders(streams: Streams) -> None:
            async for message in streams.orders():
                for order in message.items:
                    orders[order.order_id] = order.status

        async with (
            AsyncClient(url, trader.token, patience_s=60) as client,
            Streams(ws_url, trader.token, patience_s=60) as streams,
        ):
            keeping = asyncio.create_task(keep_orders(streams))
            books = streams.book(market, depth=10)
            placed = [await client.place(market, "buy", "1", str(price)) for price in (7, 8, 9)]
            await first(books, lambda book: len(book.levels()[0]) == 3)
            await asyncio.to_thread(venue.end, signal.SIGTERM, ("feed",))
            await client.cancel(placed[0].order_id)
            await asyncio.to_thread(venue.start)
            # Resumed before the engine goes: behind a new epoch what is closed meanwhile is a gap.
            while "canceled" not in orders.values():
                await asyncio.sleep(0.01)
            await asyncio.to_thread(venue.kill9, "engine")
            await asyncio.to_thread(venue.start)
            await client.place(market, "sell", "1", "10")
            book = await first(books, lambda book: book.levels()[1])
            while len(orders) < 4:
                await asyncio.sleep(0.01)
            keeping.cancel()
            levels = book.levels()
            shown = await client.book(market)
            return levels, (shown.bids, shown.asks), orders[placed[0].order_id], streams.connections

    with feed_venue(tmp_path, ("engine", "history", "feed")) as venue:
        levels, shown, status, connections = asyncio.run(asyncio.wait_for(watch(venue), 180))

    assert levels == shown == ([("9", "1"), ("8", "1")], [("10", "1")])
    assert status == "canceled", "what happened while the feed was away is not known"
    assert connections >= 2
