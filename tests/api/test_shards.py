"""Two shards of one venue: a request for the other's symbol is told where that symbol is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.api.venue_process import API, RunningVenue

SYMBOLS = {"a": "BTC-USD", "b": "SOL-USD"}
ORDER = {"side": "buy", "type": "limit", "quantity": "1", "price": "10"}


class Shards(NamedTuple):
    a: RunningVenue
    b: RunningVenue
    endpoints: dict[str, str]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shards]:
    """Shard `a` with BTC-USD, shard `b` with SOL-USD; each is told of all symbols of the venue."""
    venues: dict[str, RunningVenue] = {}
    for name, symbol in SYMBOLS.items():
        directory = tmp_path_factory.mktemp(name)
        config = directory / "settings.yaml"
        config.write_text(f"seed: {{symbols: [{{symbol: {symbol}, tick_size: 0.01, lot_size: 0.01}}]}}\n")
        venues[name] = RunningVenue(directory, shard=name, config=config)
    endpoints = {
        symbol: f"http://127.0.0.1:{venues[name].ports['port']}/s/{name}/api/v1"
        for name, symbol in SYMBOLS.items()
    }
    try:
        for venue in venues.values():
            venue.env["TRADSYS_OTHER_SYMBOLS"] = ",".join(f"{one}={at}" for one, at in endpoints.items())
            venue.start()
        yield Shards(venues["a"], venues["b"], endpoints)
    finally:
        for venue in venues.values():
            venue.stop()


@pytest.mark.parametrize(
    "path", ["/symbols/{}", "/market/{}/book", "/market/{}/ticker", "/market/{}/trades", "/market/{}/candles"]
)
def test_a_question_about_anothers_symbol_is_answered_with_where_it_is(shards: Shards, path: str) -> None:
    refused = shards.a.call("GET", path.format("SOL-USD"))

    assert (refused.status, refused.code) == (421, 1021)
    assert refused.json["details"] == {"endpoint": shards.endpoints["SOL-USD"]}


def test_an_order_for_anothers_symbol_leaves_no_trace_and_is_taken_where_it_belongs(shards: Shards) -> None:
    order = ORDER | {"symbol": "SOL-USD", "client_order_id": "mine"}
    before = shards.a.call("GET", "/time").seq

    refused = shards.a.call("POST", "/orders", order, shards.a.token("demo"))

    assert (refused.status, refused.code) == (421, 1021)
    assert shards.a.call("GET", "/time").seq == before
    there = urlsplit(refused.json["details"]["endpoint"])
    assert there.port == shards.b.ports["port"]
    token = {"Authorization": f"Bearer {shards.b.token('demo')}"}
    placed = shards.b.send("GET", f"{there.path}/symbols/SOL-USD", headers=token)
    assert placed.json["endpoint"] == shards.endpoints["SOL-USD"]
    placed = shards.b.call("POST", "/orders", order, shards.b.token("demo"))
    assert (placed.status, placed.json["order_id"].partition("-")[0]) == (200, "b")


def test_in_a_batch_only_the_order_for_anothers_symbol_is_refused(shards: Shards) -> None:
    orders = [ORDER | {"symbol": symbol} for symbol in ("BTC-USD", "SOL-USD")]

    reply = shards.a.call("POST", "/orders/batch", {"orders": orders}, shards.a.token("demo"))

    own, other = shards.a.ok(reply)["results"]
    assert own["order"]["symbol"] == "BTC-USD"
    assert (other["error"]["code"], other["error"]["details"]) == (
        1021,
        {"endpoint": shards.endpoints["SOL-USD"]},
    )


def test_each_shard_shows_its_own_symbols_with_its_endpoint(shards: Shards) -> None:
    for venue, symbol in ((shards.a, "BTC-USD"), (shards.b, "SOL-USD")):
        (shown,) = venue.ok(venue.call("GET", "/symbols"))["items"]

        assert (shown["symbol"], shown["endpoint"]) == (symbol, shards.endpoints[symbol])


def test_nobodys_symbol_is_unknown_everywhere(shards: Shards) -> None:
    refused = shards.b.call("GET", "/market/DOGE-USD/book")

    assert (refused.status, refused.code) == (404, 1003)
    assert API in shards.endpoints["BTC-USD"]
