"""Clients that never lose count: each order has a key, and is sent again until it is answered.

Every answer is kept. `verify_journal` then holds all of them against the journal: what was acknowledged is
there, once, with the bytes that were answered; and the journal against the oracle, command for command.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from typing import Any

import msgspec

from tests.api.venue_process import API, HOST, RunningVenue
from tests.core.oracle import OracleShard
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.page.page import Page, boot_id
from tradsys.codec.errors import ERRORS
from tradsys.codec.json_v1 import OrderReply, encode, reply_of
from tradsys.core.messages import ACCEPTED_EVENT, REFUSED_EVENT, CancelOrder, PlaceOrder
from tradsys.core.shard import Shard
from tradsys.venue.outcome import Done

SYMBOL = "BTC-USD"


class Answer(msgspec.Struct):
    """One acknowledged request."""

    account: str
    key: str
    """client_order_id, or "" for a cancel."""
    body: bytes
    status: int
    reply: bytes
    replayed: bool
    order_id: str


class Client(threading.Thread):
    """Sends orders and cancels one after the other, whatever happens to the venue, until told to stop."""

    def __init__(self, venue: RunningVenue, account: str, seed: int, cancel_share: float, rest_s: float):
        super().__init__(daemon=True)
        self.account = account
        self.answers: list[Answer] = []
        self.unknown = 0
        """Requests that had to be sent again, because no answer came or the answer was "unknown"."""
        self.strange: list[tuple[int, bytes]] = []
        self._venue = venue
        self._cancel_share = cancel_share
        self._rest_s = rest_s
        self._token = venue.token(account)
        self._random = random.Random(seed)
        self._done = threading.Event()
        self._connection: http.client.HTTPConnection | None = None
        self._open: list[str] = []

    def finish(self) -> None:
        self._done.set()

    def run(self) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            if self._open and self._random.random() < self._cancel_share:
                self._cancel(self._open.pop(self._random.randrange(len(self._open))))
            else:
                self._place(f"{self.account}-{number}")
            self._done.wait(self._rest_s)

    def _place(self, key: str) -> None:
        draw = self._random
        order = {
            "symbol": SYMBOL,
            "side": draw.choice(("buy", "sell")),
            "type": "limit",
            "price": f"{50000 + draw.randint(-10, 10)}",
            "quantity": f"{draw.randint(1, 20)}",
            "time_in_force": draw.choice(("gtc", "gtc", "gtc", "ioc")),
            "client_order_id": key,
        }
        if draw.random() < 0.02:
            order |= {"price": "50000", "post_only": True, "time_in_force": "gtc"}
        body = json.dumps(order).encode()
        status, reply, replayed = self._until_answered("POST", "/orders", body)
        order_id = json.loads(reply).get("order_id", "")
        self.answers.append(Answer(self.account, key, body, status, reply, replayed, order_id))
        if json.loads(reply).get("status") in ("new", "partially_filled"):
            self._open.append(order_id)

    def _cancel(self, order_id: str) -> None:
        status, reply, _ = self._until_answered("DELETE", f"/orders/{order_id}", None)
        self.answers.append(Answer(self.account, "", b"", status, reply, False, order_id))

    def _until_answered(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes, bool]:
        while True:
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection(HOST, self._venue.ports["port"], timeout=10)
                self._connection.request(method, API + path, body, {"Authorization": f"Bearer {self._token}"})
                answer = self._connection.getresponse()
                reply = answer.read()
                if answer.status < 500:
                    return answer.status, reply, answer.getheader("Idempotent-Replay") == "true"
                if answer.status != 503:
                    self.strange.append((answer.status, reply))
            except (OSError, http.client.HTTPException):
                pass
            self.unknown += 1
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            time.sleep(0.01)


class Load:
    """A few clients at once, each with an account of its own.

    Each rests for a moment after an answer: what a test of minutes is about are its faults, and all that
    was ordered meanwhile has to go through the oracle afterwards.
    """

    def __init__(
        self,
        venue: RunningVenue,
        clients: int = 4,
        seed: int = 1,
        cancel_share: float = 0.3,
        rest_s: float = 0.004,
    ):
        names = [f"load{i}" for i in range(clients)]
        for name in names:
            venue.ok(venue.admin("POST", "/accounts", {"account": name, "mode": "limits"}))
        self.clients = [
            Client(venue, name, seed * 100 + i, cancel_share, rest_s) for i, name in enumerate(names)
        ]

    def start(self) -> None:
        for client in self.clients:
            client.start()

    def finish(self) -> list[Answer]:
        """Stop the clients, which wait for the answer that they are at; all answers."""
        for client in self.clients:
            client.finish()
        for client in self.clients:
            client.join(timeout=60)
            assert not client.is_alive(), "a client waits for ever"
            assert client.strange == []
        return [answer for client in self.clients for answer in client.answers]

    @property
    def acknowledged(self) -> int:
        return sum(len(client.answers) for client in self.clients)

    @property
    def unknown(self) -> int:
        return sum(client.unknown for client in self.clients)


def journal_of(directory: str, shard: str = "a") -> list[Done]:
    """Everything that the journal holds, replayed by the real shard and by the oracle on the way.

    Raises AssertionError at the first command whose events are not the journal's.
    """
    reader = LogReader(directory, OsFiles())
    oracle, real = OracleShard(shard), Shard(shard)
    found = []
    for frame in reader.frames(Page.open(f"{directory}/page", boot_id()).published_seq):
        for seq, entry in enumerate(frame.entries, frame.first_seq):
            expected = oracle.apply(entry.command, seq, frame.time_ns)
            assert expected == entry.events, (
                f"seq {seq}: the oracle says {expected}, the journal {entry.events}"
            )
            instrument = None
            if isinstance(entry.command, PlaceOrder):
                instrument = real.markets[entry.command.symbol].instrument
            assert real.apply(entry.command, seq, frame.time_ns) == entry.events
            found.append(Done(entry.command, seq, frame.time_ns, entry.events, instrument))
    real.check()
    reader.close()
    return found


def verify_journal(directory: str, answers: list[Answer]) -> Counter[str]:
    """Every answer is in the journal, once, with these bytes; nothing was taken twice."""
    done = journal_of(directory)
    by_key: dict[tuple[str, str], Done] = {}
    canceled = set()
    for one in done:
        if isinstance(one.command, PlaceOrder) and one.command.client_order_id:
            key = (one.command.account, one.command.client_order_id)
            assert key not in by_key, f"{key} was taken twice: seq {by_key[key].seq} and {one.seq}"
            by_key[key] = one
        elif isinstance(one.command, CancelOrder):
            canceled.add((one.command.account, f"a-{one.command.order_id}"))
    counts: Counter[str] = Counter()
    for answer in answers:
        if not answer.key:
            assert (answer.account, answer.order_id) in canceled, f"the cancel of {answer.order_id} is lost"
            counts["cancels"] += 1
            continue
        journalled = by_key.get((answer.account, answer.key))
        assert journalled is not None, f"{answer.key} was acknowledged and is lost"
        reply = reply_of(journalled, "a")
        if isinstance(reply, OrderReply):
            assert answer.reply == encode(reply), f"{answer.key} was answered otherwise"
            counts["accepted"] += 1
        else:
            code = reply[0]
            assert journalled.events[0][0] == REFUSED_EVENT
            assert (answer.status, json.loads(answer.reply)["code"]) == (ERRORS[code].status, code)
            counts["refused"] += 1
        counts["replayed"] += answer.replayed
    counts["journalled"] = len(done)
    counts["orders"] = sum(1 for one in done if one.events and one.events[0][0] == ACCEPTED_EVENT)
    return counts


def answers_again(venue: RunningVenue, answers: list[Answer], sample: int, seed: int) -> None:
    """Send a sample of the orders once more: the same bytes come back, and nothing happens."""
    orders = [answer for answer in answers if answer.key]
    chosen: list[Any] = random.Random(seed).sample(orders, min(sample, len(orders)))
    # One for each account: the venue verifies a bounded number of new tokens a second.
    tokens = {account: venue.token(account) for account in {answer.account for answer in chosen}}
    for answer in chosen:
        headers = {"Authorization": f"Bearer {tokens[answer.account]}"}
        again = venue.send("POST", f"{API}/orders", answer.body, headers)
        assert (again.status, again.body) == (answer.status, answer.reply)
        assert again.replayed
