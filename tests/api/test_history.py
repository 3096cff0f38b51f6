"""The whole venue: what the engine no longer has, its answer says where to find, and there it is the same."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.api.venue_process import API, Reply, RunningVenue, Trader, running_venue
from tradsys.adapters.query.app import query_routes


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    with running_venue(tmp_path_factory.mktemp("venue"), ("engine", "history", "query")) as running:
        running.ok(running.admin("PUT", "/rules", {"closed_orders_max": 2}))
        yield running


def followed(trader: Trader, path: str, upto: int) -> Reply:
    """Ask the engine, go where it says, and ask again until the answer knows the command `upto`."""
    first = trader.get(path)
    assert first.status == 307, first
    to = urlsplit(first.headers["location"])
    target = f"{to.path}?{to.query}" if to.query else to.path
    headers = {"Authorization": f"Bearer {trader.token}"}
    deadline = time.monotonic() + 30
    while True:
        reply = trader.venue.send("GET", target, headers=headers, port=to.port or 0)
        assert to.port == trader.venue.ports["query_port"]
        trader.venue.described("query_port").hold("GET", target, reply)
        if reply.status == 200 and int(reply.headers["x-read-seq"]) >= upto:
            return reply
        assert time.monotonic() < deadline, reply
        time.sleep(0.02)


def forget(venue: RunningVenue) -> int:
    """Close orders until those before have left the engine's memory; the last sequence number."""
    trader, market = venue.account("limits"), venue.market()
    return max(trader.placed(market, "buy", "1", "1", time_in_force="ioc")["seq"] for _ in range(8))


def test_closed_orders_are_found_as_they_were(venue: RunningVenue) -> None:
    market, alice, bob = venue.market(taker_fee_bps="10"), venue.account("limits"), venue.account("limits")
    traded = alice.placed(market, "sell", "2", "100", client_order_id="traded")["order_id"]
    bob.placed(market, "buy", "0.5", "100")
    bob.placed(market, "buy", "1.5", "100")
    canceled = alice.placed(market, "sell", "1", "200", client_order_id="canceled")["order_id"]
    refused = alice.place(market, "sell", "1", "0.001")
    venue.ok(alice.put(f"/orders/{canceled}", {"price": "201"}))
    as_it_was = {traded: alice.order(traded), canceled: venue.ok(alice.delete(f"/orders/{canceled}"))}
    seq = forget(venue)

    for order, was in as_it_was.items():
        assert followed(alice, f"/orders/{order}", seq).json == was
        assert followed(alice, f"/orders/by-client/{was['client_order_id']}", seq).json == was
    assert followed(alice, f"/orders?status=filled&symbol={market}", seq).json["items"] == [as_it_was[traded]]
    assert followed(alice, "/orders?status=canceled", seq).json["items"] == [as_it_was[canceled]]
    assert refused.code == 1004


def test_fills_and_trades_are_found_with_their_cursors(venue: RunningVenue) -> None:
    market, alice, bob = venue.market(taker_fee_bps="10"), venue.account("limits"), venue.account("limits")
    for i in range(5):
        alice.placed(market, "sell", "1", str(100 + i))
        bob.placed(market, "buy", "1", str(100 + i))
    recent = venue.ok(alice.get(f"/market/{market}/trades"))["items"]
    seq = forget(venue)

    pages: list[Any] = [followed(bob, "/fills?limit=2", seq).json]
    while pages[-1]["next_cursor"]:
        pages.append(followed(bob, f"/fills?limit=2&cursor={pages[-1]['next_cursor']}", seq).json)
    fills = [fill for page in pages for fill in page["items"]]
    trades = followed(bob, f"/market/{market}/trades?limit=1000", seq).json["items"]

    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    assert [(fill["price"], fill["side"], fill["liquidity"], fill["fee"]) for fill in fills] == [
        (str(price), "buy", "taker", f"0.{price}".rstrip("0")) for price in range(104, 99, -1)
    ]
    assert [fill["trade_id"] for fill in fills] == [trade["trade_id"] for trade in recent]
    assert trades == recent


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_what_the_engine_has_let_go_is_never_denied_while_history_is_behind(venue: RunningVenue) -> None:
    market, alice, bob = venue.market(), venue.account("limits"), venue.account("limits")
    rests = alice.placed(market, "buy", "1", "1")["order_id"]
    for price in ("100", "101"):
        alice.placed(market, "sell", "1", price)
        seen = bob.placed(market, "buy", "1", price)["seq"]
    followed(alice, "/fills", seen)

    with stopped(venue.processes["history"]):
        canceled = venue.ok(alice.delete(f"/orders/{rests}"))
        for price in ("102", "103", "104"):
            alice.placed(market, "sell", "1", price)
            filled = bob.placed(market, "buy", "1", price, client_order_id=f"bid-{price}")
        page = venue.ok(bob.get(f"/market/{market}/trades?limit=2"))
        forget(venue)
        ways = {
            f"/orders/{rests}": alice,
            f"/orders/{filled['order_id']}": bob,
            f"/market/{market}/trades?limit=2&cursor={page['next_cursor']}": bob,
        }
        for path, trader in ways.items():
            assert trader.get(path).status == 307
            asked = {"Authorization": f"Bearer {trader.token}"}
            reply = venue.send("GET", API + path, headers=asked, port=venue.ports["query_port"])
            assert (reply.status, reply.code, reply.headers.get("retry-after")) == (503, 1020, "1"), path
            venue.described("query_port").hold("GET", API + path, reply)

    found = [followed(trader, path, 0).json for path, trader in ways.items()]
    assert found[:2] == [canceled, filled]
    assert [trade["price"] for trade in page["items"] + found[2]["items"]] == ["104", "103", "102", "101"]


def test_candles_and_deep_books_are_where_the_engine_sends_for_them(venue: RunningVenue) -> None:
    market, alice, bob = venue.market(), venue.account("limits"), venue.account("limits")
    for price in range(1, 151):
        alice.placed(market, "sell", "1", str(1_000 + price))
    for price in ("1002", "1001"):
        bob.placed(market, "buy", "0.5", price)
    seq = forget(venue)

    deep = followed(bob, f"/market/{market}/book?depth=1000", seq).json
    by_order = followed(bob, f"/market/{market}/book?depth=101&level=3", seq).json
    shown = venue.ok(bob.get(f"/market/{market}/book?depth=100"))
    candles = followed(bob, f"/market/{market}/candles?interval=1d", seq).json

    assert (deep["asks"][:100], deep["checksum"]) == (shown["asks"], shown["checksum"])
    assert len(deep["asks"]) == 149 and deep["asks"][-1] == ["1150", "1"] and deep["bids"] == []
    assert [level[:2] for level in by_order["asks"]] == deep["asks"][:101]
    assert [
        (c["open"], c["high"], c["low"], c["close"], c["volume"], c["trades"]) for c in candles["items"]
    ] == [("1001", "1001", "1001", "1001", "1", 2)]


def test_query_answers_what_its_document_describes_and_nothing_else(venue: RunningVenue) -> None:
    market, alice = venue.market(), venue.account("limits")
    placed = alice.placed(market, "sell", "1", "100", client_order_id="described")
    alice.placed(market, "buy", "1", "100")
    seq, port = forget(venue), venue.ports["query_port"]
    followed(alice, "/fills", seq)
    described = venue.described("query_port")
    names = {"order_id": placed["order_id"], "client_order_id": "described", "symbol": market}

    for path, item in described.document["paths"].items():
        concrete = path.format_map(names)
        for prefix, method in itertools.product(("", "/s/a"), ("GET", "POST", "PUT", "DELETE")):
            headers = {"Authorization": f"Bearer {alice.token}"}
            reply = venue.send(method, prefix + concrete, None, headers, port)
            assert reply.status == (200 if method.lower() in item else 405), (
                method,
                prefix + concrete,
                reply,
            )
            described.hold(method, prefix + concrete, reply)
        open_to_all = venue.send("GET", concrete, port=port).status == 200
        assert open_to_all == (not item["get"]["security"])
    routed = {path for path, _ in query_routes("a", None, int)} | {f"{API}/openapi.json"}
    assert described.document["paths"].keys() == routed


def test_a_venue_whose_every_process_was_killed_comes_back(venue: RunningVenue) -> None:
    market, alice = venue.market(), venue.account("limits")
    resting = alice.placed(market, "buy", "1", "10")
    canceled = alice.placed(market, "buy", "1", "11")["order_id"]
    venue.ok(alice.delete(f"/orders/{canceled}"))

    venue.kill9()
    venue.start()

    assert alice.order(resting["order_id"]) == resting
    seq = forget(venue)
    assert followed(alice, f"/orders/{canceled}", seq).json["status"] == "canceled"


def test_what_query_answered_last_is_in_its_log(venue: RunningVenue) -> None:
    headers = {"X-Request-Id": "the-last-read"}
    reply = venue.send("GET", f"{API}/orders", headers=headers, port=venue.ports["query_port"])
    ended = venue.end(names=("query",))
    venue.start()

    assert (reply.status, ended) == (401, {"query": 0})
    assert b'"request_id":"the-last-read"' in venue.log("query")


def test_the_venue_ends_cleanly_as_a_whole(venue: RunningVenue) -> None:
    assert venue.stop() == {"engine": 0, "history": 0, "query": 0}
    venue.start()
    assert venue.send("GET", f"{API}/time").status == 200
