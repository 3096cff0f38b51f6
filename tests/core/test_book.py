"""Price–time priority and what an order may ask of it: whole event lists, by example."""

from __future__ import annotations

import pytest

from tests.core.desk import (
    MIDNIGHT_NS,
    a_desk,
    accepted,
    closed,
    parked,
    refused,
    replaced,
    replenished,
    rested,
    traded,
)
from tradsys.core.messages import (
    BUY,
    BY_REQUEST,
    BY_SELF_TRADE,
    CANCELED,
    DAY,
    EXPIRED,
    FILLED,
    FOK,
    GTD,
    IOC,
    NEW,
    NO_SUCH_ORDER,
    NOT_ALLOWED,
    NOT_CANCELABLE,
    PARTIALLY_FILLED,
    SELL,
    STP_CANCEL_BOTH,
    STP_CANCEL_MAKER,
    STP_CANCEL_TAKER,
    STP_NONE,
    TIME_UP,
    UNFILLED,
    VERSION_CONFLICT,
    WOULD_CROSS,
)

# --- price and time -----------------------------------------------------------------------------------


def test_an_order_that_meets_nobody_rests() -> None:
    desk = a_desk()

    bid = desk.buy(7, at=1000)
    ask = desk.sell(5, at=1001)

    assert bid == [accepted(1), rested(1, BUY, 1000, 7)]
    assert ask == [accepted(2), rested(2, SELL, 1001, 5)]
    assert desk.book() == ([(1000, 7)], [(1001, 5)])
    assert desk.order(1).status == NEW


def test_taker_sweeps_levels_best_first_and_rests_the_remainder() -> None:
    desk = a_desk("bob sell 100 @ 1001", "ann sell 50 @ 1000")

    events = desk.buy(200, at=1001)

    assert events == [
        accepted(3),
        traded(1, 2, 3, 1000, 50, left=(0, 150)),
        traded(2, 1, 3, 1001, 100, left=(0, 50)),
        rested(3, BUY, 1001, 50),
    ]
    assert desk.book() == ([(1001, 50)], [])


def test_selling_sweeps_the_bids_from_the_highest() -> None:
    desk = a_desk("bob buy 100 @ 999", "ann buy 50 @ 1000")

    events = desk.sell(120, at=999)

    assert events == [
        accepted(3),
        traded(1, 2, 3, 1000, 50, left=(0, 70)),
        traded(2, 1, 3, 999, 70, left=(30, 0)),
    ]


def test_at_one_price_the_earliest_trades_first() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000", "ann sell 5 @ 1000")

    events = desk.buy(12, at=1000)

    assert events == [
        accepted(4),
        traded(1, 1, 4, 1000, 5, left=(0, 7)),
        traded(2, 2, 4, 1000, 5, left=(0, 2)),
        traded(3, 3, 4, 1000, 2, left=(3, 0)),
    ]


def test_a_trade_happens_at_the_makers_price() -> None:
    desk = a_desk("ann sell 5 @ 1000")

    assert desk.buy(5, at=1100) == [accepted(2), traded(1, 1, 2, 1000, 5)]


def test_a_partly_filled_maker_keeps_its_place() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")
    desk.buy(2, at=1000)

    assert desk.buy(4, at=1000) == [
        accepted(4),
        traded(2, 1, 4, 1000, 3, left=(0, 1)),
        traded(3, 2, 4, 1000, 1, left=(4, 0)),
    ]


def test_an_order_does_not_trade_beyond_its_limit() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1002")

    assert desk.buy(9, at=1001) == [
        accepted(3),
        traded(1, 1, 3, 1000, 5, left=(0, 4)),
        rested(3, BUY, 1001, 4),
    ]


def test_orders_know_what_became_of_them() -> None:
    desk = a_desk("ann sell 5 @ 1000")
    desk.buy(3, at=1000)

    assert (desk.order(1).status, desk.order(1).open_qty) == (PARTIALLY_FILLED, 2)
    assert (desk.order(2).status, desk.order(2).open_qty) == (FILLED, 0)


# --- time in force ------------------------------------------------------------------------------------


def test_what_an_ioc_leaves_expires() -> None:
    desk = a_desk("ann sell 5 @ 1000")

    assert desk.buy(7, at=1000, time_in_force=IOC) == [
        accepted(2),
        traded(1, 1, 2, 1000, 5, left=(0, 2)),
        closed(2, EXPIRED, UNFILLED, 2),
    ]


def test_a_fok_that_finds_all_it_wants_trades() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1001")

    assert desk.buy(7, at=1001, time_in_force=FOK) == [
        accepted(3),
        traded(1, 1, 3, 1000, 5, left=(0, 2)),
        traded(2, 2, 3, 1001, 2, left=(3, 0)),
    ]


def test_a_fok_that_finds_too_little_trades_nothing() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1002")

    assert desk.buy(6, at=1001, time_in_force=FOK) == [accepted(3), closed(3, EXPIRED, UNFILLED, 6)]
    assert desk.book() == ([], [(1000, 5), (1002, 5)])


def test_a_fok_counts_only_what_an_iceberg_shows() -> None:
    desk = a_desk()
    desk.sell(10, at=1000, by="ann", display_qty=3)

    assert desk.buy(4, at=1000, time_in_force=FOK) == [accepted(2), closed(2, EXPIRED, UNFILLED, 4)]


def test_a_fok_takes_an_icebergs_next_slice_before_a_worse_price() -> None:
    desk = a_desk()
    desk.sell(10, at=1000, by="ann", display_qty=3)
    desk.sell(3, at=1001, by="bob")

    assert desk.buy(5, at=1001, time_in_force=FOK) == [
        accepted(3),
        traded(1, 1, 3, 1000, 3, left=(7, 2)),
        replenished(1, 3),
        traded(2, 1, 3, 1000, 2, left=(5, 0)),
    ]


def test_an_order_takes_at_most_as_many_makers_as_the_rules_allow() -> None:
    desk = a_desk("ann sell 1 @ 1000", "bob sell 1 @ 1000", "ann sell 1 @ 1001")
    desk.rule(match_makers_max=2)

    assert desk.buy(5, at=1001) == [
        accepted(4),
        traded(1, 1, 4, 1000, 1, left=(0, 4)),
        traded(2, 2, 4, 1000, 1, left=(0, 3)),
        closed(4, EXPIRED, UNFILLED, 3),
    ]
    assert desk.book() == ([], [(1001, 1)])


def test_a_fok_that_would_take_too_often_from_an_iceberg_does_not_trade_at_all() -> None:
    desk = a_desk()
    desk.sell(100, at=1000, by="ann", display_qty=1)
    desk.sell(50, at=1001, by="bob")
    desk.rule(match_makers_max=20)

    assert desk.buy(40, at=1001, time_in_force=FOK) == [accepted(3), closed(3, EXPIRED, UNFILLED, 40)]


def test_a_fok_does_not_count_own_orders_under_self_trade_prevention() -> None:
    desk = a_desk("cat sell 5 @ 1000", "ann sell 5 @ 1000")

    assert desk.buy(6, at=1000, time_in_force=FOK, stp=STP_CANCEL_MAKER) == [
        accepted(3),
        closed(3, EXPIRED, UNFILLED, 6),
    ]


def test_a_fok_that_may_trade_with_itself_counts_own_orders() -> None:
    desk = a_desk("cat sell 5 @ 1000", "ann sell 5 @ 1000")

    assert desk.buy(6, at=1000, time_in_force=FOK, stp=STP_NONE) == [
        accepted(3),
        traded(1, 1, 3, 1000, 5, left=(0, 1)),
        traded(2, 2, 3, 1000, 1, left=(4, 0)),
    ]


@pytest.mark.parametrize("stp", [STP_CANCEL_TAKER, STP_CANCEL_BOTH])
def test_a_fok_that_would_stop_at_an_own_order_trades_nothing(stp: int) -> None:
    desk = a_desk("ann sell 4 @ 1000", "cat sell 5 @ 1000", "ann sell 6 @ 1001")

    assert desk.buy(10, at=1001, time_in_force=FOK, stp=stp) == [
        accepted(4),
        closed(4, EXPIRED, UNFILLED, 10),
    ]


def test_a_fok_that_is_full_before_an_own_order_trades() -> None:
    desk = a_desk("ann sell 4 @ 1000", "cat sell 5 @ 1000")

    assert desk.buy(4, at=1000, time_in_force=FOK, stp=STP_CANCEL_TAKER) == [
        accepted(3),
        traded(1, 1, 3, 1000, 4),
    ]


def test_a_market_order_takes_what_there_is_and_never_rests() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1003")

    assert desk.buy_at_market(12) == [
        accepted(3),
        traded(1, 1, 3, 1000, 5, left=(0, 7)),
        traded(2, 2, 3, 1003, 5, left=(0, 2)),
        closed(3, EXPIRED, UNFILLED, 2),
    ]


def test_a_market_order_in_an_empty_book_expires() -> None:
    assert a_desk().sell_at_market(5) == [accepted(1), closed(1, EXPIRED, UNFILLED, 5)]


def test_a_market_order_does_not_trade_beyond_its_protection_price() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1051")
    desk.rule(protection_ppm=50_000)

    assert desk.buy_at_market(10) == [
        accepted(3),
        traded(1, 1, 3, 1000, 5, left=(0, 5)),
        closed(3, EXPIRED, UNFILLED, 5),
    ]


# --- expiry, as matching sees it ----------------------------------------------------------------------


def test_a_taker_skips_and_closes_makers_whose_time_is_up() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, by="ann", time_in_force=GTD, expire_at=MIDNIGHT_NS)
    desk.sell(5, at=1000, by="bob")
    desk.wait_until(MIDNIGHT_NS)

    assert desk.buy(3, at=1000) == [
        accepted(3),
        closed(1, EXPIRED, TIME_UP, 5),
        traded(1, 2, 3, 1000, 3, left=(2, 0)),
    ]


def test_a_day_order_ends_at_midnight_utc() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, by="ann", time_in_force=DAY)
    desk.wait_until(MIDNIGHT_NS - 1_000)

    assert desk.shard.next_expiry == MIDNIGHT_NS
    assert desk.buy(1, at=1000) == [accepted(2), traded(1, 1, 2, 1000, 1, left=(4, 0))]
    assert desk.buy(1, at=1000) == [accepted(3), closed(1, EXPIRED, TIME_UP, 4), rested(3, BUY, 1000, 1)]


def test_a_fok_does_not_count_expired_makers() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, by="ann", time_in_force=GTD, expire_at=MIDNIGHT_NS)
    desk.wait_until(MIDNIGHT_NS)

    assert desk.buy(5, at=1000, time_in_force=FOK) == [accepted(2), closed(2, EXPIRED, UNFILLED, 5)]


# --- icebergs -----------------------------------------------------------------------------------------


def test_an_iceberg_shows_a_slice_and_loses_its_place_with_each_new_one() -> None:
    desk = a_desk()
    iceberg = desk.sell(10, at=1000, by="ann", display_qty=4)
    desk.sell(5, at=1000, by="bob")

    events = desk.buy(12, at=1000)

    assert iceberg == [accepted(1), rested(1, SELL, 1000, 10, shown=4)]
    assert events == [
        accepted(3),
        traded(1, 1, 3, 1000, 4, left=(6, 8)),
        replenished(1, 4),
        traded(2, 2, 3, 1000, 5, left=(0, 3)),
        traded(3, 1, 3, 1000, 3, left=(3, 0)),
    ]
    assert desk.book() == ([], [(1000, 1)])


def test_the_last_slice_of_an_iceberg_is_what_is_left() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, by="ann", display_qty=3)

    assert desk.buy(3, at=1000) == [accepted(2), traded(1, 1, 2, 1000, 3, left=(2, 0)), replenished(1, 2)]


def test_an_iceberg_may_trade_before_it_rests_and_then_shows_a_whole_slice() -> None:
    desk = a_desk("bob sell 2 @ 1000")

    assert desk.buy(10, at=1000, display_qty=4) == [
        accepted(2),
        traded(1, 1, 2, 1000, 2, left=(0, 8)),
        rested(2, BUY, 1000, 8, shown=4),
    ]


# --- post-only ----------------------------------------------------------------------------------------


def test_a_post_only_order_that_would_trade_is_refused_with_the_price_it_met() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1001")

    assert desk.buy(5, at=1001, post_only=True) == [refused(WOULD_CROSS, 1000, 1001)]
    assert desk.shard.order(3) is None


def test_a_post_only_order_that_meets_nobody_rests() -> None:
    desk = a_desk("ann sell 5 @ 1000")

    assert desk.buy(5, at=999, post_only=True) == [accepted(2), rested(2, BUY, 999, 5)]


def test_a_post_only_order_is_not_refused_for_an_expired_one() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, by="ann", time_in_force=GTD, expire_at=MIDNIGHT_NS)
    desk.wait_until(MIDNIGHT_NS)

    assert desk.buy(5, at=1000, post_only=True) == [
        accepted(2),
        closed(1, EXPIRED, TIME_UP, 5),
        rested(2, BUY, 1000, 5),
    ]


def test_a_post_only_order_does_not_cross_an_own_one_either() -> None:
    desk = a_desk("cat sell 5 @ 1000")

    assert desk.buy(5, at=1000, post_only=True, stp=STP_CANCEL_MAKER) == [refused(WOULD_CROSS, 1000, 1000)]


# --- self-trade prevention ----------------------------------------------------------------------------


def test_without_prevention_an_account_trades_with_itself() -> None:
    desk = a_desk("cat sell 5 @ 1000")

    assert desk.buy(5, at=1000) == [accepted(2), traded(1, 1, 2, 1000, 5)]


def test_cancel_taker_ends_the_taker_where_it_meets_its_own_order() -> None:
    desk = a_desk("ann sell 2 @ 1000", "cat sell 5 @ 1000", "ann sell 9 @ 1000")

    assert desk.buy(10, at=1000, stp=STP_CANCEL_TAKER) == [
        accepted(4),
        traded(1, 1, 4, 1000, 2, left=(0, 8)),
        closed(4, CANCELED, BY_SELF_TRADE, 8),
    ]
    assert desk.book() == ([], [(1000, 14)])


def test_cancel_taker_with_nothing_filled_is_canceled_too() -> None:
    desk = a_desk("cat sell 5 @ 1000")

    assert desk.buy(3, at=1000, stp=STP_CANCEL_TAKER) == [
        accepted(2),
        closed(2, CANCELED, BY_SELF_TRADE, 3),
    ]


def test_cancel_maker_removes_own_orders_and_goes_on() -> None:
    desk = a_desk("ann sell 2 @ 1000", "cat sell 5 @ 1000", "ann sell 9 @ 1001")

    assert desk.buy(4, at=1001, stp=STP_CANCEL_MAKER) == [
        accepted(4),
        traded(1, 1, 4, 1000, 2, left=(0, 2)),
        closed(2, CANCELED, BY_SELF_TRADE, 5),
        traded(2, 3, 4, 1001, 2, left=(7, 0)),
    ]


def test_cancel_both_ends_maker_and_taker() -> None:
    desk = a_desk("cat sell 5 @ 1000", "ann sell 9 @ 1000")

    assert desk.buy(4, at=1000, stp=STP_CANCEL_BOTH) == [
        accepted(3),
        closed(1, CANCELED, BY_SELF_TRADE, 5),
        closed(3, CANCELED, BY_SELF_TRADE, 4),
    ]
    assert desk.book() == ([], [(1000, 9)])


def test_the_takers_mode_decides_not_the_makers() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, stp=STP_CANCEL_BOTH)

    assert desk.buy(5, at=1000, stp=STP_NONE) == [accepted(2), traded(1, 1, 2, 1000, 5)]


def test_an_own_order_whose_time_is_up_is_no_self_trade() -> None:
    desk = a_desk()
    desk.sell(5, at=1000, time_in_force=GTD, expire_at=MIDNIGHT_NS)
    desk.wait_until(MIDNIGHT_NS)

    assert desk.buy(5, at=1000, stp=STP_CANCEL_TAKER) == [
        accepted(2),
        closed(1, EXPIRED, TIME_UP, 5),
        rested(2, BUY, 1000, 5),
    ]


# --- replace ------------------------------------------------------------------------------------------


def test_size_down_keeps_the_place() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")

    assert desk.replace(1, qty=3) == [replaced(1, 1, 1000, 3, 3, kept=True)]
    assert desk.buy(4, at=1000)[1:] == [
        traded(1, 1, 4, 1000, 3, left=(0, 1)),
        traded(2, 2, 4, 1000, 1, left=(4, 0)),
    ]


def test_size_up_loses_the_place() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")

    assert desk.replace(1, qty=6) == [replaced(1, 1, 1000, 6, 6, kept=False), rested(1, SELL, 1000, 6)]
    assert desk.buy(6, at=1000)[1:] == [
        traded(1, 2, 4, 1000, 5, left=(0, 1)),
        traded(2, 1, 4, 1000, 1, left=(5, 0)),
    ]


def test_another_price_loses_the_place_even_if_it_comes_back() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")
    desk.replace(1, price=1001)

    assert desk.replace(1, price=1000) == [
        replaced(1, 2, 1000, 5, 5, kept=False),
        rested(1, SELL, 1000, 5),
    ]
    assert desk.buy(5, at=1000)[1:] == [traded(1, 2, 5, 1000, 5)]


def test_the_same_price_and_quantity_change_only_the_version() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")

    assert desk.replace(1, qty=5, price=1000) == [replaced(1, 1, 1000, 5, 5, kept=True)]
    assert desk.replace(1) == [replaced(1, 2, 1000, 5, 5, kept=True)]
    assert desk.buy(5, at=1000)[1:] == [traded(1, 1, 5, 1000, 5)]


def test_a_replace_to_a_price_that_crosses_trades_as_a_taker() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob buy 3 @ 998")

    assert desk.replace(1, price=998) == [
        replaced(1, 1, 998, 5, 5, kept=False),
        traded(1, 2, 1, 998, 3, left=(0, 2)),
        rested(1, SELL, 998, 2),
    ]


def test_the_new_quantity_is_the_new_total() -> None:
    desk = a_desk("ann sell 5 @ 1000")
    desk.buy(2, at=1000)

    assert desk.replace(1, qty=9) == [replaced(1, 1, 1000, 9, 7, kept=False), rested(1, SELL, 1000, 7)]


def test_a_replace_to_what_is_filled_already_is_refused() -> None:
    desk = a_desk("ann sell 5 @ 1000")
    desk.buy(2, at=1000)

    assert desk.replace(1, qty=2) == [refused(NOT_CANCELABLE, 2, 2)]


def test_a_smaller_iceberg_shows_no_more_than_it_has() -> None:
    desk = a_desk()
    desk.sell(10, at=1000, by="ann", display_qty=4)

    assert desk.replace(1, qty=3) == [replaced(1, 1, 1000, 3, 3, kept=True)]
    assert desk.book() == ([], [(1000, 3)])


def test_an_iceberg_that_lost_its_place_shows_a_whole_slice_again() -> None:
    desk = a_desk()
    desk.sell(10, at=1000, by="ann", display_qty=4)
    desk.buy(3, at=1000)

    assert desk.replace(1, qty=12) == [
        replaced(1, 1, 1000, 12, 9, kept=False),
        rested(1, SELL, 1000, 9, shown=4),
    ]


def test_a_post_only_order_may_not_be_replaced_into_the_other_side() -> None:
    desk = a_desk("bob buy 3 @ 998")
    desk.sell(5, at=1000, by="ann", post_only=True)

    assert desk.replace(2, price=998) == [refused(WOULD_CROSS, 998, 998)]
    assert desk.book() == ([(998, 3)], [(1000, 5)])


def test_replace_obeys_self_trade_prevention() -> None:
    desk = a_desk("ann buy 3 @ 998")
    desk.sell(5, at=1000, by="ann", stp=STP_CANCEL_MAKER)

    assert desk.replace(2, price=998) == [
        replaced(2, 1, 998, 5, 5, kept=False),
        closed(1, CANCELED, BY_SELF_TRADE, 3),
        rested(2, SELL, 998, 5),
    ]


def test_a_waiting_stop_is_replaced_in_place() -> None:
    desk = a_desk()
    desk.buy_stop_limit(5, stop=1010, at=1011, by="ann")

    assert desk.replace(1, qty=9, price=1012) == [replaced(1, 1, 1012, 9, 9, kept=True)]


def test_a_price_for_an_order_that_has_none_is_refused() -> None:
    desk = a_desk()

    assert desk.buy_stop(5, stop=1010, by="ann") == [accepted(1), parked(1, 1010)]
    assert desk.replace(1, price=1010) == [refused(NOT_CANCELABLE)]
    assert desk.replace(1, qty=4) == [replaced(1, 1, 0, 4, 4, kept=True)]


def test_replace_needs_the_version_it_names() -> None:
    desk = a_desk("ann sell 5 @ 1000")

    assert desk.replace(1, qty=4, version=1) == [refused(VERSION_CONFLICT, 0, 1)]
    assert desk.replace(1, qty=4, version=0) == [replaced(1, 1, 1000, 4, 4, kept=True)]


def test_what_cannot_be_replaced() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob buy 5 @ 1000")
    desk.sell(5, at=1001, by="ann", time_in_force=GTD, expire_at=MIDNIGHT_NS)
    desk.sell(5, at=1001, by="ann")
    desk.cancel(4)
    desk.wait_until(MIDNIGHT_NS)

    assert desk.replace(99, qty=1) == [refused(NO_SUCH_ORDER)]
    assert desk.replace(2, qty=1) == [refused(NO_SUCH_ORDER)], "it is bob's"
    assert desk.replace(1, qty=1) == [refused(NOT_CANCELABLE)], "it is filled"
    assert desk.replace(4, qty=1) == [refused(NOT_CANCELABLE)], "it is canceled"
    assert desk.replace(3, qty=1) == [refused(NOT_CANCELABLE)], "its time is up"
    assert desk.replace(1, by="nobody", qty=1) == [refused(NOT_ALLOWED)]


# --- cancel -------------------------------------------------------------------------------------------


def test_a_canceled_order_leaves_the_book() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")

    assert desk.cancel(1) == [closed(1, CANCELED, BY_REQUEST, 5)]
    assert desk.buy(5, at=1000)[1:] == [traded(1, 2, 4, 1000, 5)]


def test_canceling_again_says_nothing_new() -> None:
    desk = a_desk("ann sell 5 @ 1000")
    desk.cancel(1)

    assert desk.cancel(1) == []


def test_a_waiting_stop_can_be_canceled() -> None:
    desk = a_desk()
    desk.buy_stop(5, stop=1010, by="ann")

    assert desk.cancel(1) == [closed(1, CANCELED, BY_REQUEST, 5)]
    desk.trade_at(1010)
    assert desk.order(1).status == CANCELED


def test_what_cannot_be_canceled() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob buy 5 @ 1000")
    desk.buy_at_market(1, by="ann")

    assert desk.cancel(1) == [refused(NOT_CANCELABLE)], "it is filled"
    assert desk.cancel(3) == [refused(NOT_CANCELABLE)], "it has expired"
    assert desk.cancel(99) == [refused(NO_SUCH_ORDER)]
    assert desk.cancel(2) == [refused(NO_SUCH_ORDER)], "it is bob's"
    assert desk.cancel(1, by="nobody") == [refused(NOT_ALLOWED)]


def test_unknown_accounts_and_symbols_are_refused_before_all_else() -> None:
    desk = a_desk()

    assert desk.buy(5, at=1000, by="nobody") == [refused(NOT_ALLOWED)]
    assert desk.buy(5, at=1000, symbol="NO-SUCH") == [refused(NOT_ALLOWED)]
