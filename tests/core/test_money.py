"""Balances, reservations, fees and limits: exact to the last unit of 1e-8."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.core.desk import (
    BTC,
    MIDNIGHT_NS,
    Desk,
    a_desk,
    accepted,
    closed,
    parked,
    refused,
    replaced,
    rested,
    traded,
    was_set,
)
from tradsys.core.messages import (
    BUY,
    EXPIRED,
    FOK,
    GTD,
    INSUFFICIENT_BALANCE,
    IOC,
    NOT_ALLOWED,
    POSITION_LIMIT,
    PRICE_BAND,
    SELL,
    SIZE_LIMIT,
    TOO_MANY_ORDERS,
    UNFILLED,
    AdjustBalance,
    DefineInstrument,
    Instrument,
    SetReference,
)

WITH_FEES = replace(BTC, maker_fee_ppm=1_000, taker_fee_ppm=2_000)
"""0.1 % and 0.2 %"""


def a_cash_desk(*opening: str, instrument: Instrument = BTC, usd: int = 100_000, btc: int = 100) -> Desk:
    """eve pays cash; the others have limits, and none set."""
    desk = a_desk(*opening, instrument=instrument)
    desk.cash_account("eve", USD=usd, BTC=btc)
    return desk


# --- reservations -------------------------------------------------------------------------------------


def test_a_resting_buy_reserves_its_price_and_a_cancel_releases_it() -> None:
    desk = a_cash_desk()

    desk.buy(7, at=1000, by="eve")
    resting = desk.money("eve")
    desk.cancel(1, by="eve")

    assert resting == (93_000, 7_000)
    assert desk.money("eve") == (100_000, 0)


def test_a_resting_sell_reserves_the_base() -> None:
    desk = a_cash_desk()

    desk.sell(7, at=1000, by="eve")

    assert desk.money("eve", "BTC") == (93, 7)
    assert desk.money("eve") == (100_000, 0)


def test_a_buy_reserves_the_highest_fee_too() -> None:
    desk = a_cash_desk(instrument=WITH_FEES)

    desk.buy(7, at=1001, by="eve")

    # 7007 and 0.2 % of it, 14.014, rounded up.
    assert desk.money("eve") == (100_000 - 7_007 - 15, 7_007 + 15)


def test_what_a_better_price_saves_is_free_at_once() -> None:
    desk = a_cash_desk("ann sell 4 @ 990")

    events = desk.buy(10, at=1000, by="eve")

    assert events == [accepted(2), traded(1, 1, 2, 990, 4, left=(0, 6)), rested(2, BUY, 1000, 6)]
    assert desk.money("eve") == (100_000 - 4 * 990 - 6_000, 6_000)


def test_each_fill_of_a_maker_releases_what_it_no_longer_needs() -> None:
    desk = a_cash_desk(instrument=WITH_FEES)
    desk.buy(10, at=1000, by="eve")

    desk.sell(4, at=1000)

    # 4,000 paid, 4 of maker's fee; 6,000 are open, with 12 of taker's fee at worst.
    assert desk.money("eve") == (100_000 - 4_004 - 6_012, 6_012)
    assert desk.money("eve", "BTC") == (104, 0)


def test_a_buy_that_costs_more_than_is_free_is_refused() -> None:
    desk = a_cash_desk(instrument=WITH_FEES, usd=10_019)

    assert desk.buy(10, at=1000, by="eve") == [refused(INSUFFICIENT_BALANCE, 10_020, 10_019)]
    assert desk.money("eve") == (10_019, 0)


def test_what_is_reserved_cannot_be_spent_twice() -> None:
    desk = a_cash_desk(usd=10_000)
    desk.buy(6, at=1000, by="eve")

    assert desk.buy(5, at=1000, by="eve") == [refused(INSUFFICIENT_BALANCE, 5_000, 4_000)]


def test_a_sell_of_more_than_is_held_is_refused() -> None:
    assert a_cash_desk(btc=3).sell(4, at=1000, by="eve") == [refused(INSUFFICIENT_BALANCE, 4, 3)]


def test_an_account_without_the_asset_has_nothing() -> None:
    desk = a_desk()
    desk.cash_account("eve")

    assert desk.buy(1, at=1000, by="eve") == [refused(INSUFFICIENT_BALANCE, 1_000, 0)]


def test_a_market_buy_needs_its_worst_price_and_pays_the_real_one() -> None:
    desk = a_cash_desk("ann sell 5 @ 1000", usd=5_499)
    refusal = desk.buy_at_market(5, by="eve")
    desk.open_with(AdjustBalance("eve", "USD", 1, "one more"))

    events = desk.buy_at_market(5, by="eve")

    assert refusal == [refused(INSUFFICIENT_BALANCE, 5_500, 5_499)], "10 % above the best price"
    assert events == [accepted(3), traded(1, 1, 3, 1000, 5)]
    assert desk.money("eve") == (500, 0)


def test_a_market_buy_in_an_empty_book_needs_nothing() -> None:
    desk = a_cash_desk(usd=0)

    assert desk.buy_at_market(5, by="eve") == [accepted(1), closed(1, EXPIRED, UNFILLED, 5)]


def test_a_stop_reserves_when_it_is_placed() -> None:
    desk = a_cash_desk()

    desk.buy_stop(5, stop=1000, by="eve")
    desk.buy_stop_limit(5, stop=1000, at=1020, by="eve")
    desk.sell_stop(5, stop=900, by="eve")

    assert desk.money("eve") == (100_000 - 5_500 - 5_100, 5_500 + 5_100)
    assert desk.money("eve", "BTC") == (95, 5)


def test_what_an_ioc_and_a_fok_leave_is_free_again() -> None:
    desk = a_cash_desk("ann sell 2 @ 1000")

    desk.buy(5, at=1000, by="eve", time_in_force=FOK)
    desk.buy(5, at=1000, by="eve", time_in_force=IOC)

    assert desk.money("eve") == (98_000, 0)


def test_a_replace_counts_what_the_order_has_reserved_already() -> None:
    desk = a_cash_desk(usd=10_000)
    desk.buy(10, at=900, by="eve")

    assert desk.replace(1, by="eve", price=1001) == [refused(INSUFFICIENT_BALANCE, 10_010, 10_000)]
    assert desk.replace(1, by="eve", price=1000) == [
        replaced(1, 1, 1000, 10, 10, kept=False),
        rested(1, BUY, 1000, 10),
    ]
    assert desk.money("eve") == (0, 10_000)


def test_a_replace_of_a_partly_filled_order_reserves_only_what_is_open() -> None:
    desk = a_cash_desk(usd=10_000)
    desk.buy(10, at=1000, by="eve")
    desk.sell(4, at=1000)

    assert desk.replace(1, by="eve", qty=8) == [replaced(1, 1, 1000, 8, 4, kept=True)]
    assert desk.money("eve") == (2_000, 4_000)


# --- trades and fees ----------------------------------------------------------------------------------


def test_a_trade_moves_base_and_quote_and_both_pay_their_fee_in_quote() -> None:
    desk = a_cash_desk(instrument=WITH_FEES)
    desk.sell(10, at=1000, by="eve")

    assert desk.buy(10, at=1000) == [accepted(2), traded(1, 1, 2, 1000, 10, fees=(10, 20))]
    assert desk.money("eve") == (100_000 + 10_000 - 10, 0)
    assert desk.money("eve", "BTC") == (90, 0)
    assert desk.money("cat") == (-10_020, 0)
    assert desk.money("cat", "BTC") == (10, 0)
    assert desk.fees() == 30


def test_fees_are_rounded_up_over_the_whole_order_not_with_each_fill() -> None:
    desk = a_desk("ann sell 3 @ 100", instrument=WITH_FEES)

    # 100 at 0.1 % and 0.2 % is 0.1 and 0.2 for each lot: the first one pays it all.
    fills = [desk.buy(1, at=100, by="bob")[-1] for _ in range(3)]
    many = desk.order(1).fees
    desk.sell(3, at=100, by="ann")
    at_once = desk.buy(3, at=100, by="bob")[-1]

    assert fills == [
        traded(1, 1, 2, 100, 1, left=(2, 0), fees=(1, 1)),
        traded(2, 1, 3, 100, 1, left=(1, 0), fees=(0, 1)),
        traded(3, 1, 4, 100, 1, left=(0, 0), fees=(0, 1)),
    ]
    assert many == 1
    assert at_once == traded(4, 5, 6, 100, 3, fees=(1, 1))


def test_an_order_keeps_the_fees_it_was_placed_under() -> None:
    desk = a_desk("ann sell 5 @ 1000", instrument=WITH_FEES)
    desk.apply(DefineInstrument(replace(BTC, maker_fee_ppm=50_000, taker_fee_ppm=50_000)))

    assert desk.buy(1, at=1000) == [accepted(3), traded(1, 1, 3, 1000, 1, left=(4, 0), fees=(1, 50))]


def test_a_replaced_order_gets_the_fees_of_today() -> None:
    desk = a_desk("ann sell 5 @ 1000", instrument=WITH_FEES)
    desk.apply(DefineInstrument(replace(BTC, maker_fee_ppm=50_000, taker_fee_ppm=50_000)))
    desk.replace(1, qty=4)

    assert desk.buy(1, at=1000)[-1] == traded(1, 1, 4, 1000, 1, left=(3, 0), fees=(50, 50))


def test_an_account_with_limits_may_owe() -> None:
    desk = a_desk("ann sell 5 @ 1000")
    desk.buy(5, at=1000)

    assert desk.money("cat") == (-5_000, 0)
    assert desk.money("ann", "BTC") == (-5, 0)
    assert (desk.net("cat"), desk.net("ann")) == (5, -5)


def test_a_self_trade_costs_only_the_fees() -> None:
    desk = a_cash_desk(instrument=WITH_FEES)
    desk.sell(10, at=1000, by="eve")
    desk.buy(10, at=1000, by="eve")

    assert desk.money("eve") == (100_000 - 30, 0)
    assert desk.money("eve", "BTC") == (100, 0)
    assert desk.net("eve") == 0


def test_a_seller_never_pays_more_fee_than_it_gets() -> None:
    highest = replace(BTC, maker_fee_ppm=100_000, taker_fee_ppm=100_000)
    desk = a_desk("ann buy 3 @ 1", instrument=highest)
    desk.cash_account("eve", BTC=3)

    fills = [desk.sell(1, at=1, by="eve")[-1] for _ in range(3)]

    assert [fill[7] for fill in fills] == [1, 1, 1]
    assert desk.money("eve") == (0, 0)


# --- deposits and withdrawals -------------------------------------------------------------------------


def test_a_deposit_is_free_at_once() -> None:
    desk = a_cash_desk(usd=0)

    assert desk.apply(AdjustBalance("eve", "USD", 500, "t1")) == [was_set(27)]
    assert desk.money("eve") == (500, 0)


def test_a_transaction_happens_once() -> None:
    desk = a_cash_desk(usd=0)
    desk.apply(AdjustBalance("eve", "USD", 500, "t1"))

    assert desk.apply(AdjustBalance("eve", "USD", 500, "t1")) == []
    assert desk.money("eve") == (500, 0)


def test_only_the_latest_transactions_are_remembered() -> None:
    desk = a_desk()
    desk.rule(txn_ids_max=2)
    for txn_id in ("t1", "t2", "t3"):
        desk.apply(AdjustBalance("ann", "USD", 500, txn_id))

    assert desk.apply(AdjustBalance("ann", "USD", 500, "t2")) == []
    assert desk.apply(AdjustBalance("ann", "USD", 500, "t1")) == [was_set(27)]


def test_what_is_reserved_cannot_be_withdrawn() -> None:
    desk = a_cash_desk(usd=1_000)
    desk.buy(1, at=400, by="eve")

    assert desk.apply(AdjustBalance("eve", "USD", -601, "t1")) == [refused(INSUFFICIENT_BALANCE, 601, 600)]
    assert desk.apply(AdjustBalance("eve", "USD", -600, "t1")) == [was_set(27)], "a refusal took no txn_id"
    assert desk.money("eve") == (0, 400)


def test_an_account_with_limits_may_be_withdrawn_from_below_zero() -> None:
    desk = a_desk()

    assert desk.apply(AdjustBalance("ann", "USD", -600, "t1")) == [was_set(27)]
    assert desk.money("ann") == (-600, 0)


def test_nobody_is_paid_who_does_not_exist() -> None:
    assert a_desk().apply(AdjustBalance("nobody", "USD", 5, "t1")) == [refused(NOT_ALLOWED)]


def test_the_check_sees_a_unit_that_came_from_nowhere() -> None:
    desk = a_cash_desk()
    desk.shard.accounts["eve"].balances["USD"].free += 1

    with pytest.raises(AssertionError):
        desk.shard.check()


# --- limits -------------------------------------------------------------------------------------------


def test_a_position_counts_all_open_orders_of_its_side() -> None:
    desk = a_desk()
    desk.limit("cat", position_max=10)
    desk.buy(4, at=1000)
    desk.buy_stop(3, stop=2000)

    assert desk.buy(4, at=1000) == [refused(POSITION_LIMIT, 10, 11)]
    assert desk.buy(3, at=1000) == [accepted(4), rested(4, BUY, 1000, 3)]
    assert desk.sell(10, at=3000) == [accepted(5), rested(5, SELL, 3000, 10)]


def test_a_position_is_what_was_bought_minus_what_was_sold() -> None:
    desk = a_desk("ann sell 6 @ 1000")
    desk.limit("cat", position_max=10)
    desk.buy(6, at=1000)

    assert desk.buy(5, at=900) == [refused(POSITION_LIMIT, 10, 11)]
    assert desk.sell(17, at=1100) == [refused(POSITION_LIMIT, 10, 11)]
    assert desk.sell(16, at=1100) == [accepted(5), rested(5, SELL, 1100, 16)]


def test_a_replace_is_judged_without_the_orders_own_old_share() -> None:
    desk = a_desk()
    desk.limit("ann", position_max=10)
    desk.buy(8, at=1000, by="ann")

    assert desk.replace(1, qty=11) == [refused(POSITION_LIMIT, 10, 11)]
    assert desk.replace(1, qty=10) == [
        replaced(1, 1, 1000, 10, 10, kept=False),
        rested(1, BUY, 1000, 10),
    ]


def test_a_replace_of_a_partly_filled_order_does_not_count_the_fills_twice() -> None:
    desk = a_desk()
    desk.limit("ann", position_max=10)
    desk.buy(8, at=1000, by="ann")
    desk.sell(4, at=1000)

    assert desk.replace(1, qty=10)[0] == replaced(1, 1, 1000, 10, 6, kept=False)


def test_a_position_outlives_a_new_lot_size() -> None:
    desk = a_desk("ann sell 6 @ 1000")
    desk.limit("cat", position_max=20)
    desk.buy(6, at=1000)
    desk.apply(DefineInstrument(replace(BTC, lot_size=10)))

    assert desk.buy(2, at=1000) == [refused(POSITION_LIMIT, 20, 26)]
    assert desk.buy(1, at=1000) == [accepted(5), rested(5, BUY, 1000, 1)]


def test_an_order_may_be_too_large_for_the_symbol_or_the_account() -> None:
    desk = a_desk(instrument=replace(BTC, qty_min=2, qty_max=20))
    desk.limit("cat", order_qty_max=10, order_notional_max=5_000)

    assert desk.buy(1, at=100) == [refused(SIZE_LIMIT, 2, 1)]
    assert desk.buy(21, at=100) == [refused(SIZE_LIMIT, 20, 21)]
    assert desk.buy(11, at=100) == [refused(SIZE_LIMIT, 10, 11)]
    assert desk.buy(10, at=501) == [refused(SIZE_LIMIT, 5_000, 5_010)]
    assert desk.buy(10, at=500) == [accepted(5), rested(5, BUY, 500, 10)]


def test_size_limits_of_an_account_do_not_bind_one_that_pays_cash() -> None:
    desk = a_cash_desk()
    desk.limit("eve", order_qty_max=10, order_notional_max=5_000, position_max=10)

    assert desk.buy(11, at=1000, by="eve") == [accepted(1), rested(1, BUY, 1000, 11)]


def test_open_orders_are_counted_for_the_account_then_for_the_shard() -> None:
    desk = a_cash_desk()
    desk.limit("eve", open_orders_max=1)
    desk.rule(account_orders_max=2, shard_orders_max=3)
    desk.buy(1, at=1000, by="eve")

    assert desk.buy(1, at=1000, by="eve") == [refused(TOO_MANY_ORDERS, 1, 1)]
    desk.buy(1, at=1000, by="ann")
    desk.buy_stop(1, stop=2000, by="ann")
    assert desk.buy(1, at=1000, by="ann") == [refused(TOO_MANY_ORDERS, 2, 2)]
    assert desk.buy(1, at=1000, by="bob") == [refused(TOO_MANY_ORDERS, 3, 3)]


def test_an_order_that_cannot_rest_is_not_counted_but_a_stop_always_is() -> None:
    desk = a_desk("ann sell 1 @ 1000")
    desk.rule(shard_orders_max=1)

    assert desk.buy_stop(1, stop=2000, time_in_force=IOC) == [refused(TOO_MANY_ORDERS, 1, 1)]
    assert desk.buy(2, at=1000, time_in_force=IOC) == [
        accepted(3),
        traded(1, 1, 3, 1000, 1, left=(0, 1)),
        closed(3, EXPIRED, UNFILLED, 1),
    ]


# --- bands and the least notional ---------------------------------------------------------------------


def test_a_price_outside_the_band_around_the_last_trade_is_refused() -> None:
    desk = a_desk(instrument=replace(BTC, band_ppm=15_000))
    first = desk.buy(1, at=5_000)
    desk.cancel(1, by="cat")
    desk.trade_at(1001)

    assert first == [accepted(1), rested(1, BUY, 5_000, 1)], "no reference yet"
    # 1.5 % of 1001 is 15.015: 1016 and 986 are the last prices inside.
    assert desk.buy(1, at=1017) == [refused(PRICE_BAND, 1016, 1017)]
    assert desk.sell(1, at=985) == [refused(PRICE_BAND, 986, 985)]
    assert desk.sell(1, at=1016) == [accepted(7), rested(7, SELL, 1016, 1)]
    assert desk.buy(1, at=986) == [accepted(8), rested(8, BUY, 986, 1)]


def test_an_admin_sets_the_reference_until_the_next_trade_does() -> None:
    desk = a_desk(instrument=replace(BTC, band_ppm=10_000))
    desk.apply(SetReference("BTC-USD", 2_000))

    outside = desk.buy(1, at=1_000)
    desk.trade_at(2_020)
    desk.apply(SetReference("BTC-USD", 0))

    assert outside == [refused(PRICE_BAND, 1_980, 1_000)]
    assert desk.buy(1, at=1_000) == [accepted(6), rested(6, BUY, 1_000, 1)]


def test_the_band_judges_the_limit_of_a_stop_but_no_market_order() -> None:
    desk = a_desk(instrument=replace(BTC, band_ppm=10_000))
    desk.trade_at(1000)

    assert desk.buy_stop_limit(1, stop=1005, at=1011) == [refused(PRICE_BAND, 1010, 1011)]
    assert desk.buy_stop(1, stop=1100) == [accepted(4), parked(4, 1100)]


def test_the_band_is_how_far_a_market_order_may_trade() -> None:
    desk = a_desk(instrument=replace(BTC, band_ppm=10_000))
    desk.trade_at(1000)
    desk.sell(1, at=1010, by="ann")
    desk.apply(SetReference("BTC-USD", 990))

    assert desk.buy_at_market(1) == [accepted(5), closed(5, EXPIRED, UNFILLED, 1)]


def test_an_order_worth_too_little_is_refused() -> None:
    desk = a_desk(instrument=replace(BTC, notional_min=5_000))

    assert desk.buy(4, at=1000) == [refused(PRICE_BAND, 5_000, 4_000)]
    assert desk.buy_stop(4, stop=1000) == [refused(PRICE_BAND, 5_000, 4_400)], "judged by its worst price"
    assert desk.buy(5, at=1000) == [accepted(3), rested(3, BUY, 1000, 5)]
    assert desk.replace(3, by="cat", qty=4) == [refused(PRICE_BAND, 5_000, 4_000)]


def test_a_market_order_is_worth_its_worst_price_if_there_is_one() -> None:
    desk = a_desk(instrument=replace(BTC, notional_min=5_000))

    in_an_empty_book = desk.buy_at_market(4)
    desk.sell(5, at=1000, by="ann")

    assert in_an_empty_book == [accepted(1), closed(1, EXPIRED, UNFILLED, 4)]
    assert desk.buy_at_market(4) == [refused(PRICE_BAND, 5_000, 4_400)]


def test_a_market_order_finds_its_protection_even_in_a_level_that_has_expired() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, by="ann", time_in_force=GTD, expire_at=MIDNIGHT_NS)
    desk.sell(5, at=1101, by="ann")
    desk.wait_until(MIDNIGHT_NS)

    assert desk.buy_at_market(1)[-1] == closed(3, EXPIRED, UNFILLED, 1)
