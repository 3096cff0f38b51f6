"""The OpenAPI document is the API: every route is in it, everything in it is there and does what it says.

That replies have the described shape is checked on every reply of every test here (described.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.described import admin_document, routes
from tests.api.venue_process import API, Reply, RunningVenue, Trader
from tradsys.adapters.http.openapi import OPERATIONS, PATH, OpenApiResource, methods_of
from tradsys.codec.errors import ERRORS

VERBS = ("GET", "POST", "PUT", "DELETE", "PATCH")


@pytest.fixture(scope="module")
def document(venue: RunningVenue) -> dict[str, Any]:
    return venue.described().document


def all_routes() -> list[tuple[str, Any]]:
    public, admin = routes()
    return [*public, *admin, (PATH, OpenApiResource([]))]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(method, path, operation)"""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_the_table_of_operations_has_every_route_and_nothing_else() -> None:
    routed = {(type(resource), method) for _, resource in all_routes() for method in methods_of(resource)}

    assert OPERATIONS.keys() == routed


def test_every_method_says_who_may_call_it() -> None:
    for path, resource in all_routes():
        for method in methods_of(resource):
            assert method in resource.needs, (method, path)


def test_the_document_has_the_paths_of_the_routes(document: dict[str, Any]) -> None:
    described = {(method, path) for method, path, _ in operations(document)}
    described |= {(method, path) for method, path, _ in operations(admin_document().document)}

    assert described == {(method, path) for path, resource in all_routes() for method in methods_of(resource)}


def test_a_method_is_answered_if_and_only_if_it_is_described(
    venue: RunningVenue, document: dict[str, Any]
) -> None:
    for port, one in (("port", document), ("admin_port", admin_document().document)):
        token = venue.token("nobody", "trade read admin")
        for path, item in one["paths"].items():
            for method in VERBS:
                # DRAIN ends the venue: it is called in test_restart.py.
                if (method, path) == ("POST", f"{API}/admin/drain"):
                    continue
                concrete = re.sub(r"{\w+}", "x", path)
                headers = {"Authorization": f"Bearer {token}"}
                reply = venue.send(method, concrete, b"{", headers, venue.ports[port])
                assert (reply.status == 405) == (method.lower() not in item), (method, path, reply)


def test_references_resolve_and_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    for one in (document, admin_document().document):
        for reference in re.findall(r"'\$ref': '#/([^']+)'", repr(one)):
            found: Any = one
            for part in reference.split("/"):
                found = found[part]
        names = [operation["operationId"] for _, _, operation in operations(one)]
        assert len(set(names)) == len(names)
        assert all(operation["summary"] for _, _, operation in operations(one))
        assert one["openapi"] == "3.1.0"


def test_every_error_is_described_where_it_can_happen(document: dict[str, Any]) -> None:
    described = set()
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                _, codes = response["content"]["application/json"]["schema"]["allOf"]
                described |= set(codes["properties"]["code"]["enum"])
                for code in codes["properties"]["code"]["enum"]:
                    assert str(ERRORS[code].status) == status or code == 1002, (path, code)

    assert described == ERRORS.keys()


def test_what_needs_a_token_says_which_scope(venue: RunningVenue, document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        reply = venue.send(method, re.sub(r"{\w+}", "x", path), b"{" if method in ("POST", "PUT") else None)
        assert (reply.status == 401) == bool(operation["security"]), (method, path)
        for scheme in operation["security"]:
            assert list(scheme) == ["token"] and scheme["token"] in (["trade"], ["read"], ["admin"])


# --- each operation once as it is meant ---------------------------------------------------------------

Call = Callable[[Trader, str], Reply]


def resting(trader: Trader, market: str) -> str:
    return str(trader.placed(market, "buy", "1", "10")["order_id"])


def order(market: str) -> dict[str, str]:
    return {"symbol": market, "side": "sell", "type": "limit", "quantity": "1", "price": "99"}


def by_client(trader: Trader, market: str) -> Reply:
    trader.placed(market, "buy", "1", "10", client_order_id="by-client")
    return trader.get("/orders/by-client/by-client")


def a_trade(trader: Trader, market: str) -> Reply:
    resting(trader, market)
    trader.placed(market, "sell", "1", "10")
    return trader.get(f"/market/{market}/trades")


PUBLIC_CALLS: dict[tuple[str, str], Call] = {
    ("POST", "/orders"): lambda t, m: t.post("/orders", order(m)),
    ("GET", "/orders"): lambda t, m: (resting(t, m), t.get("/orders"))[1],
    ("DELETE", "/orders"): lambda t, m: t.delete(f"/orders?symbol={m}&side=sell"),
    ("POST", "/orders/batch"): lambda t, m: t.post("/orders/batch", {"orders": [order(m)]}),
    ("POST", "/orders/cancel-batch"): lambda t, m: t.post(
        "/orders/cancel-batch", {"order_ids": [resting(t, m)]}
    ),
    ("POST", "/orders/test"): lambda t, m: t.post("/orders/test", order(m)),
    ("GET", "/orders/by-client/{client_order_id}"): by_client,
    ("GET", "/orders/{order_id}"): lambda t, m: t.get(f"/orders/{resting(t, m)}"),
    ("PUT", "/orders/{order_id}"): lambda t, m: t.put(
        f"/orders/{resting(t, m)}", {"price": "11", "quantity": "2", "version": 0}
    ),
    ("DELETE", "/orders/{order_id}"): lambda t, m: t.delete(f"/orders/{resting(t, m)}"),
    ("GET", "/fills"): lambda t, m: t.get("/fills"),
    ("GET", "/symbols"): lambda t, m: t.get("/symbols"),
    ("GET", "/symbols/{symbol}"): lambda t, m: t.get(f"/symbols/{m}"),
    ("GET", "/market/{symbol}/book"): lambda t, m: t.get(f"/market/{m}/book?level=3"),
    ("GET", "/market/{symbol}/ticker"): lambda t, m: t.get(f"/market/{m}/ticker"),
    ("GET", "/market/{symbol}/trades"): a_trade,
    ("GET", "/market/{symbol}/candles"): lambda t, m: t.get(f"/market/{m}/candles"),
    ("GET", "/time"): lambda t, m: t.get("/time"),
    ("GET", "/accounts/me"): lambda t, m: t.get("/accounts/me"),
    ("GET", "/balances"): lambda t, m: t.get("/balances"),
    ("GET", "/positions"): lambda t, m: (resting(t, m), t.get("/positions"))[1],
    ("GET", "/risk/limits"): lambda t, m: t.get("/risk/limits"),
    ("GET", "/risk/state"): lambda t, m: t.get("/risk/state"),
    ("GET", "/fees"): lambda t, m: t.get("/fees"),
    ("GET", "/openapi.json"): lambda t, m: t.get("/openapi.json"),
}


def test_there_is_a_call_for_each_operation(document: dict[str, Any]) -> None:
    described = {(method, path.removeprefix(API)) for method, path, _ in operations(document)}

    assert PUBLIC_CALLS.keys() == described


@pytest.mark.parametrize(("method", "path"), PUBLIC_CALLS)
def test_each_operation_answers_as_described_when_it_is_called_as_described(
    venue: RunningVenue, document: dict[str, Any], method: str, path: str
) -> None:
    reply = PUBLIC_CALLS[method, path](venue.account("limits"), venue.market())

    responses = document["paths"][f"{API}{path}"][method.lower()]["responses"]
    assert str(reply.status) in ({"200"} & responses.keys() or {"307"}), reply
    assert (method, f"{API}{path}", reply.status) in venue.described().answers


def test_the_document_is_one_and_the_same_below_the_shards_prefix(venue: RunningVenue) -> None:
    first, second = (venue.send("GET", f"{prefix}{API}/openapi.json") for prefix in ("", "/s/a"))

    assert first.body == second.body and len(first.body) < 256 * 1024
