"""A venue with its feed, and a client that holds the feed to its promises.

The client reads in a thread of its own, as programs do that also do something else; it holds every message
against the rules (`prev_seq`, epochs, checksums) before a test looks at what it knows.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.adapters.server_process import free_ports
from tests.api.venue_process import RunningVenue
from tradsys.client.book import LocalBook, LocalOrderBook
from tradsys.codec.market_v1 import checksum_of
from tradsys.codec.stream_v1 import BookMessage, OrderBookMessage

WAIT_S = 30.0
"""How long anything may take; a machine that runs other tests too is slow."""


class FeedVenue(RunningVenue):
    def __init__(self, directory: Path, processes: Sequence[str], **settings: object) -> None:
        (self.ws_port,) = free_ports(1)
        super().__init__(directory, processes, ws_port=self.ws_port, **settings)

    def _is_ready(self, name: str) -> bool:
        if name != "feed":
            return super()._is_ready(name)
        with contextlib.suppress(OSError):
            return self.send("GET", "/readyz", port=self.ws_port).status == 200
        return False

    def feed(self, subprotocol: str = "tradsys.json.v1", **options: Any) -> Client:
        return Client(self.connection(subprotocol, **options))

    def connection(self, subprotocol: str = "tradsys.json.v1", **options: Any) -> ClientConnection:
        """Without the client's rules, for those that break them."""
        return connect(
            f"ws://127.0.0.1:{self.ws_port}/ws",
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            max_size=None,
            open_timeout=WAIT_S,
            **{"compression": None} | options,
        ).__enter__()


@contextlib.contextmanager
def feed_venue(
    directory: Path, processes: Sequence[str] = ("engine", "history", "feed"), **settings: object
) -> Iterator[FeedVenue]:
    venue = FeedVenue(directory, processes, **settings)
    try:
        venue.start()
        yield venue
    finally:
        venue.end()


def until(holds: Callable[[], Any], what: str = "") -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + WAIT_S
    while not (value := holds()):
        assert time.monotonic() < deadline, what or "not within the time"
        time.sleep(0.005)
    return value


class Client:
    """A connection, its replies by id, and what its streams have said."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.messages: list[dict[str, Any]] = []
        """Of streams, in order."""
        self.frames: list[bytes] = []
        """Binary messages, in order."""
        self.beats: list[dict[str, Any]] = []
        self.books: dict[tuple[str, int], LocalBook] = {}
        self.order_books: dict[tuple[str, int], LocalOrderBook] = {}
        self.closed: tuple[int, str] | None = None
        self.failure: BaseException | None = None
        self._replies: dict[Any, dict[str, Any]] = {}
        self._seqs: dict[tuple[str, ...], tuple[int, int]] = {}
        self._ids = itertools.count(1)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for text in self.connection:
                if isinstance(text, bytes):
                    self.frames.append(text)
                else:
                    self._take(json.loads(text))
        except ConnectionClosed:
            pass
        except BaseException as failure:
            self.failure = failure
            self.connection.close()
        self.closed = (self.connection.close_code or 0, self.connection.close_reason or "")

    def _take(self, message: dict[str, Any]) -> None:
        channel = message.get("ch")
        if channel is None:
            self._replies[message["id"]] = message
            return
        if channel == "heartbeat":
            self.beats.append(message)
            return
        if channel == "book":
            key = message["symbol"], message["depth"]
            _follow(self.books, key, LocalBook(), msgspec.convert(message, BookMessage))
        elif channel == "book_l3":
            key = message["symbol"], message["depth"]
            _follow(self.order_books, key, LocalOrderBook(), msgspec.convert(message, OrderBookMessage))
        elif channel != "server_shutdown":
            subject = message.get("symbol") or message["account"]
            stream = (channel, subject, message.get("interval", ""))
            if "prev_seq" in message:
                before = (message["prev_seq"], message["epoch"])
                assert self._seqs[stream] == before, message
            self._seqs[stream] = message["seq"], message["epoch"]
        self.messages.append(message)

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def ask(self, op: str, **members: Any) -> dict[str, Any]:
        """The whole reply."""
        id = next(self._ids)
        self.connection.send(json.dumps({"op": op, "id": id, **members}))
        return self.reply(id)

    def reply(self, id: Any) -> dict[str, Any]:
        until(lambda: id in self._replies or self.closed, f"no reply to {id!r}")
        self.check()
        return self._replies.pop(id)

    def asked(self, op: str, **members: Any) -> dict[str, Any]:
        """The result of a request that must succeed."""
        reply = self.ask(op, **members)
        assert reply["ok"], reply
        result: dict[str, Any] = reply["result"]
        return result

    def subscribe(self, name: str, *symbols: str, **more: Any) -> dict[str, Any]:
        return self.asked("subscribe", channels=[channel(name, *symbols, **more)])

    def of(self, name: str) -> list[dict[str, Any]]:
        """The messages of a channel so far."""
        self.check()
        return [message for message in self.messages if message["ch"] == name]

    def book(self, symbol: str, depth: int = 50) -> LocalBook:
        found: LocalBook = until(lambda: self.books.get((symbol, depth)), f"no book of {symbol}")
        return found

    def wait_closed(self) -> tuple[int, str]:
        until(lambda: self.closed, "still open")
        self.check()
        assert self.closed is not None
        return self.closed

    def close(self) -> None:
        self.connection.close()
        self._thread.join(WAIT_S)
        self.check()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _follow(books: dict[tuple[str, int], Any], key: tuple[str, int], first: Any, message: Any) -> None:
    """Another book with the message applied: a test, which has its own thread, never sees half of one."""
    book = copy.deepcopy(books.get(key, first))
    book.take(message)
    books[key] = book


def channel(name: str, *symbols: str, **more: Any) -> dict[str, Any]:
    return {"name": name, **({"symbols": list(symbols)} if symbols else {}), **more}


def same_book(venue: FeedVenue, client: Client, symbol: str, depth: int = 50) -> bool:
    """The client's book is the engine's as far down as REST shows it, checksum and all."""
    client.check()
    most = min(depth, 100)
    engine = venue.ok(venue.call("GET", f"/market/{symbol}/book?depth={most}"))
    bids, asks = (half[:most] for half in client.book(symbol, depth).levels())
    return (engine["bids"], engine["asks"], engine["checksum"]) == (
        [list(level) for level in bids],
        [list(level) for level in asks],
        checksum_of(bids, asks),
    )
