"""W3: whatever a client misses, it notices and gets back: no book stays wrong, and none is silently wrong.

COUNT_W3 gaps (60; 1,000 in a release), by turns: a message that the client drops, a connection that
breaks. And a soak of readers of both kinds of book that come and go as chance has it, under load: in the end
each one's book is the engine's.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from tests.feed.feed_venue import FeedVenue, feed_venue
from tradsys.client.book import LocalBook, LocalOrderBook, OutOfStep
from tradsys.codec.stream_v1 import BookMessage, OrderBookMessage

GAPS = int(os.environ.get("COUNT_W3", "60"))
CLIENTS = 6
WAIT_S = 60.0
KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "book": (LocalBook, BookMessage),
    "book_l3": (LocalOrderBook, OrderBookMessage),
}


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedVenue]:
    with feed_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


class Load:
    """Batches of orders that rest, trade and are canceled, until told to stop."""

    def __init__(self, venue: FeedVenue, symbol: str) -> None:
        self._venue, self._symbol = venue, symbol
        self._trader = venue.account(mode="limits")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        chance = random.Random(3)
        try:
            while not self._stop.wait(0.01):
                orders = [
                    {
                        "symbol": self._symbol, "side": chance.choice(("buy", "sell")), "type": "limit",
                        "quantity": f"{chance.randint(1, 9)}", "price": f"{100 + chance.randint(-12, 12)}",
                    }
                    for _ in range(10)
                ]  # fmt: skip
                reply = self._venue.ok(self._trader.post("/orders/batch", {"orders": orders}))
                placed = [row["order"]["order_id"] for row in reply["results"]]
                self._trader.post("/orders/cancel-batch", {"order_ids": chance.sample(placed, 4)})
        except BaseException as failure:
            self.failure = failure


class Follower:
    """A client that keeps one book by the rules, and loses messages and its line on purpose."""

    def __init__(self, venue: FeedVenue, symbol: str, channel: str, depth: int, compressed: bool) -> None:
        self._venue, self._symbol, self._channel, self._depth = venue, symbol, channel, depth
        self._options: dict[str, Any] = {"ping_interval": None} | (
            {"compression": "deflate"} if compressed else {}
        )
        make, self._message = KINDS[channel]
        self.book: Any = make()
        self.healed = {"dropped": 0, "broken": 0}
        self.filled = self.snapshots = 0
        self._ids = itertools.count(1)
        self._awaited = 0
        """The id of a request that is not answered yet: what comes before its answer is of the past."""
        self._connection = venue.connection(**self._options)
        self._ask("subscribe")

    def _ask(self, op: str, *, resume: bool = False) -> None:
        channel = {"name": self._channel, "symbols": [self._symbol], "depth": self._depth}
        if resume:
            channel |= {"from_seq": self.book.seq, "epoch": self.book.epoch}
        self._awaited = next(self._ids)
        self._connection.send(json.dumps({"op": op, "id": self._awaited, "channels": [channel]}))

    def read_one(self, *, drop: bool = False, timeout_s: float = WAIT_S) -> str:
        """Read a message and do what the rules say; what it was: "", "dropped", "reply", "taken", "gap"."""
        text = self._connection.recv(timeout_s)
        said = json.loads(text)
        if said.get("id") == self._awaited:
            assert said["ok"], said
            self._awaited = 0
            if "filled" in said["result"]["channels"][0]:
                self.filled += 1
                self.book.resume()
            return "reply"
        if said.get("ch") != self._channel or self._awaited:
            return ""
        if drop and said["type"] == "delta":
            return "dropped"
        try:
            self.book.take(msgspec.json.decode(text, type=self._message))
        except OutOfStep as lost:
            assert lost.why == "gap", lost
            self._ask("resync", resume=True)
            return "gap"
        self.snapshots += said["type"] == "snapshot"
        return "taken"

    def lose_a_message(self) -> None:
        while self.read_one(drop=True) != "dropped":
            pass
        while (was := self.read_one()) != "gap":
            # Who is slow may be sent a snapshot just now, which heals it as well.
            if was == "taken":
                break
        self._heal()
        self.healed["dropped"] += 1

    def lose_the_line(self) -> None:
        self._connection.socket.close()
        self._connection = self._venue.connection(**self._options)
        self._ask("subscribe", resume=self.book.seq >= 0)
        self._heal()
        self.healed["broken"] += 1

    def _heal(self) -> None:
        """Until the book goes on: messages that follow what it has, or a snapshot."""
        while self.read_one() != "taken":
            pass

    def follow(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                self.read_one(timeout_s=left)
            except TimeoutError:
                return

    def is_the_engines(self) -> bool:
        level = 3 if self._channel == "book_l3" else 2
        path = f"/market/{self._symbol}/book?depth={self._depth}&level={level}"
        engine = self._venue.ok(self._venue.call("GET", path))
        kept = self.book.orders(self._depth) if level == 3 else self.book.levels(self._depth)
        return [engine["bids"], engine["asks"]] == [[list(row) for row in half] for half in kept]

    def close(self) -> None:
        self._connection.close()


def agree(followers: list[Follower]) -> None:
    deadline = time.monotonic() + WAIT_S
    for follower in followers:
        while not follower.is_the_engines():
            assert time.monotonic() < deadline, "a book is not the engine's"
            follower.follow(0.2)


def test_each_gap_is_noticed_and_healed(venue):
    symbol = venue.market()
    kinds = list(itertools.product(("book", "book_l3"), (10, 100), (False, True)))
    with Load(venue, symbol):
        followers = [Follower(venue, symbol, *kind) for kind in kinds]
        for number in range(GAPS):
            follower = followers[number % len(followers)]
            if number // len(followers) % 2:
                follower.lose_the_line()
            else:
                follower.lose_a_message()
    agree(followers)

    assert sum(sum(follower.healed.values()) for follower in followers) == GAPS
    filled, snapshots = (sum(getattr(one, name) for one in followers) for name in ("filled", "snapshots"))
    print(f"\nW3: {GAPS} gaps healed, {filled} with the messages themselves; {snapshots} snapshots in all")
    assert filled
    for follower in followers:
        follower.close()


def test_clients_that_come_and_go_all_have_the_engines_book_in_the_end(venue):
    symbol = venue.market()
    chance = random.Random(11)
    faults: list[BaseException] = []

    def live(seed: float) -> Follower:
        mine = random.Random(seed)
        kind = mine.choice(("book", "book_l3"))
        follower = Follower(venue, symbol, kind, mine.choice((10, 50, 100)), mine.random() < 0.5)
        for _ in range(max(2, GAPS // 20)):
            follower.follow(mine.random() * 0.2)
            try:
                mine.choice((follower.lose_the_line, follower.lose_a_message, lambda: None))()
            except ConnectionClosed as fault:
                faults.append(fault)
        return follower

    with Load(venue, symbol):
        followers: list[Follower] = []
        seeds = [chance.random() for _ in range(CLIENTS)]
        threads = [threading.Thread(target=lambda seed=seed: followers.append(live(seed))) for seed in seeds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)

    assert (faults, len(followers)) == ([], CLIENTS)
    agree(followers)
    for follower in followers:
        follower.close()
