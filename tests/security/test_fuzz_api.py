"""F2: requests made from the API's own description, good and bad ones: typed answers, never a fault.

COUNT_F2 requests for each operation (20; 240 in `make reliability`), and each of them five times more with
some of its bytes changed, about 55,000 in all there. Each reply is held to the description. Afterwards the
venue must still run, have logged no fault, and come back from its journal as it was.
"""

from __future__ import annotations

import copy
import json
import os
import random
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.api.described import routes
from tests.api.venue_process import HOST, Reply, RunningVenue, running_venue
from tradsys.adapters.http.openapi import document

COUNT = int(os.environ.get("COUNT_F2", "20"))
ORDERS = 12
"""Orders that there are when it begins."""

KNOWN = {
    "symbol": ["BTC-USD", "ETH-USD"],
    "account": ["demo", "poor"],
    "order_id": [f"a-{number}" for number in range(1, 30)],
    "client_order_id": ["k0", "k1", "new"],
}
"""What exists: made-up names alone would seldom get further than to the first check."""


def knowing(described: dict[str, Any]) -> dict[str, Any]:
    """The same description with names that exist."""
    known = copy.deepcopy(described)
    for item in known["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if parameter.get("name") in KNOWN:
                    parameter["schema"] = {"enum": KNOWN[parameter["name"]]}
    for schema in known["components"]["schemas"].values():
        for name in KNOWN.keys() & schema.get("properties", {}).keys():
            schema["properties"][name] = {"enum": KNOWN[name]}
    return known


MUTANTS = 5
"""Of each request: made in microseconds, where one from the description takes a fiftieth of a second."""
ODD = ("", "0", "-1", "1", "3", "1e3", "٣", "null", "NaN", "buy", "open", "a-7", "b-7", "BTC-USD", str(2**64))
DESCRIBED = dict(zip(("port", "admin_port"), map(document, routes()), strict=True))
# Drain ends the venue, which is what it is for.
del DESCRIBED["admin_port"]["paths"]["/api/v1/admin/drain"]
SCHEMAS = {
    port: [schemathesis.openapi.from_dict(one) for one in (described, knowing(described))]
    for port, described in DESCRIBED.items()
}
OPERATIONS = [
    (port, method.upper(), path)
    for port, described in DESCRIBED.items()
    for path, item in described["paths"].items()
    for method in item
]


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    directory = tmp_path_factory.mktemp("venue")
    with running_venue(directory, segment_bytes=64 << 20) as running:
        running.ok(running.admin("POST", "/accounts", {"account": "poor", "mode": "cash"}))
        running.deposit("poor", "USD", "100")
        token = running.token("demo")
        for i in range(ORDERS):
            order = {
                "symbol": "BTC-USD",
                "side": "buy",
                "type": "limit",
                "quantity": "1",
                "price": f"{i + 1}",
            }
            running.ok(running.call("POST", "/orders", order | {"client_order_id": f"k{i}"}, token))
        yield running


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize(
    ("port", "method", "path"), OPERATIONS, ids=lambda part: str(part).removeprefix("/api/v1")
)
def test_whatever_is_asked_is_answered_as_described(
    venue: RunningVenue, session: requests.Session, port: str, method: str, path: str
) -> None:
    tokens = [venue.token(account, "trade read admin") for account in ("demo", "poor")]
    base_url = f"http://{HOST}:{venue.ports[port]}"
    cases = st.one_of(
        schema[path][method].as_strategy(generation_mode=mode)
        for schema in SCHEMAS[port]
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    )

    # Bad values of parameters: made from a description they are rare.
    names = [
        one["name"] for one in DESCRIBED[port]["paths"][path][method.lower()]["parameters"] if "in" in one
    ]
    values = st.sampled_from(ODD) | st.text(max_size=8) | st.integers().map(str)
    parameters = st.dictionaries(st.sampled_from(names or ["other"]), values, max_size=2)

    def send(request: requests.PreparedRequest) -> None:
        answer = session.send(request, allow_redirects=False, timeout=20)
        headers = {name.lower(): value for name, value in answer.headers.items()}
        reply = Reply(answer.status_code, headers, answer.content)
        if "x-request-id" not in headers:
            # The server itself refuses what is no HTTP, or too much of it.
            refusal = json.loads(reply.body)
            assert reply.status in (400, 431), reply
            assert (refusal["code"], refusal["request_id"]) == (1002, ""), reply
            return
        assert reply.status < 500, reply
        assert request.path_url is not None
        venue.described(port).hold(method, request.path_url, reply)

    @settings(max_examples=COUNT, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases, token=st.sampled_from(tokens), odd=parameters)
    def ask(case: Any, token: str, odd: dict[str, str]) -> None:
        case.query = {**(case.query or {}), **odd}
        sent = case.as_transport_kwargs(base_url=base_url, headers={"Authorization": f"Bearer {token}"})
        request = session.prepare_request(requests.Request(**sent))
        send(request)
        for number in range(MUTANTS):
            changed = mutant(request, number)
            if changed is not None:
                send(changed)

    ask()


def mutant(request: requests.PreparedRequest, number: int) -> requests.PreparedRequest | None:
    """The same request with other bytes in its body, else in its query; None: it has neither."""
    other = request.copy()
    assert request.url is not None
    if request.body:
        body: Any = request.body
        body = body.encode() if isinstance(body, str) else body
        other.body = changed(body, number)
        other.headers["Content-Length"] = str(len(other.body))
        return other
    path, _, query = request.url.partition("?")
    if not query:
        return None
    # What is left of an escape or is no ASCII is quoted: this is about the API, not about HTTP.
    other.url = f"{path}?{quote(changed(query.encode(), number), safe='=&%')}"
    return other


def changed(data: bytes, number: int) -> bytes:
    """Some of it left out, twice there, turned over, or replaced by something odd."""
    draw = random.Random(zlib.crc32(data) + number)
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice((1, 1, 2, 8)))
    turned = bytes((data[start] ^ 1 << draw.randrange(8),))
    piece = draw.choice((b"", data[start:end] * 2, turned, draw.choice(ODD).encode()))
    return data[:start] + piece + data[end:]
