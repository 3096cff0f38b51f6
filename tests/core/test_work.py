"""Long work is done in steps that the engine continues: mass cancels, kills, expiry."""

from __future__ import annotations

from msgspec.structs import replace

from tests.core.desk import (
    BTC,
    MIDNIGHT_NS,
    SECOND,
    Desk,
    a_desk,
    accepted,
    closed,
    refused,
    rested,
    worked,
)
from tradsys.core.messages import (
    BUY,
    BY_KILL,
    BY_REQUEST,
    CANCELED,
    CLOSED_EVENT,
    DAY,
    EXPIRED,
    GTD,
    NOT_ALLOWED,
    SELL,
    TIME_UP,
    CancelOrders,
    ContinueWork,
    DefineInstrument,
    ExpireOrders,
    SetKill,
)


def a_desk_with_five_orders_of_ann(step: int) -> Desk:
    desk = a_desk(*(f"ann sell 1 @ {price}" for price in (1005, 1004, 1003, 1002, 1001)))
    desk.rule(step_orders_max=step)
    return desk


def test_a_mass_cancel_takes_the_oldest_first_in_steps() -> None:
    desk = a_desk_with_five_orders_of_ann(step=2)

    assert desk.apply(CancelOrders("ann")) == [
        closed(1, CANCELED, BY_REQUEST, 1),
        closed(2, CANCELED, BY_REQUEST, 1),
        worked(6, 2, more=True),
    ]
    assert desk.apply(ContinueWork()) == [
        closed(3, CANCELED, BY_REQUEST, 1),
        closed(4, CANCELED, BY_REQUEST, 1),
        worked(6, 2, more=True),
    ]
    assert desk.apply(ContinueWork()) == [closed(5, CANCELED, BY_REQUEST, 1), worked(6, 1)]
    assert not desk.shard.work_due


def test_a_mass_cancel_of_exactly_one_step_is_done() -> None:
    desk = a_desk_with_five_orders_of_ann(step=5)

    assert desk.apply(CancelOrders("ann"))[-1] == worked(6, 5)
    assert not desk.shard.work_due


def test_a_mass_cancel_of_nothing_says_so() -> None:
    assert a_desk().apply(CancelOrders("ann")) == [worked(1, 0)]


def test_orders_that_come_after_a_mass_cancel_stay() -> None:
    desk = a_desk_with_five_orders_of_ann(step=4)
    desk.apply(CancelOrders("ann"))
    desk.sell(1, at=1000, by="ann")

    assert desk.apply(ContinueWork()) == [closed(5, CANCELED, BY_REQUEST, 1), worked(6, 1)]
    assert desk.book() == ([], [(1000, 1)])


def test_a_mass_cancel_may_name_a_symbol_and_a_side() -> None:
    desk = a_desk("ann sell 1 @ 1001", "ann buy 1 @ 999", "bob buy 1 @ 999")
    desk.open_with(DefineInstrument(replace(BTC, symbol="ETH-USD", base="ETH")))
    desk.buy(1, at=10, by="ann", symbol="ETH-USD")

    assert desk.apply(CancelOrders("ann", "BTC-USD", SELL)) == [
        closed(1, CANCELED, BY_REQUEST, 1),
        worked(5, 1),
    ]
    assert desk.apply(CancelOrders("ann", "", BUY)) == [
        closed(2, CANCELED, BY_REQUEST, 1),
        closed(4, CANCELED, BY_REQUEST, 1),
        worked(6, 2),
    ]


def two_symbols() -> Desk:
    """Orders of ann: 1 and 5 sell, 3 buys BTC; 2 and 6 sell, 4 and 7 buy ETH."""
    desk = a_desk()
    desk.open_with(DefineInstrument(replace(BTC, symbol="ETH-USD", base="ETH")))
    for symbol, side in (
        ("BTC-USD", SELL), ("ETH-USD", SELL), ("BTC-USD", BUY), ("ETH-USD", BUY),
        ("BTC-USD", SELL), ("ETH-USD", SELL), ("ETH-USD", BUY),
    ):  # fmt: skip
        desk.place(side, 1, at=1000 - side, by="ann", symbol=symbol)
    return desk


def test_a_mass_cancel_takes_the_oldest_first_over_all_symbols_and_both_sides() -> None:
    for symbol, side, ids in (("", SELL, [1, 2, 5, 6]), ("", BUY, [3, 4, 7]), ("ETH-USD", 0, [2, 4, 6, 7])):
        desk = two_symbols()
        desk.rule(step_orders_max=3)

        events = desk.apply(CancelOrders("ann", symbol, side)) + desk.apply(ContinueWork())

        assert [event[1] for event in events if event[0] == CLOSED_EVENT] == ids
        assert not desk.shard.work_due


def test_open_orders_are_found_newest_first_below_an_id() -> None:
    ann = two_symbols().shard.accounts["ann"]

    def ids(symbol: str, before: int) -> list[int]:
        return [order.id for order in ann.newest(symbol, before)]

    assert ids("", 8) == [7, 6, 5, 4, 3, 2, 1]
    assert ids("", 4) == [3, 2, 1]
    assert ids("ETH-USD", 8) == [7, 6, 4, 2]
    assert ids("ETH-USD", 6) == [4, 2]
    assert ids("BTC-USD", 1) == ids("NO-SUCH", 8) == []


def test_a_mass_cancel_names_what_exists() -> None:
    desk = a_desk()

    assert desk.apply(CancelOrders("nobody")) == [refused(NOT_ALLOWED)]
    assert desk.apply(CancelOrders("ann", "NO-SUCH")) == [refused(NOT_ALLOWED)]


def test_the_oldest_work_is_finished_first() -> None:
    desk = a_desk("ann sell 1 @ 1001", "ann sell 1 @ 1001", "bob sell 1 @ 1002", "bob sell 1 @ 1002")
    desk.rule(step_orders_max=1)
    desk.apply(SetKill("bob", True))
    desk.apply(CancelOrders("ann"))

    assert desk.apply(ContinueWork()) == [closed(4, CANCELED, BY_KILL, 1), worked(5, 1)]
    assert desk.apply(ContinueWork()) == [closed(2, CANCELED, BY_REQUEST, 1), worked(6, 1)]


def test_work_that_others_did_meanwhile_is_done() -> None:
    desk = a_desk_with_five_orders_of_ann(step=4)
    desk.apply(CancelOrders("ann"))
    desk.cancel(5)

    assert desk.apply(ContinueWork()) == [worked(6, 0)]


def test_without_work_there_is_nothing_to_continue() -> None:
    desk = a_desk()

    assert not desk.shard.work_due
    assert desk.apply(ContinueWork()) == [worked(0, 0)]


def test_orders_expire_by_time_then_by_age_in_steps() -> None:
    desk = a_desk()
    for seconds in (3, 1, 2, 1, 9):
        desk.sell(1, at=1000, by="ann", time_in_force=GTD, expire_at=MIDNIGHT_NS + seconds * SECOND)
    desk.rule(step_orders_max=3)
    desk.wait_until(MIDNIGHT_NS + 3 * SECOND)

    assert desk.shard.next_expiry == MIDNIGHT_NS + SECOND
    assert desk.apply(ExpireOrders()) == [
        closed(2, EXPIRED, TIME_UP, 1),
        closed(4, EXPIRED, TIME_UP, 1),
        closed(3, EXPIRED, TIME_UP, 1),
        worked(0, 3, more=True),
    ]
    assert desk.apply(ExpireOrders()) == [closed(1, EXPIRED, TIME_UP, 1), worked(0, 1)]
    assert desk.shard.next_expiry == MIDNIGHT_NS + 9 * SECOND


def test_waiting_stops_expire_too() -> None:
    desk = a_desk()
    desk.buy_stop(1, stop=1100, by="ann", time_in_force=DAY)
    desk.wait_until(MIDNIGHT_NS)

    assert desk.apply(ExpireOrders()) == [closed(1, EXPIRED, TIME_UP, 1), worked(0, 1)]
    assert desk.shard.next_expiry == 0


def test_only_gtd_and_day_orders_have_a_time() -> None:
    desk = a_desk()
    desk.sell(1, at=1000, by="ann", expire_at=1)
    desk.sell(1, at=1000, by="ann", time_in_force=DAY, expire_at=1)

    assert desk.shard.next_expiry == MIDNIGHT_NS
    assert desk.apply(ExpireOrders()) == [worked(0, 0)]


def test_a_day_order_placed_at_midnight_lives_a_whole_day() -> None:
    desk = a_desk()
    desk.wait_until(MIDNIGHT_NS)

    assert desk.sell(1, at=1000, by="ann", time_in_force=DAY) == [accepted(1), rested(1, SELL, 1000, 1)]
    assert desk.time_ns == MIDNIGHT_NS
    assert desk.shard.next_expiry == MIDNIGHT_NS + 24 * 3600 * SECOND


def test_a_replace_keeps_the_time_at_which_an_order_ends() -> None:
    desk = a_desk()
    desk.sell(1, at=1000, by="ann", time_in_force=DAY)
    desk.replace(1, price=1001)

    assert desk.shard.next_expiry == MIDNIGHT_NS


def test_orders_that_leave_early_leave_no_time_behind() -> None:
    desk = a_desk()
    desk.sell(1, at=1000, by="ann", time_in_force=GTD, expire_at=MIDNIGHT_NS)
    for number in range(1, 1_500):
        order_id = desk.seq + 1
        desk.sell(1, at=1000, by="bob", time_in_force=GTD, expire_at=MIDNIGHT_NS + number)
        desk.cancel(order_id, by="bob")
    desk.wait_until(MIDNIGHT_NS)

    assert len(desk.shard.expiries.times) < 1_100
    assert desk.apply(ExpireOrders()) == [closed(1, EXPIRED, TIME_UP, 1), worked(0, 1)]
    assert desk.shard.next_expiry == 0
