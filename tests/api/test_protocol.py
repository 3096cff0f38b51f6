"""What every reply carries, whatever it says: headers, ids, CORS, rate limit, methods, listeners apart."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.api.venue_process import API, RunningVenue, Trader, running_venue

ALLOWED, OTHER = "https://trade.example", "https://evil.example"


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVenue]:
    """A venue that allows one foreign origin."""
    with running_venue(tmp_path_factory.mktemp("venue"), cors_origins=ALLOWED) as running:
        yield running


@pytest.fixture
def trader(venue: RunningVenue) -> Trader:
    return venue.account("limits")


# --- headers ----------------------------------------------------------------------------------------


def test_every_reply_says_where_the_journal_is(venue: RunningVenue, trader: Trader) -> None:
    market = venue.market()

    placed = trader.place(market, "buy", "1", "10")
    read = trader.get("/orders")
    refused = trader.place(market, "buy", "0.0001", "10")

    assert placed.seq == placed.json["seq"] == read.seq == refused.seq
    for reply in (placed, read, refused):
        assert reply.headers["x-epoch"] == "1"
        assert 0 <= int(reply.headers["x-durable-seq"]) <= reply.seq
        assert 0 <= int(reply.headers["x-engine-us"]) < 10_000_000
        assert reply.headers["content-type"] == "application/json"
        assert int(reply.headers["content-length"]) == len(reply.body)


@pytest.mark.parametrize("sent", ["a", "trace:1.2_3-Z", "x" * 64])
def test_a_callers_request_id_comes_back(venue: RunningVenue, sent: str) -> None:
    reply = venue.call("GET", "/balances", headers={"X-Request-Id": sent})

    assert reply.headers["x-request-id"] == reply.json["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "a\tb", "é", '"', "a,b", "{}", "a/b"])
def test_a_request_id_that_is_none_is_replaced(venue: RunningVenue, sent: str) -> None:
    reply = venue.send("GET", f"{API}/balances", headers={"X-Request-Id": sent.encode().decode("latin-1")})

    given = reply.headers["x-request-id"]
    assert given == reply.json["request_id"] != sent
    assert given.startswith("a1-")


def test_no_two_requests_share_an_id_on_whichever_listener(venue: RunningVenue) -> None:
    ids = [venue.call("GET", "/time").headers["x-request-id"] for _ in range(5)]
    ids += [venue.admin("GET", "/rules").headers["x-request-id"] for _ in range(5)]
    ids += [
        venue.send("GET", "/healthz", port=venue.ports["ops_port"]).headers["x-request-id"] for _ in range(5)
    ]

    assert len(set(ids)) == 15


# --- methods and paths ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/orders", {"GET", "POST", "DELETE"}),
        ("PUT", "/orders", {"GET", "POST", "DELETE"}),
        ("POST", "/balances", {"GET"}),
        ("DELETE", "/symbols", {"GET"}),
        ("HEAD", "/time", {"GET"}),
        ("TRACE", "/time", {"GET"}),
    ],
)
def test_a_method_that_a_path_does_not_have(
    venue: RunningVenue, trader: Trader, method: str, path: str, allowed: set[str]
) -> None:
    reply = venue.send(method, f"{API}{path}", headers={"Authorization": f"Bearer {trader.token}"})

    assert reply.status == 405
    assert {name.strip() for name in reply.headers["allow"].split(",")} == allowed | {"OPTIONS"}
    if method != "HEAD":
        assert reply.code == 1002


def test_options_tells_the_methods_without_a_token(venue: RunningVenue) -> None:
    reply = venue.send("OPTIONS", f"{API}/orders")

    assert reply.status == 200
    assert {name.strip() for name in reply.headers["allow"].split(",")} == {"GET", "POST", "DELETE"}


@pytest.mark.parametrize(
    "path",
    [
        "/", "/api", "/api/v1", "/api/v1/", "/api/v2/orders", "/api/v1/time/", "/api/v1//orders",
        "/api/v1/orders/a-1/", "/api/v1/orders/a-1/fills", "/API/V1/orders", "/s/a", "/s/a/", "/favicon.ico",
        "/api/v1/../v1/time", "/api/v1/%2e%2e/v1/time",
    ],
)  # fmt: skip
def test_a_path_that_is_none(venue: RunningVenue, trader: Trader, path: str) -> None:
    reply = venue.send("GET", path, headers={"Authorization": f"Bearer {trader.token}"})

    assert (reply.status, reply.code, reply.json["message"]) == (404, 1002, "no such path")


def test_listeners_do_not_answer_for_one_another(venue: RunningVenue) -> None:
    admin = {"Authorization": f"Bearer {venue.token('demo', 'trade read admin')}"}
    paths = {
        "port": f"{API}/time",
        "admin_port": f"{API}/admin/rules",
        "ops_port": "/healthz",
        "internal_port": "/internal/commands",
    }

    for listener, port in venue.ports.items():
        for owner, path in paths.items():
            if listener in paths:
                method = "POST" if owner == "internal_port" else "GET"
                status = venue.send(method, path, b"" if method == "POST" else None, admin, port).status
                assert (status == 404) == (listener != owner), (listener, path, status)


def test_admin_and_ops_paths_are_404_on_the_public_listener_whatever_the_token(venue: RunningVenue) -> None:
    headers = {"Authorization": f"Bearer {venue.token('demo', 'trade read admin')}"}
    paths = [
        "/healthz", "/readyz", "/metrics", "/internal/status", "/internal/pinning", "/internal/commands",
        *venue.described("admin_port").document["paths"],
    ]  # fmt: skip

    for path in paths:
        for prefix in ("", "/s/a"):
            for method in ("GET", "POST", "PUT", "DELETE"):
                concrete = f"{prefix}{path}".replace("{", "").replace("}", "")
                if path.endswith("openapi.json"):
                    continue
                reply = venue.send(method, concrete, headers=headers)
                assert (reply.status, reply.code) == (404, 1002), (method, concrete)


# --- CORS -------------------------------------------------------------------------------------------


def test_a_preflight_of_an_allowed_origin(venue: RunningVenue) -> None:
    asked = {
        "Origin": ALLOWED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }

    reply = venue.send("OPTIONS", f"{API}/orders", headers=asked)

    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == ALLOWED
    assert reply.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
    assert reply.headers["access-control-allow-headers"] == "Authorization, Content-Type, X-Request-Id"
    assert reply.headers["access-control-max-age"] == "600"
    assert reply.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in reply.headers


def test_replies_to_an_allowed_origin_may_be_read_errors_too(venue: RunningVenue, trader: Trader) -> None:
    replies = [
        venue.call("GET", "/time", headers={"Origin": ALLOWED}),
        venue.call("GET", "/balances", headers={"Origin": ALLOWED}),
        venue.call("GET", "/nothing", headers={"Origin": ALLOWED}),
        trader.post("/orders", {}, Origin=ALLOWED),
    ]

    assert [reply.status for reply in replies] == [200, 401, 404, 400]
    for reply in replies:
        assert reply.headers["access-control-allow-origin"] == ALLOWED
        exposed = reply.headers["access-control-expose-headers"]
        assert {"X-Request-Id", "X-Seq", "Idempotent-Replay"} <= set(exposed.split(", "))


@pytest.mark.parametrize("origin", [OTHER, "null", "*", f"{ALLOWED}.evil.example", ALLOWED.upper(), ""])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_another_origin_gets_no_permission(venue: RunningVenue, origin: str, method: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}

    reply = venue.send(method, f"{API}/time", headers=headers)

    assert reply.status == 200
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert reply.headers["vary"] == "Origin"


def test_without_an_origin_nothing_is_said_of_origins(venue: RunningVenue) -> None:
    headers = venue.call("GET", "/time").headers

    assert not [name for name in headers if name.startswith("access-control")]


# --- rate limit -------------------------------------------------------------------------------------


def test_a_rate_limit_holds_for_each_account_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_venue(tmp_path_factory.mktemp("limited"), rate_limit_per_s=20) as venue:
        eager, calm = venue.account("limits"), venue.account("limits")

        replies = [eager.get("/balances") for _ in range(60)]
        other = calm.get("/balances")
        public = [venue.call("GET", "/time").status for _ in range(60)]

        statuses = [reply.status for reply in replies]
        assert statuses[:20] == [200] * 20 and 429 in statuses
        first = replies[statuses.index(429)]
        assert (first.code, first.headers["retry-after"]) == (3029, "1")
        assert first.headers["x-ratelimit-limit"] == "20"
        assert first.headers["x-ratelimit-remaining"] == "0"
        assert (other.status, other.headers["x-ratelimit-remaining"]) == (200, "19")
        assert set(public) == {200}
        seq = other.seq
        time.sleep(1.1)
        again = eager.get("/balances")
        assert (again.status, again.seq) == (200, seq)


def test_there_is_no_rate_limit_unless_one_is_set(venue: RunningVenue, trader: Trader) -> None:
    replies = [trader.get("/balances") for _ in range(100)]

    assert {reply.status for reply in replies} == {200}
    assert "x-ratelimit-limit" not in replies[0].headers
