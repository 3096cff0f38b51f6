"""One gateway for several shards: symbols and orders find their shard, each tells its events and revoked
tokens, and one that is away is said to be."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.server_process import free_ports
from tests.api.venue_process import RunningVenue
from tests.feed.feed_venue import FeedVenue, until
from tests.gateway.over_grpc import Caller, Failed, ended, failing, limit
from tests.gateway.test_events import told, until_position
from tradsys.client import OrderPool
from tradsys.v1 import orders_pb2 as pb

SECRET = "a secret of two shards, at least 32 characters long"


class Shards:
    """Two venues with one key and one secret, and a gateway that has no journal of its own."""

    def __init__(self, place: Path) -> None:
        key, secret = place / "key", place / "secret"
        key.write_bytes(b"k" * 32)
        key.chmod(0o600)
        secret.write_text(SECRET)
        both = {"hs256_key_file": key, "internal_secret_file": secret}
        self.venues: dict[str, FeedVenue] = {}
        shards = []
        for name, feed_port in zip(("a", "b"), free_ports(2), strict=True):
            venue = FeedVenue(
                place / name, ("engine", "feed"), shard=name, feed_internal_port=feed_port, **both
            )
            shards.append(
                f"{name}=127.0.0.1:{venue.ports['port']}:{venue.ports['internal_port']}:{feed_port}"
            )
            venue.data.mkdir(parents=True)
            # Where the tests' own tokens look for it.
            shutil.copy(key, venue.data / "hs256.key")
            self.venues[name] = venue
        (place / "g").mkdir()
        self.gateway = RunningVenue(place / "g", ("gateway",), gateway_shards=",".join(shards), **both)

    @property
    def all(self) -> list[RunningVenue]:
        return [*self.venues.values(), self.gateway]

    def account(self, name: str) -> str:
        """A token of an account that both shards have."""
        for venue in self.venues.values():
            venue.ok(venue.admin("POST", "/accounts", {"account": name, "mode": "limits"}))
        return self.venues["a"].token(name)

    def market(self, shard: str, symbol: str) -> str:
        body = {"symbol": symbol, "tick_size": "0.01", "lot_size": "0.001"}
        self.venues[shard].ok(self.venues[shard].admin("POST", "/symbols", body))
        return symbol


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    both = Shards(tmp_path_factory.mktemp("shards"))
    try:
        for one in both.all:
            one.start()
        yield both
    finally:
        for one in both.all:
            one.end()


def test_symbols_and_orders_find_their_shard(shards):
    on_a, on_b = shards.market("a", "ONA-USD"), shards.market("b", "ONB-USD")
    with Caller(shards.gateway, shards.account("alice")) as alice:
        placed = [
            alice.place(limit(symbol, "buy", "1", "9", client_order_id=f"on-{symbol}"))
            for symbol in (on_b, on_a)
        ]
        found = alice.get(client_order_id=f"on-{on_b}")
        smaller = alice.replace(order_id=placed[0].order_id, quantity="0.5")
        first = alice.list(limit=10)
        second = alice.list(limit=10, cursor=first.next_cursor)
        only_b = alice.list(symbol=on_b)
        commands = [pb.Command(place=limit(symbol, "buy", "1", "8")) for symbol in (on_a, on_b, on_a)]
        (answer,) = alice.trade(iter([pb.TradeRequest(commands=commands)]))
        gone = [alice.cancel(one.order_id) for one in placed]

    assert [one.order_id[0] for one in placed] == ["b", "a"]
    assert (found.order_id, smaller.remaining_quantity) == (placed[0].order_id, "0.5")
    assert [[one.symbol for one in page.orders] for page in (first, second, only_b)] == [
        [on_a],
        [on_b],
        [on_b],
    ]
    assert (first.next_cursor, second.next_cursor) == ("b/", "")
    assert [one.order.order_id[0] for one in answer.outcomes] == ["a", "b", "a"]
    assert [one.status for one in gone] == [pb.ORDER_STATUS_CANCELED] * 2


def test_a_symbol_of_nobody_and_an_order_of_no_shard_are_not_found(shards):
    with Caller(shards.gateway, shards.account("bob")) as bob:
        failures = [failing(bob.place, limit("NOBODY-USD", "buy", "1", "9")), failing(bob.cancel, "c-1")]

    assert [one.code for one in failures] == [1003, 1007]


def test_each_shard_tells_its_events(shards):
    symbols = {name: shards.market(name, f"EV{name.upper()}-USD") for name in ("a", "b")}
    with Caller(shards.gateway, shards.account("carol")) as carol:
        placed, heard = {}, {}
        for name, symbol in symbols.items():
            start = next(carol.events(shard=name)).position
            live = carol.events(shard=name)
            next(live)
            order = carol.place(limit(symbol, "buy", "1", "9", client_order_id=f"k-{name}"))
            placed[name] = order.order_id
            seq = carol.cancel(order.order_id).seq
            heard[name] = until_position(live, seq)
            again = carol.events(shard=name, from_seq=start.seq, epoch=start.epoch)
            assert next(again).position.gap is False
            assert until_position(again, seq) == heard[name]

    for name in symbols:
        assert [told(one)[:2] for one in heard[name]] == [
            ("accepted", placed[name]),
            ("rested", placed[name]),
            ("closed", placed[name]),
        ]
        assert {one.symbol for one in heard[name]} == {symbols[name]}


@pytest.mark.parametrize("shard", ["", "c"])
def test_events_are_of_one_shard_that_must_be_named(shards, shard):
    with Caller(shards.gateway, shards.account("erin")) as erin:
        failure = ended(erin.events(shard=shard))

    assert (failure.status, failure.code) == ("INVALID_ARGUMENT", 1002)
    assert "a, b" in failure.message


def test_a_token_that_one_shard_revokes_is_refused_and_its_stream_ends(shards):
    shards.account("frank")
    token = shards.venues["a"].token("frank", jti="one-of-b")
    with Caller(shards.gateway, token) as frank:
        stream = frank.events(shard="a")
        next(stream)
        shards.venues["b"].ok(shards.venues["b"].admin("POST", "/tokens/revoke", {"jti": "one-of-b"}))

        def refused() -> Failed | None:
            try:
                frank.list()
            except Failed as failure:
                return failure
            return None

        failures = [until(refused, "the token still holds"), ended(stream)]

    assert [(one.status, one.code) for one in failures] == [("UNAUTHENTICATED", 2002)] * 2


def test_what_a_feed_that_was_away_did_not_tell_is_told_as_a_gap(shards):
    symbol, token = shards.market("b", "GAP-USD"), shards.account("grace")
    venue = shards.venues["b"]
    with OrderPool(f"127.0.0.1:{shards.gateway.ports['grpc_port']}", token, channels=1) as grace:
        first = grace.place(limit(symbol, "buy", "1", "9"))
        stream = grace.events(shard="b")
        next(stream)
        venue.end(signal.SIGTERM, ("feed",))
        grace.place(limit(symbol, "buy", "1", "8"))
        venue.start()
        positions = (one.position for one in stream if one.WhichOneof("message") == "position")
        assert any(position.gap for position in positions)
        # An order from before the gap is known by name.
        grace.cancel(first.order_id)
        closed = next(one.event for one in stream if one.event.kind == pb.EVENT_KIND_CLOSED)

    assert (closed.order_id, closed.symbol) == (first.order_id, symbol)


def test_a_gateway_that_has_not_heard_what_a_shard_has_revoked_takes_nothing_for_it(shards):
    on_a, on_b = shards.market("a", "FRA-USD"), shards.market("b", "FRB-USD")
    token = shards.account("heidi")
    venue = shards.venues["b"]
    venue.end(signal.SIGTERM, ("feed",))
    try:
        shards.gateway.end()
        shards.gateway.start()
        with Caller(shards.gateway, token) as heidi:
            message = pb.TradeRequest(commands=[pb.Command(place=limit(on_b, "buy", "1", "9"))])
            refusals = [failing(heidi.place, limit(on_b, "buy", "1", "9")), ended(heidi.events(shard="b"))]
            (answer,) = heidi.trade(iter([message]))
            placed = heidi.place(limit(on_a, "buy", "1", "9"))
            venue.start()
            until(lambda: told_of(shards.gateway) == ["a", "b"], "the feed is not followed")
            late = heidi.place(limit(on_b, "buy", "1", "9"))
    finally:
        venue.start()

    assert [(one.status, one.code) for one in refusals] == [("UNAVAILABLE", 1020)] * 2
    assert [one.error.code for one in answer.outcomes] == [1020]
    assert [one.order_id[0] for one in (placed, late)] == ["a", "b"]


def told_of(gateway: RunningVenue) -> list[str]:
    """The shards whose journals the gateway is told."""
    followed: list[str] = gateway.send(
        "GET", "/internal/status", port=gateway.ports["gateway_ops_port"]
    ).json["followed"]
    return followed


def test_the_journal_is_told_to_nobody_without_the_secret(shards):
    port = int(shards.venues["a"].env["TRADSYS_FEED_INTERNAL_PORT"])
    upgrade = {
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    asked = [
        ("/internal/journal", SECRET[:-1], port),
        ("/internal/journal", "", port),
        ("/ws", SECRET, port),
        ("/internal/journal", SECRET, shards.venues["a"].ws_port),
    ]
    replies = [
        shards.venues["a"].send("GET", path, headers=upgrade | {"X-Internal-Secret": secret}, port=port)
        for path, secret, port in asked
    ]

    assert [one.status for one in replies] == [404] * 4


def test_a_shard_that_is_away_keeps_nobody_from_the_other(shards):
    on_a, on_b = shards.market("a", "AWA-USD"), shards.market("b", "AWB-USD")
    with Caller(shards.gateway, shards.account("dave")) as dave:
        dave.place(limit(on_b, "buy", "1", "9"))
        shards.venues["b"].end(signal.SIGTERM, ("engine",))
        away = failing(dave.place, limit(on_b, "buy", "1", "9"))
        there = dave.place(limit(on_a, "buy", "1", "9"))
        shards.venues["b"].start()
        back = dave.place(limit(on_b, "buy", "1", "9"))

    assert (away.status, away.code) == ("UNAVAILABLE", 1020)
    assert (there.status, back.status) == (pb.ORDER_STATUS_NEW, pb.ORDER_STATUS_NEW)
