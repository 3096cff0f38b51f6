"""Administration over its own listener: every call, what it changes, and what it refuses."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.api.venue_process import Reply, RunningVenue, Trader

S = 1_000_000_000


def test_an_account_is_created_once_and_can_be_looked_at(venue: RunningVenue) -> None:
    created = venue.admin("POST", "/accounts", {"account": "New_account-1", "mode": "limits"})

    nothing: dict[str, Any] = {
        "mode": "limits",
        "position_max": "0",
        "order_notional_max": "0",
        "order_quantity_max": "0",
        "open_orders_max": 0,
    }
    assert venue.ok(created) == {
        "account": "New_account-1",
        "mode": "limits",
        "killed": False,
        "open_orders": 0,
        "limits": nothing,
        "balances": [],
        "positions": [],
    }
    again = venue.admin("POST", "/accounts", {"account": "New_account-1", "mode": "limits"})
    other = venue.admin("POST", "/accounts", {"account": "New_account-1", "mode": "cash"})
    assert (again.status, again.json) == (200, created.json)
    assert (other.status, other.code) == (400, 1002)
    assert venue.ok(venue.admin("GET", "/accounts/New_account-1")) == created.json
    assert venue.ok(venue.admin("GET", "/accounts"))["items"][-1] == "New_account-1"
    assert venue.ok(venue.admin("POST", "/accounts", {"account": "cash_is_usual"}))["mode"] == "cash"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/accounts", {"account": ""}, 400, 1002),
        ("POST", "/accounts", {"account": "*"}, 400, 1002),
        ("POST", "/accounts", {"account": "x" * 37}, 400, 1002),
        ("POST", "/accounts", {"account": "x", "mode": "margin"}, 400, 1002),
        ("POST", "/accounts", {"account": "x", "unknown": 1}, 400, 1002),
        ("GET", "/accounts/nobody", None, 404, 1002),
        ("PUT", "/accounts/nobody/limits", {}, 404, 1002),
        ("PUT", "/accounts/demo/limits", {"position_max": "-1"}, 400, 1002),
        ("PUT", "/accounts/demo/limits", {"position_max": 1}, 400, 1002),
        ("PUT", "/accounts/demo/limits", {"open_orders_max": -1}, 400, 1002),
        ("PUT", "/accounts/demo/limits", {"open_orders_max": 1.5}, 400, 1002),
        ("POST", "/accounts/nobody/adjustments", {"asset": "USD", "amount": "1", "txn_id": "t"}, 404, 1002),
        ("POST", "/accounts/demo/adjustments", {"asset": "usd", "amount": "1", "txn_id": "t"}, 400, 1002),
        ("POST", "/accounts/demo/adjustments", {"asset": "USD", "amount": "+1", "txn_id": "t"}, 400, 1002),
        ("POST", "/accounts/demo/adjustments", {"asset": "USD", "amount": "--1", "txn_id": "t"}, 400, 1002),
        ("POST", "/accounts/demo/adjustments", {"asset": "USD", "amount": "1", "txn_id": ""}, 400, 1002),
        ("POST", "/accounts/demo/adjustments", {"asset": "USD", "amount": "1e3", "txn_id": "t"}, 400, 1002),
        ("POST", "/symbols", {"symbol": "A-B", "tick_size": "0", "lot_size": "1"}, 400, 1002),
        ("POST", "/symbols", {"symbol": "A-B", "tick_size": "1", "lot_size": "0"}, 400, 1002),
        ("POST", "/symbols", {"symbol": "A-B", "tick_size": "0.00000001", "lot_size": "0.1"}, 400, 1002),
        ("POST", "/symbols", {"symbol": "A-A", "tick_size": "1", "lot_size": "1"}, 400, 1002),
        ("POST", "/symbols", {"symbol": "AB", "tick_size": "1", "lot_size": "1"}, 400, 1002),
        ("POST", "/symbols", {"symbol": "a-b", "tick_size": "1", "lot_size": "1"}, 400, 1002),
        (
            "POST", "/symbols",
            {"symbol": "A-B", "tick_size": "1", "lot_size": "1", "band_bps": "10000"}, 400, 1002,
        ),
        (
            "POST", "/symbols",
            {"symbol": "A-B", "tick_size": "1", "lot_size": "1", "maker_fee_bps": "2", "taker_fee_bps": "1"},
            400, 1002,
        ),
        (
            "POST", "/symbols",
            {"symbol": "A-B", "tick_size": "1", "lot_size": "1", "min_quantity": "2", "max_quantity": "1"},
            400, 1002,
        ),
        (
            "POST", "/symbols",
            {"symbol": "A-B", "tick_size": "1", "lot_size": "1", "min_quantity": "1.5"}, 400, 1002,
        ),
        ("PUT", "/symbols/NO-SUCH/status", {"status": "halted"}, 404, 1003),
        ("PUT", "/symbols/BTC-USD/status", {"status": "open"}, 400, 1002),
        ("PUT", "/symbols/NO-SUCH/reference", {"price": "1"}, 404, 1003),
        ("PUT", "/symbols/BTC-USD/reference", {"price": "0.001"}, 400, 1002),
        ("PUT", "/symbols/NO-SUCH/fees", {"maker_fee_bps": "1", "taker_fee_bps": "1"}, 404, 1003),
        ("PUT", "/symbols/BTC-USD/fees", {"maker_fee_bps": "2", "taker_fee_bps": "1"}, 400, 1002),
        ("PUT", "/symbols/BTC-USD/fees", {"maker_fee_bps": "0", "taker_fee_bps": "1000.01"}, 400, 1002),
        ("PUT", "/symbols/BTC-USD/fees", {"maker_fee_bps": "0", "taker_fee_bps": "0.001"}, 400, 1002),
        ("PUT", "/symbols/BTC-USD/fees", {"maker_fee_bps": "1"}, 400, 1002),
        ("PUT", "/symbols/NO-SUCH/band", {"band_bps": "1"}, 404, 1003),
        ("PUT", "/symbols/BTC-USD/band", {"band_bps": "-1"}, 400, 1002),
        ("POST", "/kill", {"account": "nobody", "on": True}, 404, 1002),
        ("POST", "/kill", {"account": "demo"}, 400, 1002),
        ("POST", "/kill", {"account": "demo", "on": 1}, 400, 1002),
        ("POST", "/cancel-all", {"account": "nobody"}, 404, 1002),
        ("POST", "/cancel-all", {"account": "demo", "symbol": "NO-SUCH"}, 404, 1003),
        ("POST", "/tokens/revoke", {}, 400, 1002),
        ("POST", "/tokens/revoke", {"jti": "a", "account": "demo"}, 400, 1002),
        ("POST", "/tokens/revoke", {"jti": ""}, 400, 1002),
        ("POST", "/tokens/revoke", {"account": "nobody"}, 404, 1002),
        (
            "POST", "/accounts/demo/adjustments",
            {"asset": "USD", "amount": "-46116860184.27387905", "txn_id": "t"}, 400, 1002,
        ),
        ("PUT", "/accounts/demo/limits", {"position_max": "999999999999999999"}, 400, 1002),
        ("PUT", "/rules", {"step_orders_max": 0}, 400, 1002),
        ("PUT", "/rules", {"step_orders_max": 1001}, 400, 1002),
        ("PUT", "/rules", {"unknown": 1}, 400, 1002),
        ("PUT", "/rules", {"account_orders_max": -1}, 400, 1002),
        ("PUT", "/rules", {"account_orders_max": 2**63}, 400, 1002),
        ("PUT", "/rules", {"account_orders_max": 2**64}, 400, 1002),
        ("PUT", "/rules", {"idempotency_window_ns": 10**300}, 400, 1002),
        ("DELETE", "/accounts", None, 405, 1002),
        ("POST", "/symbols/BTC-USD/fees", {"symbol": "A-B", "tick_size": "1", "lot_size": "1"}, 405, 1002),
        ("GET", "/nothing", None, 404, 1002),
    ],
)  # fmt: skip
def test_what_admins_may_not_ask_for_is_refused_and_changes_nothing(
    venue: RunningVenue, method: str, path: str, body: Any, status: int, code: int
) -> None:
    def state() -> list[bytes]:
        admin = [venue.admin("GET", at).body for at in ("/accounts", "/accounts/demo", "/rules")]
        return [*admin, venue.call("GET", "/symbols").body]

    before = state()

    reply = venue.admin(method, path, body)

    assert (reply.status, reply.code) == (status, code), reply
    assert state() == before


def test_an_adjustment_counts_once_for_its_txn_id(venue: RunningVenue) -> None:
    trader = venue.account("cash")

    def adjust(amount: str, txn_id: str) -> Reply:
        body = {"asset": "USD", "amount": amount, "txn_id": txn_id}
        return venue.admin("POST", f"/accounts/{trader.name}/adjustments", body)

    first = venue.ok(adjust("100.5", f"{trader.name}-1"))
    again = venue.ok(adjust("100.5", f"{trader.name}-1"))
    out = venue.ok(adjust("-0.50000001", f"{trader.name}-2"))
    too_much = adjust("-100", f"{trader.name}-3")

    usd = {"asset": "USD", "free": "100.5", "reserved": "0", "total": "100.5"}
    assert first["balances"] == again["balances"] == [usd]
    assert out["balances"] == [usd | {"free": "99.99999999", "total": "99.99999999"}]
    assert (too_much.status, too_much.code) == (422, 3003)
    assert too_much.json["details"] == {"needed": "100", "free": "99.99999999"}
    # The refused one left its txn_id unused.
    assert venue.ok(adjust("-99.99999999", f"{trader.name}-3"))["balances"][0]["total"] == "0"


def test_a_grid_changes_only_while_the_book_is_empty(venue: RunningVenue) -> None:
    market, trader = venue.market("0.01", "0.001"), venue.account("limits")
    order = trader.placed(market, "buy", "1", "0.01")["order_id"]
    change = {"symbol": market, "tick_size": "0.1", "lot_size": "0.001"}

    refused = venue.admin("POST", "/symbols", change)
    fees_only = venue.admin("POST", "/symbols", change | {"tick_size": "0.01", "taker_fee_bps": "3"})
    venue.ok(trader.delete(f"/orders/{order}"))
    changed = venue.admin("POST", "/symbols", change)

    assert (refused.status, refused.code) == (400, 1002)
    assert (fees_only.status, fees_only.json["taker_fee_bps"]) == (200, "3")
    assert (changed.status, changed.json["tick_size"], changed.json["taker_fee_bps"]) == (200, "0.1", "0")
    assert trader.place(market, "buy", "1", "0.01").code == 1004


def test_fees_hold_for_orders_that_come_after(venue: RunningVenue) -> None:
    market, maker, taker = venue.market(), venue.account("limits"), venue.account("limits")
    maker.placed(market, "sell", "2", "100")

    symbol = venue.ok(
        venue.admin("PUT", f"/symbols/{market}/fees", {"maker_fee_bps": "1.5", "taker_fee_bps": "10"})
    )
    bought = taker.placed(market, "buy", "1", "100")
    maker.placed(market, "sell", "1", "99")
    again = taker.placed(market, "buy", "1", "99")

    assert (symbol["maker_fee_bps"], symbol["taker_fee_bps"]) == ("1.5", "10")
    # The maker's first order keeps the rates that it was placed with.
    assert (bought["fills"][0]["fee"], again["fills"][0]["fee"]) == ("0.1", "0.099")
    assert maker.balance("USD") == ("198.98515", "0")


def test_a_band_starts_with_a_reference_and_moves_with_trades(venue: RunningVenue) -> None:
    market, trader = venue.market(), venue.account("limits")
    venue.ok(venue.admin("PUT", f"/symbols/{market}/band", {"band_bps": "100"}))
    trader.placed(market, "buy", "1", "50")
    assert venue.ok(venue.admin("PUT", f"/symbols/{market}/reference", {"price": "100.00"})) == {
        "symbol": market,
        "price": "100",
    }

    assert trader.place(market, "buy", "1", "98.99").code == 1005
    assert trader.place(market, "sell", "1", "101.01").code == 1005
    trader.placed(market, "sell", "1", "101")
    trader.placed(market, "buy", "1", "101")

    assert trader.place(market, "buy", "1", "99.98").json["details"] == {"bound": "99.99", "price": "99.98"}
    venue.ok(venue.admin("PUT", f"/symbols/{market}/band", {"band_bps": "0"}))
    assert trader.place(market, "buy", "1", "1").status == 200


@pytest.mark.parametrize("scope", ["symbol", "*"])
def test_halt_cancel_only_and_resume(venue: RunningVenue, scope: str) -> None:
    market, trader = venue.market(), venue.account("limits")
    where = market if scope == "symbol" else "*"
    path = f"/symbols/{where.replace('*', '%2A')}/status"
    ids = [trader.placed(market, "buy", "1", "10")["order_id"] for _ in range(2)]

    for status, order in zip(("halted", "cancel_only"), ids, strict=True):
        answer = venue.ok(venue.admin("PUT", path, {"status": status}))
        assert answer == {"symbol": where, "status": status}
        refused = trader.place(market, "buy", "1", "10")
        assert (refused.code, refused.json["details"]) == (1010, {"status": status})
        assert venue.ok(venue.call("GET", f"/symbols/{market}"))["status"] == status
        assert venue.ok(trader.delete(f"/orders/{order}"))["status"] == "canceled"

    venue.ok(venue.admin("PUT", path, {"status": "trading"}))
    assert trader.place(market, "buy", "1", "10").status == 200


def opened(trader: Trader) -> int:
    return len(trader.venue.ok(trader.get("/orders?limit=1000"))["items"])


def test_the_kill_switch_cancels_everything_and_refuses_until_it_is_lifted(venue: RunningVenue) -> None:
    market, killed, other = venue.market(), venue.account("limits"), venue.account("limits")
    order = killed.placed(market, "buy", "1", "10")["order_id"]
    killed.placed(market, "sell", "1", type="stop", stop_price="5")
    other.placed(market, "buy", "1", "10")

    answer = venue.ok(venue.admin("POST", "/kill", {"account": killed.name, "on": True}))

    assert answer == {"account": killed.name, "on": True, "canceled": 2, "pending": False}
    assert killed.order(order)["reason"] == "kill_switch"
    assert (opened(killed), opened(other)) == (0, 1)
    assert killed.place(market, "buy", "1", "10").code == 3005
    assert venue.ok(killed.get("/accounts/me"))["killed"] and venue.ok(killed.get("/risk/state"))["killed"]
    off = venue.ok(venue.admin("POST", "/kill", {"account": killed.name, "on": False}))
    assert off == {"account": killed.name, "on": False, "canceled": 0, "pending": False}
    assert killed.place(market, "buy", "1", "10").status == 200


def test_the_kill_switch_of_all_accounts(venue: RunningVenue) -> None:
    market, traders = venue.market(), [venue.account("limits") for _ in range(2)]
    for trader in traders:
        trader.placed(market, "buy", "1", "10")

    answer = venue.ok(venue.admin("POST", "/kill", {"account": "*", "on": True}))
    try:
        assert answer["canceled"] >= 2 and not answer["pending"]
        for trader in traders:
            assert opened(trader) == 0
            assert trader.place(market, "buy", "1", "10").code == 3005
            assert venue.ok(trader.get("/risk/state"))["killed"]
    finally:
        venue.ok(venue.admin("POST", "/kill", {"account": "*", "on": False}))
    assert traders[0].place(market, "buy", "1", "10").status == 200


def test_cancel_all_takes_an_accounts_orders_of_a_symbol_or_everybodys(venue: RunningVenue) -> None:
    first, second = venue.market(), venue.market()
    alice, bob = venue.account("limits"), venue.account("limits")
    ids = [
        trader.placed(market, "buy", "1", "10")["order_id"]
        for market in (first, second)
        for trader in (alice, bob)
    ]

    def cancel_all(**body: str) -> int:
        answer = venue.ok(venue.admin("POST", "/cancel-all", body))
        assert not answer["pending"]
        return int(answer["canceled"])

    assert cancel_all(account=alice.name, symbol=first) == 1
    assert alice.order(ids[0])["reason"] == "mass_cancel"
    assert (opened(alice), opened(bob)) == (1, 2)
    assert cancel_all(account="*", symbol=second) == 2
    assert cancel_all(account=bob.name) == 1
    assert (opened(alice), opened(bob)) == (0, 0)


def test_a_revoked_token_is_refused_at_once_also_where_it_is_remembered(venue: RunningVenue) -> None:
    name = venue.account("limits").name
    by_jti, other = venue.token(name, jti="to-be-revoked"), venue.token(name, jti="not-this-one")
    assert [venue.call("GET", "/balances", token=token).status for token in (by_jti, other)] == [200, 200]

    assert venue.ok(venue.admin("POST", "/tokens/revoke", {"jti": "to-be-revoked"})) == {"revoked": True}

    assert venue.call("GET", "/balances", token=by_jti).code == 2002
    assert venue.call("GET", "/balances", token=other).status == 200
    assert venue.call("GET", "/balances", token=venue.token(name, jti="to-be-revoked")).code == 2002


def test_all_tokens_of_an_account_can_be_revoked_up_to_now(venue: RunningVenue) -> None:
    trader, other = venue.account("limits"), venue.account("limits")
    assert trader.get("/balances").status == other.get("/balances").status == 200

    venue.ok(venue.admin("POST", "/tokens/revoke", {"account": trader.name}))

    assert trader.get("/balances").code == 2002
    assert other.get("/balances").status == 200
    time.sleep(1.1)
    assert venue.call("GET", "/balances", token=venue.token(trader.name)).status == 200


def test_a_revocation_outlives_a_crash(venue: RunningVenue) -> None:
    trader = venue.account("limits")
    venue.ok(venue.admin("POST", "/tokens/revoke", {"account": trader.name}))

    venue.kill9()
    venue.start()

    assert trader.get("/balances").code == 2002


def test_rules_change_one_by_one_and_are_told_whole(venue: RunningVenue) -> None:
    before = venue.ok(venue.admin("GET", "/rules"))
    assert before["account_orders_max"] == 200_000 and before["idempotency_window_ns"] == 3600 * S
    try:
        changed = venue.ok(venue.admin("PUT", "/rules", {"account_orders_max": 3, "closed_orders_max": 20}))

        assert changed == before | {"account_orders_max": 3, "closed_orders_max": 20}
        assert venue.ok(venue.admin("GET", "/rules")) == changed
        trader, market = venue.account("limits"), venue.market()
        codes = [trader.place(market, "buy", "1", "10").code for _ in range(4)]
        assert codes == [0, 0, 0, 3006]
    finally:
        venue.ok(venue.admin("PUT", "/rules", before))


def test_every_admin_command_takes_a_sequence_number(venue: RunningVenue) -> None:
    before = venue.admin("GET", "/rules").seq

    replies = [
        venue.admin("POST", "/accounts", {"account": "demo", "mode": "limits"}),
        venue.admin("PUT", "/symbols/BTC-USD/status", {"status": "trading"}),
        venue.admin("POST", "/cancel-all", {"account": "demo"}),
        venue.admin("POST", "/accounts", {"account": "demo", "mode": "cash"}),
    ]

    assert [reply.seq for reply in replies] == [before + 1, before + 2, before + 3, before + 4]
