"""Every error of the API, met by a real request: its status, its code and the shape of its body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.api.venue_process import Reply, RunningVenue
from tradsys.codec.errors import ERRORS

S = 1_000_000_000
Case = Callable[[RunningVenue], Reply]
CASES: list[tuple[int, int, Case]] = []
"""code, status, how to meet it"""
MET_ELSEWHERE = {
    1001: "test_faults.py: the journal fails under an order",
    1020: "test_restart.py: a venue that shuts down",
    1021: "test_faults.py: a venue of two shards",
    3029: "test_protocol.py: a venue with a rate limit",
}


def meets(code: int, status: int) -> Callable[[Case], Case]:
    def register(case: Case) -> Case:
        CASES.append((code, status, case))
        return case

    return register


def order(symbol: str, **more: Any) -> dict[str, Any]:
    return {"symbol": symbol, "side": "buy", "type": "limit", "quantity": "1", "price": "100"} | more


@meets(1002, 400)
def no_json(venue: RunningVenue) -> Reply:
    return venue.account().post("/orders", b"{")


@meets(1002, 413)
def a_body_that_is_too_large(venue: RunningVenue) -> Reply:
    return venue.account().post("/orders", b" " * 65_537)


@meets(1002, 404)
def no_such_path(venue: RunningVenue) -> Reply:
    return venue.account().get("/nothing")


@meets(1002, 405)
def no_such_method(venue: RunningVenue) -> Reply:
    return venue.account().delete("/balances")


@meets(1003, 404)
def unknown_symbol(venue: RunningVenue) -> Reply:
    return venue.account().post("/orders", order("NO-SUCH"))


@meets(1003, 404)
def unknown_symbol_of_a_book(venue: RunningVenue) -> Reply:
    return venue.call("GET", "/market/NO-SUCH/book")


@meets(1004, 422)
def price_off_the_tick(venue: RunningVenue) -> Reply:
    return venue.account().post("/orders", order(venue.market(), price="100.005"))


@meets(1004, 422)
def quantity_off_the_lot(venue: RunningVenue) -> Reply:
    return venue.account().post("/orders", order(venue.market(), quantity="0.0001"))


@meets(1004, 422)
def too_many_digits(venue: RunningVenue) -> Reply:
    return venue.account().post("/orders", order(venue.market(), price="1.000000001"))


@meets(1005, 422)
def outside_the_price_band(venue: RunningVenue) -> Reply:
    market = venue.market(band_bps="500")
    venue.ok(venue.admin("PUT", f"/symbols/{market}/reference", {"price": "100"}))
    reply = venue.account("limits").post("/orders", order(market, price="105.01"))
    assert reply.json["details"] == {"bound": "105", "price": "105.01"}
    return reply


@meets(1005, 422)
def below_the_minimum_notional(venue: RunningVenue) -> Reply:
    reply = venue.account("limits").post("/orders", order(venue.market(min_notional="100.01")))
    assert reply.json["details"] == {"min_notional": "100.01", "notional": "100"}
    return reply


@meets(1006, 409)
def key_reused(venue: RunningVenue) -> Reply:
    market, trader = venue.market(), venue.account("limits")
    trader.placed(market, "buy", "1", "100", client_order_id="k")
    return trader.place(market, "buy", "2", "100", client_order_id="k")


@meets(1007, 404)
def cancel_of_no_such_order(venue: RunningVenue) -> Reply:
    return venue.account().delete("/orders/a-999999999")


@meets(1007, 404)
def replace_of_no_such_order(venue: RunningVenue) -> Reply:
    return venue.account().put("/orders/a-999999999", {"quantity": "1"})


@meets(1007, 404)
def look_at_no_such_order(venue: RunningVenue) -> Reply:
    return venue.account().get("/orders/a-999999999")


@meets(1007, 404)
def an_id_that_no_order_can_have(venue: RunningVenue) -> Reply:
    return venue.account().get("/orders/a-0")


@meets(1008, 409)
def version_conflict(venue: RunningVenue) -> Reply:
    trader = venue.account("limits")
    placed = trader.placed(venue.market(), "buy", "1", "100")
    return trader.put(f"/orders/{placed['order_id']}", {"quantity": "2", "version": 7})


@meets(1009, 409)
def cancel_of_a_filled_order(venue: RunningVenue) -> Reply:
    trader, market = venue.account("limits"), venue.market()
    filled = trader.placed(market, "sell", "1", "100")
    trader.placed(market, "buy", "1", "100")
    return trader.delete(f"/orders/{filled['order_id']}")


@meets(1009, 409)
def cancel_of_an_expired_order(venue: RunningVenue) -> Reply:
    trader = venue.account("limits")
    expired = trader.placed(venue.market(), "buy", "1", "100", time_in_force="ioc")
    return trader.delete(f"/orders/{expired['order_id']}")


@meets(1009, 409)
def replace_of_a_canceled_order(venue: RunningVenue) -> Reply:
    trader = venue.account("limits")
    order_id = trader.placed(venue.market(), "buy", "1", "100")["order_id"]
    trader.delete(f"/orders/{order_id}")
    return trader.put(f"/orders/{order_id}", {"quantity": "2"})


@meets(1010, 409)
def halted(venue: RunningVenue) -> Reply:
    market = venue.market()
    venue.ok(venue.admin("PUT", f"/symbols/{market}/status", {"status": "halted"}))
    reply = venue.account("limits").post("/orders", order(market))
    assert reply.json["details"] == {"status": "halted"}
    return reply


@meets(1010, 409)
def cancel_only(venue: RunningVenue) -> Reply:
    trader, market = venue.account("limits"), venue.market()
    resting = trader.placed(market, "buy", "1", "100")["order_id"]
    venue.ok(venue.admin("PUT", f"/symbols/{market}/status", {"status": "cancel_only"}))
    reply = trader.put(f"/orders/{resting}", {"quantity": "2"})
    assert venue.ok(trader.delete(f"/orders/{resting}"))["status"] == "canceled"
    return reply


@meets(1011, 422)
def post_only_would_cross(venue: RunningVenue) -> Reply:
    trader, market = venue.account("limits"), venue.market()
    trader.placed(market, "sell", "1", "100")
    return trader.place(market, "buy", "1", "100", post_only=True)


@meets(1012, 422)
def stale(venue: RunningVenue) -> Reply:
    return venue.account("limits").post("/orders", order(venue.market(), valid_until="1"))


@meets(2001, 401)
def no_token(venue: RunningVenue) -> Reply:
    return venue.call("GET", "/balances")


@meets(2001, 401)
def another_scheme(venue: RunningVenue) -> Reply:
    return venue.call("GET", "/balances", headers={"Authorization": "Basic YTpi"})


@meets(2002, 401)
def a_bad_token(venue: RunningVenue) -> Reply:
    return venue.call("GET", "/balances", token="a.b.c")


@meets(2003, 403)
def another_scope(venue: RunningVenue) -> Reply:
    return venue.account(scope="read").post("/orders", order(venue.market()))


@meets(2003, 403)
def an_account_that_does_not_exist(venue: RunningVenue) -> Reply:
    return venue.call("POST", "/orders", order(venue.market()), venue.token("nobody"))


@meets(3001, 422)
def position_limit(venue: RunningVenue) -> Reply:
    trader = venue.account("limits")
    venue.ok(venue.admin("PUT", f"/accounts/{trader.name}/limits", {"position_max": "2.5"}))
    reply = trader.post("/orders", order(venue.market(), quantity="3"))
    assert reply.json["details"] == {"limit": "2.5", "value": "3"}
    return reply


@meets(3002, 422)
def notional_limit(venue: RunningVenue) -> Reply:
    trader = venue.account("limits")
    venue.ok(venue.admin("PUT", f"/accounts/{trader.name}/limits", {"order_notional_max": "299.99"}))
    reply = trader.post("/orders", order(venue.market(), quantity="3"))
    assert reply.json["details"] == {"limit": "299.99", "value": "300"}
    return reply


@meets(3002, 422)
def quantity_limit_of_the_account(venue: RunningVenue) -> Reply:
    trader = venue.account("limits")
    venue.ok(venue.admin("PUT", f"/accounts/{trader.name}/limits", {"order_quantity_max": "2.999"}))
    reply = trader.post("/orders", order(venue.market(), quantity="3"))
    assert reply.json["details"] == {"limit": "2.999", "value": "3"}
    return reply


@meets(3002, 422)
def quantity_limit_of_the_symbol(venue: RunningVenue) -> Reply:
    market = venue.market(min_quantity="0.01", max_quantity="5")
    reply = venue.account("limits").post("/orders", order(market, quantity="5.001"))
    assert reply.json["details"] == {"limit": "5", "value": "5.001"}
    return reply


@meets(3003, 422)
def insufficient_balance(venue: RunningVenue) -> Reply:
    reply = venue.account("cash", USD="99.99").post("/orders", order(venue.market()))
    assert reply.json["details"] == {"needed": "100", "free": "99.99"}
    return reply


@meets(3005, 403)
def kill_switch(venue: RunningVenue) -> Reply:
    trader = venue.account("limits")
    venue.ok(venue.admin("POST", "/kill", {"account": trader.name, "on": True}))
    return trader.post("/orders", order(venue.market()))


@meets(3006, 422)
def too_many_open_orders(venue: RunningVenue) -> Reply:
    trader, market = venue.account("limits"), venue.market()
    venue.ok(venue.admin("PUT", f"/accounts/{trader.name}/limits", {"open_orders_max": 1}))
    trader.placed(market, "buy", "1", "100")
    reply = trader.post("/orders", order(market))
    assert reply.json["details"] == {"limit": 1, "open": 1}
    return reply


@pytest.mark.parametrize(
    ("code", "status", "case"), CASES, ids=[f"{code}-{case.__name__}" for code, _, case in CASES]
)
def test_an_error_has_its_status_and_one_shape(
    venue: RunningVenue, code: int, status: int, case: Case
) -> None:
    reply = case(venue)

    body = reply.json
    assert (reply.status, body["code"]) == (status, code)
    assert list(body) == ["code", "message", "details", "request_id"]
    assert body["request_id"] == reply.headers["x-request-id"]
    assert reply.headers["content-type"] == "application/json"
    assert "Traceback" not in body["message"] and "Error" not in body["message"]


def test_every_error_is_met() -> None:
    assert {code for code, _, _ in CASES} | MET_ELSEWHERE.keys() == ERRORS.keys()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": "0"}, "quantity"),
        ({"quantity": "-5"}, "quantity"),
        ({"price": "-10"}, "price"),
        ({"price": "0"}, "price"),
        ({"price": None}, ""),
        ({"price": 100}, ""),
        ({"price": 100.0}, ""),
        ({"quantity": 1}, ""),
        ({"side": "hold"}, ""),
        ({"side": "BUY"}, ""),
        ({"type": "trailing"}, ""),
        ({"time_in_force": "gtx"}, ""),
        ({"unknown": 1}, ""),
        ({"post_only": "true"}, ""),
        ({"client_order_id": ""}, ""),
        ({"client_order_id": "a b"}, ""),
        ({"client_order_id": "x" * 37}, ""),
        ({"type": "market"}, "price"),
        ({"type": "market", "price": ..., "time_in_force": "gtc"}, "time_in_force"),
        ({"price": ...}, "price"),
        ({"stop_price": "90"}, "stop_price"),
        ({"type": "stop", "price": ...}, "stop_price"),
        ({"type": "stop", "stop_price": "90"}, "price"),
        ({"type": "stop_limit", "stop_price": "90", "time_in_force": "ioc"}, "time_in_force"),
        ({"post_only": True, "time_in_force": "ioc"}, "post_only"),
        ({"display_quantity": "2"}, "display_quantity"),
        ({"display_quantity": "0.5", "time_in_force": "fok"}, "display_quantity"),
        ({"time_in_force": "gtd"}, "expire_at"),
        ({"expire_at": str(4 * 10**18)}, "expire_at"),
        ({"time_in_force": "gtd", "expire_at": "1"}, "expire_at"),
        ({"time_in_force": "gtd", "expire_at": "9999999999999999999"}, "expire_at"),
        ({"time_in_force": "gtd", "expire_at": 4 * 10**18}, ""),
        ({"valid_until": "tomorrow"}, "valid_until"),
        ({"symbol": ...}, ""),
        ({"quantity": ...}, ""),
    ],
    ids=str,
)
def test_an_order_that_contradicts_itself_is_invalid(
    venue: RunningVenue, change: dict[str, Any], field: str
) -> None:
    trader = venue.account("limits")
    body = {name: value for name, value in (order("BTC-USD") | change).items() if value is not ...}

    reply = trader.post("/orders", body)

    assert (reply.status, reply.code) == (400, 1002)
    assert reply.json["details"] == ({"field": field} if field else {})
    assert venue.ok(trader.get("/orders"))["items"] == []
