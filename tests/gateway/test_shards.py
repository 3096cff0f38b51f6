"""One gateway for several shards: symbols and orders find their shard, and say so when it is away."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.venue_process import RunningVenue
from tests.gateway.over_grpc import Caller, ended, failing, limit
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
        self.venues: dict[str, RunningVenue] = {}
        for name in ("a", "b"):
            venue = RunningVenue(place / name, ("engine",), shard=name, **both)
            venue.data.mkdir(parents=True)
            # Where the tests' own tokens look for it.
            shutil.copy(key, venue.data / "hs256.key")
            self.venues[name] = venue
        shards = ",".join(
            f"{name}=127.0.0.1:{venue.ports['port']}:{venue.ports['internal_port']}"
            for name, venue in self.venues.items()
        )
        (place / "g").mkdir()
        self.gateway = RunningVenue(place / "g", ("gateway",), gateway_shards=shards, **both)

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


def test_without_a_journal_there_are_no_events(shards):
    with Caller(shards.gateway, shards.account("carol")) as carol:
        failure = ended(carol.events())

    assert failure.status == "UNIMPLEMENTED"


def test_a_shard_that_is_away_keeps_nobody_from_the_other(shards):
    on_a, on_b = shards.market("a", "AWA-USD"), shards.market("b", "AWB-USD")
    with Caller(shards.gateway, shards.account("dave")) as dave:
        dave.place(limit(on_b, "buy", "1", "9"))
        shards.venues["b"].end(signal.SIGTERM)
        away = failing(dave.place, limit(on_b, "buy", "1", "9"))
        there = dave.place(limit(on_a, "buy", "1", "9"))
        shards.venues["b"].start()
        back = dave.place(limit(on_b, "buy", "1", "9"))

    assert (away.status, away.code) == ("UNAVAILABLE", 1020)
    assert (there.status, back.status) == (pb.ORDER_STATUS_NEW, pb.ORDER_STATUS_NEW)
