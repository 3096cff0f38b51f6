"""Stops wait for the last price, fire in their order, and may set each other off."""

from __future__ import annotations

from tests.core.desk import (
    MIDNIGHT_NS,
    Desk,
    a_desk,
    accepted,
    closed,
    parked,
    refused,
    rested,
    traded,
    triggered,
    was_set,
    worked,
)
from tradsys.core.messages import (
    BUY,
    BY_REQUEST,
    CANCELED,
    EXPIRED,
    FOK,
    GTD,
    HALTED,
    IOC,
    NOT_TRADING,
    SELL,
    TIME_UP,
    TRADING,
    UNFILLED,
    CancelOrders,
    ContinueWork,
    SetJournalSpace,
    SetReference,
    SetTradingStatus,
)

HALT, RESUME = SetTradingStatus("BTC-USD", HALTED), SetTradingStatus("BTC-USD", TRADING)


def a_desk_after_a_trade_at(price: int, **rules: int) -> Desk:
    """Ids 1 and 2 are taken."""
    desk = a_desk()
    desk.rule(**rules)
    desk.trade_at(price)
    return desk


def test_a_stop_waits_until_a_trade_reaches_it() -> None:
    desk = a_desk_after_a_trade_at(1000)

    waiting = desk.buy_stop_limit(5, stop=1010, at=1015)
    desk.sell(1, at=1009, by="ann")
    below = desk.buy(1, at=1009, by="bob")
    desk.sell(1, at=1010, by="ann")
    reached = desk.buy(1, at=1010, by="bob")

    assert waiting == [accepted(3), parked(3, 1010)]
    assert below == [accepted(5), traded(2, 4, 5, 1009, 1)]
    assert reached == [
        accepted(7),
        traded(3, 6, 7, 1010, 1),
        triggered(3),
        rested(3, BUY, 1015, 5),
    ]


def test_a_sell_stop_waits_for_a_price_at_or_below() -> None:
    desk = a_desk_after_a_trade_at(1000, protection_ppm=10_000)
    desk.buy(9, at=985, by="bob")
    desk.buy(1, at=990, by="bob")
    desk.sell_stop(5, stop=990)

    assert desk.sell(1, at=990, by="ann") == [
        accepted(6),
        traded(2, 4, 6, 990, 1),
        triggered(5),
        traded(3, 3, 5, 985, 5, left=(4, 0)),
    ]


def test_a_stop_fires_at_once_if_its_price_has_been_reached() -> None:
    desk = a_desk_after_a_trade_at(1000)
    desk.sell(5, at=1002, by="ann")

    assert desk.buy_stop(3, stop=1000) == [
        accepted(4),
        triggered(4),
        traded(2, 3, 4, 1002, 3, left=(2, 0)),
    ]


def test_a_reference_is_no_last_price() -> None:
    desk = a_desk()
    desk.apply(SetReference("BTC-USD", 1020))

    assert desk.buy_stop(3, stop=1000) == [accepted(2), parked(2, 1000)]


def test_a_stop_takes_up_to_its_protection_price_and_the_rest_expires() -> None:
    desk = a_desk_after_a_trade_at(1000, protection_ppm=10_000)
    desk.sell(2, at=1010, by="ann")
    desk.sell(2, at=1011, by="ann")

    assert desk.buy_stop(3, stop=1000) == [
        accepted(5),
        triggered(5),
        traded(2, 3, 5, 1010, 2, left=(0, 1)),
        closed(5, EXPIRED, UNFILLED, 1),
    ]


def test_a_triggered_stop_limit_obeys_its_time_in_force() -> None:
    desk = a_desk_after_a_trade_at(1000)
    desk.sell(2, at=1003, by="ann")

    assert desk.buy_stop_limit(3, stop=1000, at=1003, time_in_force=FOK) == [
        accepted(4),
        triggered(4),
        closed(4, EXPIRED, UNFILLED, 3),
    ]
    assert desk.buy_stop_limit(3, stop=1000, at=1003, time_in_force=IOC) == [
        accepted(5),
        triggered(5),
        traded(2, 3, 5, 1003, 2, left=(0, 1)),
        closed(5, EXPIRED, UNFILLED, 1),
    ]


def test_stops_fire_buys_first_then_sells_nearest_price_first_then_earliest() -> None:
    desk = a_desk_after_a_trade_at(1000)
    desk.sell_stop_limit(1, stop=997, at=2000)
    desk.sell_stop_limit(1, stop=999, at=2000)
    desk.buy_stop_limit(1, stop=1003, at=10)
    desk.buy_stop_limit(1, stop=1001, at=10)
    desk.buy_stop_limit(1, stop=1001, at=10)
    # A sweep from 1003 down to 996 reaches the sell stops; one up to 1003 the buy stops.
    desk.sell(1, at=1003, by="ann")
    upwards = desk.buy(1, at=1003, by="bob")
    desk.buy(1, at=996, by="ann")
    downwards = desk.sell(1, at=996, by="bob")

    assert upwards == [
        accepted(9),
        traded(2, 8, 9, 1003, 1),
        triggered(6),
        rested(6, BUY, 10, 1),
        triggered(7),
        rested(7, BUY, 10, 1),
        triggered(5),
        rested(5, BUY, 10, 1),
    ]
    assert downwards == [
        accepted(11),
        traded(3, 10, 11, 996, 1),
        triggered(4),
        rested(4, SELL, 2000, 1),
        triggered(3),
        rested(3, SELL, 2000, 1),
    ]


def test_one_stop_sets_off_the_next() -> None:
    desk = a_desk_after_a_trade_at(1000)
    for price in (1001, 1002, 1003):
        desk.sell(1, at=price, by="ann")
    desk.buy_stop(1, stop=1002, by="bob")
    desk.buy_stop(1, stop=1001, by="bob")

    assert desk.buy(1, at=1001) == [
        accepted(8),
        traded(2, 3, 8, 1001, 1),
        triggered(7),
        traded(3, 4, 7, 1002, 1),
        triggered(6),
        traded(4, 5, 6, 1003, 1),
    ]


def test_the_last_trade_of_a_sweep_is_what_stops_see() -> None:
    desk = a_desk_after_a_trade_at(1000)
    desk.buy(1, at=995, by="ann")
    desk.buy(1, at=990, by="ann")
    desk.sell_stop_limit(1, stop=990, at=3000)

    assert desk.sell(2, at=990, by="bob")[-2:] == [triggered(5), rested(5, SELL, 3000, 1)]


def test_a_due_stop_whose_time_is_up_expires_instead() -> None:
    desk = a_desk_after_a_trade_at(1000)
    desk.buy_stop(5, stop=1001, time_in_force=GTD, expire_at=MIDNIGHT_NS)
    desk.sell(1, at=1001, by="ann")
    desk.wait_until(MIDNIGHT_NS)

    assert desk.buy(1, at=1001, by="bob") == [
        accepted(5),
        traded(2, 4, 5, 1001, 1),
        closed(3, EXPIRED, TIME_UP, 5),
    ]


def test_a_stop_is_refused_while_the_symbol_does_not_trade() -> None:
    desk = a_desk()
    desk.apply(HALT)

    assert desk.buy_stop(5, stop=1001) == [refused(NOT_TRADING, 0, HALTED)]


# --- a cascade that is too long for one command -------------------------------------------------------


def a_cascade_in_steps() -> Desk:
    """Five stop-limit buys (3 to 7) that will rest far below; two of them may fire with each command."""
    desk = a_desk_after_a_trade_at(1000, step_orders_max=2)
    for _ in range(5):
        desk.buy_stop_limit(1, stop=1001, at=10)
    desk.sell(9, at=1001, by="ann")
    return desk


def test_a_long_cascade_goes_on_as_work() -> None:
    desk = a_cascade_in_steps()

    first = desk.buy(1, at=1001, by="bob")
    due = desk.shard.work_due
    second = desk.apply(ContinueWork())
    third = desk.apply(ContinueWork())

    assert first == [
        accepted(9),
        traded(2, 8, 9, 1001, 1, left=(8, 0)),
        triggered(3),
        rested(3, BUY, 10, 1),
        triggered(4),
        rested(4, BUY, 10, 1),
        worked(9, 2, more=True),
    ]
    assert due
    assert second == [
        triggered(5),
        rested(5, BUY, 10, 1),
        triggered(6),
        rested(6, BUY, 10, 1),
        worked(9, 2, more=True),
    ]
    assert third == [triggered(7), rested(7, BUY, 10, 1), worked(9, 1)]
    assert not desk.shard.work_due
    assert desk.apply(ContinueWork()) == [worked(0, 0)]


def test_exactly_one_step_of_stops_is_no_work() -> None:
    desk = a_desk_after_a_trade_at(1000, step_orders_max=2)
    desk.buy_stop_limit(1, stop=1001, at=10)
    desk.buy_stop_limit(1, stop=1001, at=10)
    desk.sell(1, at=1001, by="ann")

    assert desk.buy(1, at=1001, by="bob")[-1] == rested(4, BUY, 10, 1)
    assert not desk.shard.work_due


def test_other_commands_leave_the_stops_of_a_cascade_to_the_work() -> None:
    desk = a_cascade_in_steps()
    desk.buy(1, at=1001, by="bob")

    meanwhile = desk.buy(1, at=1001, by="bob")

    assert meanwhile == [accepted(10), traded(3, 8, 10, 1001, 1, left=(7, 0))]
    assert desk.apply(ContinueWork())[0] == triggered(5)


def test_a_stop_that_is_no_longer_due_keeps_waiting() -> None:
    desk = a_cascade_in_steps()
    desk.buy(1, at=1001, by="bob")
    desk.buy(1, at=990, by="bob")
    desk.sell(1, at=990, by="cat")

    assert desk.apply(ContinueWork()) == [worked(9, 0)]
    assert not desk.shard.work_due


def test_where_both_sides_are_due_the_buys_come_first() -> None:
    desk = a_desk_after_a_trade_at(1010, step_orders_max=1)
    desk.sell_stop_limit(1, stop=1005, at=2000)
    desk.sell_stop_limit(1, stop=1005, at=2000)
    desk.trade_at(1000)
    desk.buy_stop_limit(1, stop=1003, at=10)
    desk.trade_at(1004)

    assert desk.apply(ContinueWork()) == [triggered(7), rested(7, BUY, 10, 1), worked(6, 1, more=True)]
    assert desk.apply(ContinueWork()) == [triggered(4), rested(4, SELL, 2000, 1), worked(6, 1)]


def test_a_cascade_waits_while_its_symbol_is_halted() -> None:
    desk = a_cascade_in_steps()
    desk.buy(1, at=1001, by="bob")
    desk.apply(HALT)

    waits = (desk.shard.work_due, desk.apply(ContinueWork()))
    desk.apply(RESUME)

    assert waits == (False, [worked(0, 0)])
    assert desk.shard.work_due
    assert desk.apply(ContinueWork())[-1] == worked(9, 2, more=True)


def test_a_cascade_waits_for_journal_space() -> None:
    desk = a_cascade_in_steps()
    desk.buy(1, at=1001, by="bob")

    assert desk.apply(SetJournalSpace(False)) == [was_set(12)]
    assert not desk.shard.work_due
    assert desk.apply(SetJournalSpace(True)) == [was_set(12)]
    assert desk.shard.work_due


def test_other_work_goes_on_beside_a_waiting_cascade() -> None:
    desk = a_cascade_in_steps()
    desk.buy(1, at=1001, by="bob")
    desk.apply(HALT)
    desk.apply(CancelOrders("cat"))

    assert desk.apply(ContinueWork()) == [
        closed(5, CANCELED, BY_REQUEST, 1),
        closed(6, CANCELED, BY_REQUEST, 1),
        worked(11, 2, more=True),
    ]


def test_stops_that_were_canceled_leave_the_work_nothing_to_do() -> None:
    desk = a_cascade_in_steps()
    desk.buy(1, at=1001, by="bob")
    for order_id in (5, 6, 7):
        desk.cancel(order_id, by="cat")

    assert desk.apply(ContinueWork()) == [worked(9, 0)]
