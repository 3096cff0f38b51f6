"""Who may do what: every route with every kind of sender, over HTTP, as one table."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.venue_process import API, Reply, RunningVenue, Trader, running_venue
from tests.security.forged import forged, good_claims, hs256

IDENTITIES = ("nobody", "garbage", "expired", "revoked", "stranger", "read", "trade", "admin", "whole")
"""Without a token, with text that is none, with tokens past their time, revoked or of an account that does
not exist; and of an account with one scope, or all."""

Headers = dict[str, dict[str, str]]
"""of each identity"""


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    """A venue that verifies as many tokens as come."""
    directory = tmp_path_factory.mktemp("venue")
    with running_venue(directory, token_verifications_per_s=1_000_000) as running:
        yield running


@pytest.fixture(scope="module")
def headers(venue: RunningVenue) -> Headers:
    trader = venue.account("limits")
    venue.ok(venue.admin("POST", "/tokens/revoke", {"jti": "revoked"}))
    tokens = {
        "garbage": "x.y.z",
        "expired": venue.token(trader.name, "trade read admin", 60, age_s=120),
        "revoked": venue.token(trader.name, "trade read admin", jti="revoked"),
        "stranger": venue.token("stranger", "trade read admin"),
        "read": venue.token(trader.name, "read"),
        "trade": venue.token(trader.name, "trade"),
        "admin": venue.token(trader.name, "admin"),
        "whole": venue.token(trader.name, "trade read admin"),
    }
    bearers = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
    return {"nobody": {}} | bearers


OPEN = dict.fromkeys(IDENTITIES, 0)
"""0: as if nobody had asked who it is."""
REFUSED = {"nobody": 2001, "garbage": 2002, "expired": 2002, "revoked": 2002}
READS = REFUSED | {"stranger": 2003, "trade": 2003, "admin": 2003, "read": 0, "whole": 0}
TRADES = REFUSED | {"stranger": 2003, "read": 2003, "admin": 2003, "trade": 0, "whole": 0}
# Admins act on accounts that they name; their own need not exist.
ADMINS = REFUSED | {"stranger": 0, "read": 2003, "trade": 2003, "admin": 0, "whole": 0}
# Of an account that does not exist, a list is empty or elsewhere, and one order is as absent as any.
FINDS = READS | {"stranger": 0}

PUBLIC: dict[tuple[str, str], dict[str, int]] = {
    ("POST", "/orders"): TRADES,
    ("GET", "/orders"): FINDS,
    ("DELETE", "/orders"): TRADES,
    ("POST", "/orders/batch"): TRADES,
    ("POST", "/orders/cancel-batch"): TRADES,
    ("POST", "/orders/test"): TRADES,
    ("GET", "/orders/by-client/{client_order_id}"): FINDS,
    ("GET", "/orders/{order_id}"): FINDS,
    ("PUT", "/orders/{order_id}"): TRADES,
    ("DELETE", "/orders/{order_id}"): TRADES,
    ("GET", "/fills"): FINDS,
    ("GET", "/symbols"): OPEN,
    ("GET", "/symbols/{symbol}"): OPEN,
    ("GET", "/market/{symbol}/book"): OPEN,
    ("GET", "/market/{symbol}/ticker"): OPEN,
    ("GET", "/market/{symbol}/trades"): OPEN,
    ("GET", "/market/{symbol}/candles"): OPEN,
    ("GET", "/time"): OPEN,
    ("GET", "/accounts/me"): READS,
    ("GET", "/balances"): READS,
    ("GET", "/positions"): READS,
    ("GET", "/risk/limits"): READS,
    ("GET", "/risk/state"): READS,
    ("GET", "/fees"): READS,
    ("GET", "/openapi.json"): OPEN,
}
ADMIN: dict[tuple[str, str], dict[str, int]] = {
    ("GET", "/admin/accounts"): ADMINS,
    ("POST", "/admin/accounts"): ADMINS,
    ("GET", "/admin/accounts/{account}"): ADMINS,
    ("PUT", "/admin/accounts/{account}/limits"): ADMINS,
    ("POST", "/admin/accounts/{account}/adjustments"): ADMINS,
    ("POST", "/admin/symbols"): ADMINS,
    ("PUT", "/admin/symbols/{symbol}/status"): ADMINS,
    ("PUT", "/admin/symbols/{symbol}/reference"): ADMINS,
    ("PUT", "/admin/symbols/{symbol}/fees"): ADMINS,
    ("PUT", "/admin/symbols/{symbol}/band"): ADMINS,
    ("POST", "/admin/kill"): ADMINS,
    ("POST", "/admin/cancel-all"): ADMINS,
    ("POST", "/admin/tokens/revoke"): ADMINS,
    ("GET", "/admin/rules"): ADMINS,
    ("PUT", "/admin/rules"): ADMINS,
    ("POST", "/admin/drain"): ADMINS,
}

NEW_ORDER = b'{"symbol":"BTC-USD","side":"buy","type":"limit","quantity":"1","price":"1"}'
BODIES = {
    "/orders": NEW_ORDER,
    "/orders/batch": b'{"orders":[%s]}' % NEW_ORDER,
    "/orders/cancel-batch": b'{"order_ids":["a-999999"]}',
    "/orders/test": NEW_ORDER,
    "/orders/{order_id}": b'{"quantity":"1"}',
}


def asked(
    venue: RunningVenue, method: str, path: str, headers: dict[str, str], port: str, body: bytes | None
) -> Reply:
    concrete = path.format(order_id="a-999999", client_order_id="none", symbol="BTC-USD", account="none")
    return venue.send(method, f"{API}{concrete}", body, headers, venue.ports[port])


def verdict(reply: Reply) -> int:
    """The code if the sender was refused, else 0."""
    code = reply.code
    return code if code in (2001, 2002, 2003) else 0


@pytest.mark.parametrize(("method", "path"), PUBLIC, ids=" ".join)
def test_public_routes(venue: RunningVenue, headers: Headers, method: str, path: str) -> None:
    body = BODIES.get(path) if method in ("POST", "PUT") else None

    found = {name: verdict(asked(venue, method, path, headers[name], "port", body)) for name in IDENTITIES}

    # In a batch each order is refused for itself.
    batch = path in ("/orders/batch", "/orders/cancel-batch")
    assert found == PUBLIC[method, path] | ({"stranger": 0} if batch else {})


@pytest.mark.parametrize(("method", "path"), ADMIN, ids=" ".join)
def test_admin_routes(venue: RunningVenue, headers: Headers, method: str, path: str) -> None:
    expected = ADMIN[method, path]
    # What may pass is given no JSON: who may not is refused before anybody looks at it. Drain needs none.
    names = [name for name in IDENTITIES if not path.endswith("/drain") or expected[name]]

    found = {name: verdict(asked(venue, method, path, headers[name], "admin_port", b"{")) for name in names}
    public = {asked(venue, method, path, headers[name], "port", b"{").status for name in IDENTITIES}

    assert found == {name: expected[name] for name in names}
    assert public == {404}


def test_the_tables_have_every_route(venue: RunningVenue) -> None:
    for table, port in ((PUBLIC, "port"), (ADMIN, "admin_port")):
        paths = venue.described(port).document["paths"].items()
        routes = {(method.upper(), path) for path, item in paths for method in item}
        assert {(method, f"{API}{path}") for method, path in table} == routes - (
            {("GET", f"{API}/openapi.json")} if port == "admin_port" else set()
        )
        assert all(row.keys() == set(IDENTITIES) for row in table.values())


def test_a_stranger_places_nothing_also_in_a_batch(venue: RunningVenue, headers: Headers) -> None:
    before = venue.call("GET", "/time").seq

    for path in ("/orders/batch", "/orders/cancel-batch"):
        reply = asked(venue, "POST", path, headers["stranger"], "port", BODIES[path])
        assert [one["error"]["code"] for one in reply.json["results"]] == [2003]

    assert venue.call("GET", "/time").seq == before


def test_who_is_refused_learns_nothing_and_loses_the_connection(
    venue: RunningVenue, headers: Headers
) -> None:
    expected = {
        "nobody": (401, 2001, "send Authorization: Bearer <token>"),
        "garbage": (401, 2002, "the token is invalid, expired or revoked"),
        "expired": (401, 2002, "the token is invalid, expired or revoked"),
        "revoked": (401, 2002, "the token is invalid, expired or revoked"),
        "trade": (403, 2003, "the token's scope does not allow this"),
        "stranger": (403, 2003, "the token's account does not exist here"),
    }
    for name, told in expected.items():
        reply = asked(venue, "GET", "/balances", headers[name], "port", None)
        body = reply.json
        assert (reply.status, body["code"], body["message"]) == told
        assert body["details"] == {}
        assert ("close" in reply.headers.get("connection", "")) == (reply.status == 401)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Bearer", 2001),
        ("Bearer ", 2001),
        ("bearer {}", 0),
        ("BEARER {}", 0),
        ("Bearer  {}", None),
        ("Basic {}", 2001),
        ("{}", 2001),
        ("Bearer {} x", None),
        ("Bearer {},Bearer {}", None),
        ("Token {}", 2001),
    ],
)
def test_how_the_header_is_written(
    venue: RunningVenue, headers: Headers, header: str, code: int | None
) -> None:
    token = headers["whole"]["Authorization"].removeprefix("Bearer ")

    reply = venue.send("GET", f"{API}/balances", headers={"Authorization": header.replace("{}", token)})

    assert verdict(reply) == code if code is not None else verdict(reply) in (2001, 2002)


def test_a_token_is_taken_from_the_header_only(venue: RunningVenue, headers: Headers) -> None:
    token = headers["whole"]["Authorization"].removeprefix("Bearer ")

    replies = [
        venue.send("GET", f"{API}/balances?access_token={token}&token={token}&authorization={token}"),
        venue.send("GET", f"{API}/balances", headers={"Cookie": f"token={token}; Authorization={token}"}),
        venue.send("GET", f"{API}/balances", headers={"X-Authorization": f"Bearer {token}"}),
        venue.send("GET", f"{API}/balances", headers={"Proxy-Authorization": f"Bearer {token}"}),
    ]

    assert [verdict(reply) for reply in replies] == [2001] * 4


def secret(venue: RunningVenue) -> bytes:
    from tradsys.adapters.auth.keys import HmacKey

    return HmacKey.load(venue.data / "hs256.key").secret


def test_every_forged_token_is_refused_over_http(venue: RunningVenue) -> None:
    key, now = secret(venue), int(time.time())
    venue.admin("POST", "/accounts", {"account": "demo", "mode": "limits"})
    good = hs256(key).sign(hs256(key).header(), good_claims(now))

    refused: dict[str, Any] = {}
    for one in forged(key, now):
        for method, path, port in (("GET", "/balances", "port"), ("GET", "/admin/rules", "admin_port")):
            reply = asked(venue, method, path, {"Authorization": f"Bearer {one.token}"}, port, None)
            refused[one.name, path] = (reply.status, reply.code)

    assert len(refused) >= 2 * 60
    assert {name: got for name, got in refused.items() if got not in ((401, 2001), (401, 2002))} == {}
    assert asked(venue, "GET", "/balances", {"Authorization": f"Bearer {good}"}, "port", None).status == 200


def test_new_tokens_are_verified_at_a_bounded_rate_and_known_ones_go_on(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_venue(tmp_path_factory.mktemp("slow"), token_verifications_per_s=5) as venue:
        known = Trader(venue, "demo", venue.token("demo"))
        assert known.get("/balances").status == 200

        bad = hs256(b"another key, of the same length .....").sign
        replies = [
            venue.send("GET", f"{API}/balances", headers={"Authorization": f"Bearer {token}"})
            for token in (
                bad({"alg": "HS256", "typ": "JWT"}, good_claims(int(time.time()), jti=str(i)))
                for i in range(30)
            )
        ]
        fresh = venue.send(
            "GET", f"{API}/balances", headers={"Authorization": f"Bearer {venue.token('demo')}"}
        )

        assert {(reply.status, reply.code) for reply in replies} == {(401, 2002), (503, 1020)}
        assert {reply.headers["retry-after"] for reply in replies if reply.status == 503} == {"1"}
        assert (fresh.status, fresh.code) == (503, 1020)
        assert known.get("/balances").status == 200
        time.sleep(1.1)
        assert venue.call("GET", "/balances", token=venue.token("demo")).status == 200


def test_the_internal_listener_takes_its_secret_only(venue: RunningVenue) -> None:
    internal = (venue.data / "internal.secret").read_bytes().decode()
    whole = venue.token("demo", "trade read admin")
    wrong = ["", internal[:-1], internal.upper(), internal + "0", "é", whole, f"Bearer {whole}"]

    def post(value: str | None) -> Reply:
        headers = {"Authorization": f"Bearer {whole}"}
        if value is not None:
            headers["X-Internal-Secret"] = value.encode().decode("latin-1")
        return venue.send("POST", "/internal/commands", b"", headers, venue.ports["internal_port"])

    assert [(post(value).status, post(value).code) for value in (None, *wrong)] == [(403, 2003)] * 8
    assert (post(internal).status, post(internal).code) == (400, 1002)


def test_paths_that_look_alike_are_not_let_through(venue: RunningVenue) -> None:
    for path in (
        "/api/v1/balances/", "/api/v1//balances", "/API/V1/BALANCES", "/api/v1/balances%00",
        "/api/v1/balances;x", "/api/v1/symbols/../balances", "/api/v1/symbols/%2e%2e/balances",
        "/s/a//api/v1/balances", "/s/a/s/a/api/v1/balances", "/api/v1/balances%2f", "/api/v1/balances?",
    ):  # fmt: skip
        reply = venue.send("GET", path)
        assert reply.status in (400, 401, 404), path
        assert not re.search(rb'"free"', reply.body)
