"""F4 against a whole engine: the same vectors, with its routes, a token, and its own record of what it did.

The access log names every request that reached the application, so a smuggled one shows there. The vectors
are played many at a time: most of their time is waiting for the engine to cut a slow one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.api.venue_process import API, HOST, RunningVenue, running_venue
from tests.security.vectors import Outcome, Target, Vector, faults, play, vectors

HIDDEN = f"{API}/symbols"
ORDER = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "1", "price": "10"}


PLAYED_AT_ONCE = 24


class Attacked(NamedTuple):
    venue: RunningVenue
    table: list[Vector]
    outcomes: list[Outcome]

    def handled(self) -> list[str]:
        """The paths of all requests so far, as the engine has logged them."""
        lines = [line for line in self.venue.log().splitlines() if line.startswith(b"{")]
        return [path for line in lines if (path := json.loads(line).get("path"))]


def target(token: str) -> Target:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    # An order that is only tried: however often it is sent, the venue stays as it is.
    return Target(f"{API}/time", f"{API}/orders/test", HIDDEN, HOST, headers, json.dumps(ORDER).encode())


NAMES = [vector.name for vector in vectors(target(""))]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    directory: Path = tmp_path_factory.mktemp("venue")
    with running_venue(directory, request_timeout_s=1, access_log="all") as venue:
        aim = target(venue.token("demo"))

        def played(vector: Vector) -> Outcome:
            return play(vector, HOST, venue.ports["port"], aim)

        table = vectors(aim)
        with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
            outcomes = list(pool.map(played, table))
        yield Attacked(venue, table, outcomes)


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_vector(attacked: Attacked, number: int) -> None:
    vector, outcome = attacked.table[number], attacked.outcomes[number]
    if vector.head:
        # No route of the venue has HEAD.
        vector = replace(vector, expected=frozenset({405}))

    assert faults(vector, outcome) == []


def test_nothing_was_smuggled_and_the_venue_is_as_it_was(attacked: Attacked) -> None:
    venue = attacked.venue
    seen = venue.call("GET", "/market/BTC-USD/ticker")
    while f"{API}/market/BTC-USD/ticker" not in (handled := attacked.handled()):
        time.sleep(0.05)

    assert {f"{API}/time", f"{API}/orders/test"} < set(handled)
    assert HIDDEN not in handled
    assert seen.headers["x-epoch"] == "1"
    assert venue.ok(venue.call("GET", "/orders?status=open", token=venue.token("demo")))["items"] == []
