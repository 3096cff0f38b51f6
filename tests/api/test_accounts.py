"""Money, positions and limits over REST, with exact numbers in both risk modes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.venue_process import RunningVenue, Trader


def base_of(market: str) -> str:
    return market.removesuffix("-USD")


def balances(trader: Trader) -> dict[str, tuple[str, str, str]]:
    """asset -> (free, reserved, total), of the assets that there is something of"""
    rows = trader.venue.ok(trader.get("/balances"))["items"]
    return {row["asset"]: (row["free"], row["reserved"], row["total"]) for row in rows if row["total"] != "0"}


def positions(trader: Trader) -> dict[str, tuple[str, str, str]]:
    """symbol -> (quantity, open buys, open sells)"""
    rows = trader.venue.ok(trader.get("/positions"))["items"]
    return {row["symbol"]: (row["quantity"], row["open_buys"], row["open_sells"]) for row in rows}


@pytest.fixture
def market(venue: RunningVenue) -> str:
    """Fees of 10 and 25 basis points."""
    return venue.market(maker_fee_bps="10", taker_fee_bps="25")


def test_a_resting_buy_reserves_its_worst_cost_with_the_taker_fee(venue: RunningVenue, market: str) -> None:
    buyer = venue.account("cash", USD="1000")

    order = buyer.placed(market, "buy", "3", "100.01")

    # 300.03 and 0.25 % of it, rounded up to the last unit.
    assert balances(buyer) == {"USD": ("699.219925", "300.780075", "1000")}
    venue.ok(buyer.delete(f"/orders/{order['order_id']}"))
    assert balances(buyer) == {"USD": ("1000", "0", "1000")}


def test_a_trade_moves_money_and_charges_maker_and_taker(venue: RunningVenue, market: str) -> None:
    base = base_of(market)
    seller, buyer = venue.account("cash", **{base: "5"}), venue.account("cash", USD="1000")
    seller.placed(market, "sell", "2", "100")
    assert balances(seller) == {base: ("3", "2", "5")}

    bought = buyer.placed(market, "buy", "1.5", "101")

    assert [fill["fee"] for fill in bought["fills"]] == ["0.375"]
    assert balances(buyer) == {base: ("1.5", "0", "1.5"), "USD": ("849.625", "0", "849.625")}
    assert balances(seller) == {base: ("3", "0.5", "3.5"), "USD": ("149.85", "0", "149.85")}
    assert positions(buyer) == {market: ("1.5", "0", "0")}
    assert positions(seller) == {market: ("-1.5", "0", "0.5")}


def test_a_replace_and_a_partial_fill_reserve_exactly_what_is_left(venue: RunningVenue, market: str) -> None:
    seller, buyer = venue.account("limits"), venue.account("cash", USD="1000")
    order = buyer.placed(market, "buy", "4", "100")["order_id"]
    assert balances(buyer)["USD"] == ("599", "401", "1000")

    venue.ok(buyer.put(f"/orders/{order}", {"quantity": "3", "price": "90"}))
    assert balances(buyer)["USD"] == ("729.325", "270.675", "1000")

    seller.placed(market, "sell", "1", "90")
    # The fill cost 90 and a maker's 0.09; two are left, at most as a taker.
    assert balances(buyer)["USD"] == ("729.46", "180.45", "909.91")


def test_the_last_unit_of_a_balance_can_be_spent_and_not_one_more(venue: RunningVenue) -> None:
    market = venue.market()
    buyer = venue.account("cash", USD="100")

    too_much = buyer.place(market, "buy", "1", "100.01")
    all_of_it = buyer.place(market, "buy", "1", "100")

    assert (too_much.code, too_much.json["details"]) == (3003, {"needed": "100.01", "free": "100"})
    assert all_of_it.status == 200 and balances(buyer)["USD"] == ("0", "100", "100")


def test_an_account_of_limits_may_go_negative_and_reserves_nothing(venue: RunningVenue, market: str) -> None:
    base = base_of(market)
    seller, buyer = venue.account("limits"), venue.account("limits")
    seller.placed(market, "sell", "2", "100")

    buyer.placed(market, "buy", "2", "100")

    assert balances(buyer) == {base: ("2", "0", "2"), "USD": ("-200.5", "0", "-200.5")}
    assert balances(seller) == {base: ("-2", "0", "-2"), "USD": ("199.8", "0", "199.8")}
    assert positions(seller) == {market: ("-2", "0", "0")}


def test_limits_bind_exactly_and_are_shown(venue: RunningVenue) -> None:
    market = venue.market()
    trader = venue.account("limits")
    limits = {
        "position_max": "5",
        "order_notional_max": "400",
        "order_quantity_max": "4",
        "open_orders_max": 2,
    }
    venue.ok(venue.admin("PUT", f"/accounts/{trader.name}/limits", limits))
    assert venue.ok(trader.get("/risk/limits")) == {"mode": "limits"} | limits

    assert trader.place(market, "buy", "4", "100.01").code == 3002
    assert trader.place(market, "buy", "4.001", "10").code == 3002
    first = trader.placed(market, "buy", "4", "100")
    assert trader.place(market, "buy", "1.001", "1").code == 3001
    trader.placed(market, "buy", "1", "1")
    assert trader.place(market, "sell", "1", "200").code == 3006

    state = venue.ok(trader.get("/risk/state"))
    assert state == {
        "killed": False,
        "open_orders": 2,
        "open_orders_max": 2,
        "balances": state["balances"],
        "positions": [{"symbol": market, "quantity": "0", "open_buys": "5", "open_sells": "0"}],
    }
    venue.ok(trader.delete(f"/orders/{first['order_id']}"))
    assert trader.place(market, "sell", "1", "200").status == 200


def test_an_account_tells_itself(venue: RunningVenue) -> None:
    trader = venue.account("cash", USD="1")
    trader.placed(venue.market(), "buy", "1", "1")

    me = venue.ok(trader.get("/accounts/me"))

    assert me == {"account": trader.name, "mode": "cash", "killed": False, "open_orders": 1}


def test_the_fee_schedule_lists_every_symbol(venue: RunningVenue, market: str) -> None:
    fees = venue.ok(venue.account().get("/fees"))["items"]

    assert {"symbol": market, "maker_fee_bps": "10", "taker_fee_bps": "25"} in fees
    assert {"symbol": "BTC-USD", "maker_fee_bps": "0", "taker_fee_bps": "0"} in fees


@pytest.mark.parametrize(
    "path", ["/accounts/me", "/balances", "/positions", "/risk/limits", "/risk/state", "/fees"]
)
def test_an_account_that_was_never_created_is_forbidden(venue: RunningVenue, path: str) -> None:
    reply = venue.call("GET", path, token=venue.token("nobody"))

    assert (reply.status, reply.code) == (403, 2003)


def test_nothing_is_created_or_lost_by_trading(venue: RunningVenue, market: str) -> None:
    base = base_of(market)
    traders = [venue.account("cash", USD="1000", **{base: "10"}) for _ in range(3)]
    for i in range(30):
        side = ("buy", "sell")[i % 2]
        traders[i % 3].place(market, side, f"0.{i + 101}", f"{100 + i * 7 % 5}.{i % 10}7")
    for trader in traders:
        venue.ok(trader.delete("/orders"))

    def units(text: str) -> int:
        whole, _, fraction = text.partition(".")
        return int(whole + fraction.ljust(8, "0"))

    held: dict[str, int] = {}
    paid = 0
    for trader in traders:
        for asset, (free, reserved, total) in balances(trader).items():
            assert (reserved, free) == ("0", total)
            held[asset] = held.get(asset, 0) + units(total)
    trades: list[Any] = venue.ok(venue.call("GET", f"/market/{market}/trades"))["items"]
    assert len(trades) > 5
    for trade in trades:
        # In lots of a thousandth and ticks of a cent a notional is whole in 1e-5; fees are 10 + 25 bps of it.
        paid += units(trade["price"]) * units(trade["quantity"]) // 10**8 * 35 // 10**4
    assert held[base] == 30 * 10**8
    # Each order's fees are rounded up in total, by less than one unit.
    assert 0 <= 3000 * 10**8 - held["USD"] - paid <= 60
