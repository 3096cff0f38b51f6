"""Nobody touches or sees another account's orders: every attempt is answered as if there were none.

COUNT_CROSS attempts (1,000; 10,000 in `make reliability`), of every kind by turns. Each is made twice: on
an order of somebody else, and on a number that is no order. The two answers must be the same bytes,
except for what says which request it was.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api import records
from tests.api.venue_process import API, Reply, RunningVenue, Trader, running_venue

ATTEMPTS = int(os.environ.get("COUNT_CROSS", "1000"))
VICTIMS = 40


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    with running_venue(tmp_path_factory.mktemp("venue"), segment_bytes=64 << 20) as running:
        yield running


Attempt = Callable[[Trader, str, int], Reply]
"""(attacker, symbol, number of the order)"""


def batch(body: bytes) -> Callable[[Trader], Reply]:
    return lambda attacker: attacker.post("/orders/batch", body, Content_Type=records.BINARY)


ATTEMPTS_OF: dict[str, Attempt] = {
    "look": lambda a, symbol, n: a.get(f"/orders/a-{n}"),
    "look below the shard": lambda a, symbol, n: a.venue.send(
        "GET", f"/s/a{API}/orders/a-{n}", headers={"Authorization": f"Bearer {a.token}"}
    ),
    "cancel": lambda a, symbol, n: a.delete(f"/orders/a-{n}"),
    "replace quantity": lambda a, symbol, n: a.put(f"/orders/a-{n}", {"quantity": "0.5"}),
    "replace price": lambda a, symbol, n: a.put(f"/orders/a-{n}", {"price": "1"}),
    "replace off the grid": lambda a, symbol, n: a.put(f"/orders/a-{n}", {"price": "1.0000001"}),
    "replace at a version": lambda a, symbol, n: a.put(f"/orders/a-{n}", {"price": "1", "version": 7}),
    "replace nothing": lambda a, symbol, n: a.put(f"/orders/a-{n}", {}),
    "cancel in a batch": lambda a, symbol, n: a.post("/orders/cancel-batch", {"order_ids": [f"a-{n}"] * 3}),
    "cancel in binary": lambda a, symbol, n: batch(records.cancel(n))(a),
    "replace in binary": lambda a, symbol, n: batch(records.replace(symbol, n, quantity="0.5"))(a),
    "replace in binary, at a version": lambda a, symbol, n: batch(
        records.replace(symbol, n, price="1", version=0) * 2
    )(a),
    "cancel everything": lambda a, symbol, n: a.delete(f"/orders?symbol={symbol}"),
    "list everything": lambda a, symbol, n: a.get(f"/orders?symbol={symbol}&cursor=a-{n + 1}"),
}

DIFFERS = ("x-request-id", "x-engine-us", "x-seq", "x-durable-seq", "date", "content-length")


def answer(reply: Reply, number: int) -> tuple[int, dict[str, str], bytes]:
    """What an attacker can compare: everything but the number asked for and the count of commands."""
    headers = {name: value for name, value in reply.headers.items() if name not in DIFFERS}
    body = reply.body
    if reply.headers.get("content-type") == records.BINARY:
        found = records.results(body)
        body = repr([one._replace(seq=0, order_id=one.order_id - number, ts=0) for one in found]).encode()
    body = re.sub(rb'"request_id":"[^"]*"', b"", body)
    if "location" in headers:
        headers["location"] = headers["location"].replace(f"a-{number}", "a-…")
    return reply.status, headers, body


def seen(victim: Trader) -> list[object]:
    """Everything that an attack could have changed."""
    return [victim.venue.ok(victim.get(path)) for path in ("/orders?limit=1000", "/balances", "/positions")]


def test_no_attempt_on_anothers_order_succeeds_or_tells_anything(venue: RunningVenue) -> None:
    market = venue.market()
    base = market.removesuffix("-USD")
    victim = venue.account("cash", USD="100000", **{base: "1000"})
    attackers = [
        venue.account("cash", USD="100000", **{base: "1000"}),
        venue.account("limits", "trade read admin"),
    ]
    # Numbers that are no orders, in between those that are: a refused cancel takes one.
    others, none = [], []
    for i in range(VICTIMS):
        side, price = ("buy", str(10 + i)) if i % 2 else ("sell", str(100 + i))
        others.append(
            int(victim.placed(market, side, "1", price, client_order_id=f"key-{i}")["order_id"][2:])
        )
        none.append(attackers[0].delete("/orders/a-1").seq)
    venue.ok(victim.delete(f"/orders/a-{others[0]}"))
    before = seen(victim)

    kinds = itertools.cycle(itertools.product(ATTEMPTS_OF.items(), attackers))
    different = []
    for i, ((name, attempt), attacker) in zip(range(ATTEMPTS), kinds, strict=False):
        real, missing = others[i // 7 % VICTIMS], none[i // 7 % VICTIMS]
        first, second = attempt(attacker, market, real), attempt(attacker, market, missing)
        if answer(first, real) != answer(second, missing):
            different.append((name, real, first, second))

    assert different == []
    assert seen(victim) == before
    for attacker in attackers:
        assert venue.ok(attacker.get("/orders"))["items"] == []
        assert attacker.balance("USD") in (("100000", "0"), ("0", "0"))


def test_a_key_of_another_account_is_no_key(venue: RunningVenue) -> None:
    market, victim, attacker = venue.market(), venue.account("limits"), venue.account("limits")
    victim.placed(market, "buy", "1", "10", client_order_id="theirs")

    for key in ("theirs", "nobodys"):
        reply = attacker.get(f"/orders/by-client/{key}")
        assert (reply.status, reply.body) == (307, b"")
        mine = attacker.placed(market, "buy", "2", "9", client_order_id=key)
        assert attacker.venue.ok(attacker.get(f"/orders/by-client/{key}")) == mine
    assert venue.ok(victim.get("/orders/by-client/theirs"))["quantity"] == "1"


def test_history_tells_nobody_of_anothers_orders(tmp_path: Path) -> None:
    """What the engine does not answer, query does: it knows every order, and asks whose."""
    with running_venue(tmp_path, ("engine", "history", "query")) as venue:
        market, victim, attacker = venue.market(), venue.account("limits"), venue.account("limits")
        resting = victim.placed(market, "buy", "1", "10", client_order_id="theirs")["order_id"]
        closed = victim.placed(market, "buy", "1", "11")["order_id"]
        venue.ok(victim.delete(f"/orders/{closed}"))
        victim.placed(market, "sell", "1", "10")
        last = attacker.delete("/orders/a-1").seq
        query = venue.ports["query_port"]

        def ask(path: str, trader: Trader) -> Reply:
            headers = {"Authorization": f"Bearer {trader.token}"}
            return venue.send("GET", f"{API}{path}", headers=headers, port=query)

        while int(ask("/orders", victim).headers.get("x-read-seq", "0")) < last:
            time.sleep(0.05)
        assert {one["order_id"] for one in ask("/orders?status=canceled", victim).json["items"]} == {closed}
        assert len(ask("/fills", victim).json["items"]) == 2
        missing = ask(f"/orders/a-{last}", attacker)
        for path in (f"/orders/{resting}", f"/orders/{closed}", "/orders/by-client/theirs"):
            reply = ask(path, attacker)
            assert (reply.status, reply.code) == (404, 1007)
            assert [reply.json[name] for name in ("message", "details")] == [
                missing.json[name] for name in ("message", "details")
            ]
        assert ask("/fills", attacker).json["items"] == []
        for status in ("open", "filled", "canceled", "expired", "rejected"):
            assert json.loads(ask(f"/orders?status={status}", attacker).body)["items"] == []
