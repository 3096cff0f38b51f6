"""New orders are answered without the framework; nobody can tell from the answer.

Two venues get the same requests: one as it is, and one whose log wants a line for every request, which it has
from the framework, so that there every request goes that way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.venue_process import RunningVenue, running_venue

ORDER = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "price": "100.00", "quantity": "1"}
_VARIES = re.compile(r'(?<="created_ts":")\d+|(?<="updated_ts":")\d+|(?<="ts":")\d+|(?<="now":")\d+')
_TIMES = ("date", "x-engine-us", "x-durable-seq")


@pytest.fixture(scope="module")
def venues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningVenue, RunningVenue]]:
    limit = {"rate_limit_per_s": 1000}
    with (
        running_venue(tmp_path_factory.mktemp("direct"), **limit) as direct,
        running_venue(tmp_path_factory.mktemp("framework"), **limit, access_log="all") as framework,
    ):
        yield direct, framework


def answers(venues: tuple[RunningVenue, RunningVenue], *requests: dict[str, Any]) -> tuple[Any, Any]:
    """What each venue answers, without what differs between any two moments."""
    return answered(venues[0], requests), answered(venues[1], requests)


def answered(venue: RunningVenue, requests: tuple[dict[str, Any], ...]) -> list[Any]:
    found = []
    for request in requests:
        body = request.get("body", ORDER)
        token = request.get(
            "token", venue.token(request.get("account", "demo"), request.get("scope", "trade"))
        )
        reply = venue.call("POST", "/orders", body, token, headers=request.get("headers"))
        headers = {name: value for name, value in reply.headers.items() if name not in _TIMES}
        if "headers" not in request:
            given = headers.pop("x-request-id")
            assert given
        if "x-ratelimit-remaining" in headers:
            assert 0 < int(headers["x-ratelimit-remaining"]) <= 1000
            headers["x-ratelimit-remaining"] = "some"
        text = _VARIES.sub("", reply.body.decode())
        if reply.status != 200:
            shown = json.loads(text)
            shown["request_id"] = "" if "headers" not in request else shown["request_id"]
            text = json.dumps(shown)
        # The length of numbers that count up is the venues' own.
        del headers["content-length"]
        found.append((reply.status, sorted(headers.items()), text))
    return found


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([{}], id="an order that rests"),
        pytest.param([{"body": {**ORDER, "side": "sell"}}], id="an order that trades"),
        pytest.param([{"headers": {"X-Request-Id": "mine-1"}}], id="a request with a name"),
        pytest.param(
            [{"body": {**ORDER, "client_order_id": "k1"}}, {"body": {**ORDER, "client_order_id": "k1"}}],
            id="a retry",
        ),
        pytest.param(
            [
                {"body": {**ORDER, "client_order_id": "k2"}},
                {"body": {**ORDER, "client_order_id": "k2", "quantity": "2"}},
            ],
            id="a key used for something else",
        ),
        pytest.param([{"body": {**ORDER, "price": "100.001"}}], id="off the grid"),
        pytest.param([{"body": {**ORDER, "symbol": "NO-PE"}}], id="an unknown symbol"),
        pytest.param([{"body": {**ORDER, "valid_until": "1"}}], id="too late"),
        pytest.param([{"body": {**ORDER, "quantity": "1" + "0" * 12}}], id="a refusal, journalled"),
        pytest.param([{"body": {**ORDER, "post_only": True, "side": "sell", "price": "1.00"}}], id="crosses"),
        pytest.param([{"body": b"{"}], id="no JSON"),
        pytest.param([{"body": b'{"symbol":"BTC-USD","symbol":"BTC-USD"}'}], id="a member twice"),
        pytest.param([{"body": b" " * 70_000}], id="too large"),
        pytest.param([{"token": "nonsense"}], id="no token that holds"),
        pytest.param([{"token": None}], id="no token"),
        pytest.param([{"scope": "read"}], id="a token that may only read"),
        pytest.param([{"account": "nobody"}], id="an account that is not there"),
    ],
)
def test_both_ways_answer_alike(
    venues: tuple[RunningVenue, RunningVenue], requests: list[dict[str, Any]]
) -> None:
    direct, framework = answers(venues, *requests)

    assert direct == framework


def test_both_ways_count_alike(venues: tuple[RunningVenue, RunningVenue]) -> None:
    # A refusal takes both ways: let in without the framework, worded by it.
    before = [venue.call("GET", "/time").seq for venue in venues]
    for venue in venues:
        for price in ("100.00", "100.001", "100.02"):
            venue.call("POST", "/orders", {**ORDER, "price": price}, venue.token("demo"))
    after = [venue.call("GET", "/time").seq for venue in venues]

    assert [end - start for start, end in zip(before, after, strict=True)] == [2, 2]
