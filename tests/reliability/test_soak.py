"""Soak: readers of every form, fast and slow, come and go while the book moves and the feed is killed.

COUNT_SOAK seconds (8; 120 in a release), with a kill -9 of the feed each half minute. In the end every
reader's book is the engine's, row by row, and each has proved its checksum at every change.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection

from tests.feed.feed_venue import FeedVenue, channel, feed_venue
from tests.reliability.test_w3_gaps import Load
from tradsys.client import SyncStreams
from tradsys.client.book import LocalBook, LocalOrderBook, OutOfStep
from tradsys.codec.stream_v1 import FRAME_HEADER, BookMessage, OrderBookMessage

SECONDS = int(os.environ.get("COUNT_SOAK", "8"))
KILL_EACH_S = 30
WAIT_S = 60.0
AWAY = (ConnectionClosed, InvalidHandshake, InvalidMessage, OSError, EOFError)
FORMS = (
    ("tradsys.json.v1", "book", None),
    ("tradsys.json.v1", "book", "deflate"),
    ("tradsys.json.v1", "book_l3", None),
    ("tradsys.bin.v1", "book", None),
    ("tradsys.bin.v2", "book", None),
)
"""(subprotocol, channel, compression). In bin.v1 a book is JSON between the frames of prices."""


class Reader:
    """One client in a thread of its own, which loses its line as chance has it."""

    def __init__(self, venue: FeedVenue, symbol: str, form: tuple[Any, ...], slow: bool, seed: int) -> None:
        self._venue, self._symbol, self._slow = venue, symbol, slow
        self._subprotocol, self._channel, self._compression = form
        self._chance = random.Random(seed)
        self._depth = self._chance.choice((10, 50, 100))
        self._binary = self._subprotocol == "tradsys.bin.v2"
        self.name = f"{self._subprotocol} {self._channel} {self._compression} {'slow' if slow else 'fast'}"
        self.book: Any = LocalOrderBook() if self._channel == "book_l3" else LocalBook()
        self.prices = self.lost = 0
        self.failure: BaseException | None = None
        self._ids = itertools.count(1)
        self._awaited = 0
        self._connection: ClientConnection | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._stop = threading.Event()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Read no more, and let others look at the book."""
        self._stop.set()
        self._thread.join(WAIT_S)
        if self.failure is not None:
            raise AssertionError(f"{self.name}: {self.failure!r}") from self.failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if self._chance.random() < 0.05:
                    self._lose_the_line()
                if self._slow:
                    time.sleep(self._chance.random() * 0.5)
                self.read(self._chance.random() * 0.2)
        except BaseException as failure:
            self.failure = failure

    def _lose_the_line(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self.lost += 1
            # Without a word, or as one should.
            connection.socket.close() if self._chance.random() < 0.5 else connection.close()

    def _connected(self) -> ClientConnection:
        if self._connection is not None:
            return self._connection
        options: dict[str, Any] = {"compression": self._compression, "ping_interval": None}
        if self._slow:
            options |= {"max_queue": 1, "sock": socket.socket()}
            options["sock"].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            options["sock"].connect(("127.0.0.1", self._venue.ws_port))
        self._connection = self._venue.connection(self._subprotocol, **options)
        # Frames of bin.v2 are numbered by stream, and another connection may have another stream.
        # A book of orders whose snapshot was cut between two pieces has nothing to go on from.
        self._ask("subscribe", resume=self.book.in_step and not self._binary)
        return self._connection

    def _ask(self, op: str, *, resume: bool) -> None:
        wish = channel(self._channel, self._symbol, depth=self._depth)
        if resume:
            wish |= {"from_seq": self.book.seq, "epoch": self.book.epoch}
        wishes = [wish] if op == "resync" else [wish, channel("price", self._symbol)]
        self._awaited = next(self._ids)
        assert self._connection is not None
        self._connection.send(json.dumps({"op": op, "id": self._awaited, "channels": wishes}))

    def read(self, seconds: float) -> None:
        """Read what comes within a time."""
        until = time.monotonic() + seconds
        try:
            while (left := until - time.monotonic()) > 0:
                self._take(self._connected().recv(left))
        except TimeoutError:
            pass
        except AWAY:
            # The feed was killed, or has cut off who did not read.
            self._connection = None
            time.sleep(0.1)

    def _take(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            if not self._binary:
                self.prices += len(text) // 32
            elif FRAME_HEADER.unpack_from(text)[0] != 1 and not self._awaited:
                self._apply(lambda: self.book.take_frame(text))
            return
        said = json.loads(text)
        if said.get("id") == self._awaited:
            assert said["ok"], said
            self._awaited = 0
            if "filled" in said["result"]["channels"][0]:
                self.book.resume()
        elif said.get("ch") == self._channel and not self._awaited:
            kind = OrderBookMessage if self._channel == "book_l3" else BookMessage
            self._apply(lambda: self.book.take(msgspec.json.decode(text, type=kind)))

    def _apply(self, take: Any) -> None:
        try:
            take()
        except OutOfStep as lost:
            # A checksum that differs is a fault of the venue.
            assert lost.why in ("gap", "epoch"), lost
            self._ask("resync", resume=False)

    def is_the_engines(self) -> bool:
        of_orders = self._channel == "book_l3"
        engine = sides_of(self._venue, self._symbol, self._depth, 3 if of_orders else 2)
        mine = self.book.orders(self._depth) if of_orders else self.book.levels(self._depth)
        return self.book.in_step and engine == mine

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def sides_of(venue: FeedVenue, symbol: str, depth: int, level: int = 2) -> Any:
    """(bids, asks) of the engine, as the client's books have them. Very many orders are told by `query`,
    when it has followed."""
    path = f"/market/{symbol}/book?depth={depth}&level={level}"
    reply = venue.call("GET", path)
    if reply.status == 307:
        upto = int(reply.headers["x-seq"])
        deadline = time.monotonic() + WAIT_S
        while int((reply := venue.call("GET", path, port="query_port")).headers["x-read-seq"]) < upto:
            assert time.monotonic() < deadline, "query does not follow"
            time.sleep(0.1)
    engine = venue.ok(reply)
    return tuple([tuple(row) for row in engine[side]] for side in ("bids", "asks"))


@pytest.fixture
def venue(tmp_path: Any) -> Iterator[FeedVenue]:
    with feed_venue(tmp_path, ("engine", "history", "feed", "query")) as running:
        yield running


@pytest.mark.timeout(200 + 2 * SECONDS)
def test_after_a_long_evening_every_readers_book_is_the_engines(venue):
    symbol = venue.market()
    forms = itertools.product(FORMS, (False, True))
    readers = [Reader(venue, symbol, form, slow, seed) for seed, (form, slow) in enumerate(forms)]
    kills = 0
    with SyncStreams(f"ws://127.0.0.1:{venue.ws_port}", patience_s=60) as streams:
        books = streams.book(symbol, depth=100)
        next(books)
        with Load(venue, symbol):
            for reader in readers:
                reader.start()
            end = time.monotonic() + SECONDS
            kill_at = time.monotonic() + KILL_EACH_S
            while time.monotonic() < end:
                time.sleep(0.1)
                if time.monotonic() > kill_at and time.monotonic() + KILL_EACH_S / 2 < end:
                    # Not by the venue's own way: that hangs up on the load, too.
                    feed = venue.processes.pop("feed")
                    feed.kill()
                    feed.wait()
                    venue.start()
                    kills += 1
                    kill_at = time.monotonic() + KILL_EACH_S
                with contextlib.suppress(StopIteration):
                    next(books)
        for reader in readers:
            reader.stop()
        for reader in readers:
            deadline = time.monotonic() + WAIT_S
            while not reader.is_the_engines():
                assert time.monotonic() < deadline, f"the book of {reader.name} is not the engine's"
                reader.read(0.2)
        # Nothing moves any more: the client's iterator has, or gets, the last state.
        last = venue.account(mode="limits").placed(symbol, "buy", "1", "1")
        book = next(book for book in books if book.seq >= last["seq"])
        assert book.levels(100) == sides_of(venue, symbol, 100)

    lost, snapshots, gaps, deltas = (
        sum(each(one) for one in readers)
        for each in (
            lambda one: one.lost,
            lambda one: one.book.snapshots,
            lambda one: one.book.gaps,
            lambda one: one.book.deltas,
        )
    )
    print(
        f"\nsoak: {SECONDS} s, {len(readers)} readers, {lost} lines lost, {kills} kills of the feed,"
        f" {snapshots} snapshots ({gaps} with gap), {deltas} deltas; {streams.connections} lines of a client"
    )
    for reader in readers:
        assert reader.book.deltas, reader.name
        reader.close()
    assert lost
    assert sum(one.prices for one in readers if one.name.startswith("tradsys.bin.v1"))
