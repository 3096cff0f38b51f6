"""What no client should do: each is answered with an error or a close, and nobody else notices."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.feed.feed_venue import Client, FeedVenue, same_book, until


@pytest.mark.parametrize(
    ("text", "id", "code"),
    [
        ("{", None, 1002),
        ("[]", None, 1002),
        ("\ud7ff", None, 1002),
        ("[" * 60_000, None, 1002),
        ('{"op":"ping","id":7,"id":7}', 7, 1002),
        ('{"op":"dance","id":1}', 1, 1002),
        ('{"op":"ping","id":"two","more":1}', "two", 1002),
        ('{"op":"ping","id":1.5}', None, 1002),
        ('{"op":"subscribe","id":3}', 3, 1002),
        ('{"op":"subscribe","id":3,"channels":[]}', 3, 1002),
        ('{"op":"subscribe","id":4,"channels":[{"name":"gossip","symbols":["BTC-USD"]}]}', 4, 1002),
        ('{"op":"subscribe","id":5,"channels":[{"name":"book"}]}', 5, 1002),
        ('{"op":"subscribe","id":5,"channels":[{"name":"book","symbols":[]}]}', 5, 1002),
        ('{"op":"subscribe","id":6,"channels":[{"name":"book","symbols":["NO-PE"]}]}', 6, 1003),
        ('{"op":"subscribe","id":7,"channels":[{"name":"book","symbols":["BTC-USD"],"depth":7}]}', 7, 1002),
        ('{"op":"subscribe","id":8,"channels":[{"name":"orders","symbols":["BTC-USD"]}]}', 8, 1002),
        ('{"op":"subscribe","id":8,"channels":[{"name":"orders"}]}', 8, 2001),
        ('{"op":"auth","id":9}', 9, 1002),
    ],
)
def test_a_wrong_request_is_answered_with_its_id_and_an_error(
    venue: FeedVenue, text: str, id: Any, code: int
) -> None:
    with venue.feed() as client:
        client.connection.send(text)
        reply = client.reply(id)
        assert (reply["ok"], reply["error"]["code"]) == (False, code)
        client.asked("ping")


def test_a_request_with_one_wrong_channel_subscribes_to_none(venue: FeedVenue) -> None:
    symbol = venue.market()
    right, wrong = {"name": "book", "symbols": [symbol]}, {"name": "book", "symbols": ["NO-PE"]}
    with venue.feed() as client:
        assert client.ask("subscribe", channels=[right, wrong])["error"]["details"] == {"symbol": "NO-PE"}
        assert client.ask("resync", channels=[right])["error"]["code"] == 1002


@pytest.mark.parametrize(
    ("message", "code"), [(b"\x00\xff" * 50, 1003), ("x" * 70_000, 1009)], ids=["binary", "oversized"]
)
def test_a_message_of_the_wrong_kind_ends_the_connection(
    venue: FeedVenue, message: str | bytes, code: int
) -> None:
    with venue.feed() as client:
        client.connection.send(message)
        assert client.wait_closed()[0] == code


def test_a_request_may_come_in_fragments_but_not_without_an_end(venue: FeedVenue) -> None:
    with venue.feed() as client:
        client.connection.send(iter(['{"op":', '"ping",', '"id":"f"}']))
        assert client.reply("f")["ok"]
        with pytest.raises((ConnectionClosed, OSError)):
            client.connection.send("x" * 10_000 for _ in range(10_000))
        # A socket that is closed with something unread in it resets, and may take the close frame along.
        assert client.wait_closed()[0] in (1009, 1006)


def test_frames_that_are_no_websocket_end_the_connection(venue: FeedVenue) -> None:
    with venue.feed() as client:
        client.connection.socket.sendall(b"\xff" * 4096)
        assert client.wait_closed()[0] in (1002, 1006)
    with venue.feed() as another:
        another.asked("ping")


def test_a_connection_has_so_many_subscriptions_and_no_more(venue: FeedVenue) -> None:
    symbols = [venue.market() for _ in range(51)]
    names = ("price", "book", "trades", "ticker")
    with venue.feed() as client:
        wish = [{"name": name, "symbols": symbols[:50]} for name in names]
        assert len(client.asked("subscribe", channels=wish)["channels"]) == 200
        reply = client.ask("subscribe", channels=[{"name": "book", "symbols": symbols[50:]}])
        assert (reply["ok"], reply["error"]["code"]) == (False, 1002)


def test_who_asks_too_often_is_refused_and_others_are_not(venue: FeedVenue) -> None:
    with venue.feed() as greedy, venue.feed() as modest:
        for _ in range(1500):
            greedy.connection.send('{"op":"ping","id":"p"}')
        until(lambda: greedy._replies.get("p", {"ok": True})["ok"] is False)
        assert greedy.reply("p")["error"]["code"] == 3029
        modest.asked("ping")


@pytest.mark.parametrize(
    ("options", "status"),
    [({"origin": "https://elsewhere.example"}, 403), ({"subprotocol": "soap"}, 400)],
)
def test_who_may_not_connect_is_told_so(venue: FeedVenue, options: dict[str, Any], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        venue.connection(**options)
    assert refused.value.response.status_code == status


def test_pages_of_an_allowed_origin_may_connect(venue: FeedVenue) -> None:
    with venue.feed(origin="https://pages.example") as client:
        client.asked("ping")


@pytest.mark.parametrize(("path", "status"), [("/readyz", 200), ("/ws", 400), ("/", 404), ("/ws/..", 404)])
def test_plain_http_is_answered(venue: FeedVenue, path: str, status: int) -> None:
    assert venue.send("GET", path, port=venue.ws_port).status == status


class Deaf:
    """A connection that has subscribed and does not read."""

    def __init__(self, venue: FeedVenue, *requests: dict[str, Any]) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.connect(("127.0.0.1", venue.ws_port))
        self.connection = venue.connection(sock=sock, max_queue=1)
        for id, request in enumerate(requests):
            self.connection.send(json.dumps({"id": id, **request}))
            reply = json.loads(self.connection.recv())
            while reply.get("id") != id:
                reply = json.loads(self.connection.recv())
            assert reply["ok"], reply


def test_a_slow_reader_of_books_is_sent_a_fresh_snapshot_and_delays_nobody(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    books = [{"name": "book", "symbols": [symbol], "depth": depth} for depth in (500, 1000)]
    deaf = Deaf(venue, {"op": "subscribe", "channels": books})
    with venue.feed() as healthy:
        healthy.asked("subscribe", channels=books)
        for _ in range(15):
            for side, first in (("buy", 1_000), ("sell", 5_000)):
                order = {"symbol": symbol, "side": side, "type": "limit", "quantity": "123456.789"}
                orders = [order | {"price": f"{price}.01"} for price in range(first, first + 500)]
                venue.ok(trader.post("/orders/batch", {"orders": orders}))
        until(lambda: same_book(venue, healthy, symbol, 1000) and same_book(venue, healthy, symbol, 500))
        whole = healthy.book(symbol, 1000)
        assert (whole.snapshots, whole.gaps) == (1, 0)

        with Client(deaf.connection) as awake:
            until(lambda: awake.check() or awake.book(symbol, 1000).gaps)
            until(lambda: same_book(venue, awake, symbol, 1000) and same_book(venue, awake, symbol, 500))
            assert awake.book(symbol, 1000).deltas < whole.deltas <= 30


def test_a_slow_reader_of_its_orders_is_closed_with_4008(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    slow = Deaf(
        venue, {"op": "auth", "token": trader.token}, {"op": "subscribe", "channels": [{"name": "orders"}]}
    )
    order = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": "1"}
    placed = threading.Event()
    code = 0

    def read() -> None:
        nonlocal code
        try:
            while not placed.is_set():
                slow.connection.recv()
                time.sleep(2)
            # It is closed by now, and still reads slowly for longer than one may read nothing.
            for _ in range(3):
                slow.connection.recv()
                time.sleep(2)
            while True:
                slow.connection.recv()
        except ConnectionClosed:
            code = slow.connection.close_code or 0

    reader = threading.Thread(target=read)
    reader.start()
    with venue.feed() as healthy:
        healthy.asked("auth", token=trader.token)
        healthy.subscribe("orders")
        for _ in range(30):
            venue.ok(trader.post("/orders/batch", {"orders": [order] * 1000}))
        until(
            lambda: sum(len(message["items"]) for message in healthy.of("orders")) == 30_000,
            "the healthy client misses orders",
        )
        placed.set()
        reader.join(60)

    assert code == 4008


def ended_as_slow(venue: FeedVenue) -> float:
    """Connections that the feed has ended because their clients did not read."""
    page = venue.send("GET", "/metrics", port=venue.ports["feed_ops_port"]).body.decode()
    (line,) = (
        one for one in page.splitlines() if one.startswith('tradsys_feed_disconnects_total{reason="slow"')
    )
    return float(line.split()[-1])


def test_who_reads_nothing_of_its_orders_is_cut_off(venue: FeedVenue) -> None:
    symbol = venue.market()
    trader = venue.account(mode="limits")
    before = ended_as_slow(venue)
    deaf = Deaf(
        venue, {"op": "auth", "token": trader.token}, {"op": "subscribe", "channels": [{"name": "orders"}]}
    )
    order = {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": "1"}
    for _ in range(20):
        venue.ok(trader.post("/orders/batch", {"orders": [order] * 1000}))

    # It reads nothing, and the feed does not wait for that for ever.
    until(lambda: ended_as_slow(venue) > before, "it is still there")
    deaf.connection.socket.close()
