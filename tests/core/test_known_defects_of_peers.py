"""Defects that other venues' code has shown in public. Each is a test here, by its name."""

from __future__ import annotations

import json

import pytest

from tests.core.desk import BTC, Desk, a_desk, accepted, closed, parked, refused, rested, traded, triggered
from tradsys.codec.decimals import Grid
from tradsys.codec.errors import Problem
from tradsys.codec.json_order import place_command
from tradsys.codec.json_v1 import decode_new_order
from tradsys.core.messages import (
    BUY,
    BY_REQUEST,
    CANCELED,
    EXPIRED,
    FOK,
    IOC,
    SELL,
    SIZE_LIMIT,
    UNFILLED,
    PlaceOrder,
)
from tradsys.core.shard import Shard


def restarted(desk: Desk) -> Desk:
    """The desk after its process ended and its state came back from a snapshot."""
    desk.shard = Shard.restore(list(desk.shard.snapshot()))
    return desk


def test_partial_fill_then_rest_keeps_the_remainder() -> None:
    desk = a_desk("ann sell 4 @ 1000")

    assert desk.buy(10, at=1000) == [
        accepted(2),
        traded(1, 1, 2, 1000, 4, left=(0, 6)),
        rested(2, BUY, 1000, 6),
    ]
    assert desk.book() == ([(1000, 6)], [])


def test_a_partly_filled_maker_keeps_its_remainder() -> None:
    desk = a_desk("ann sell 10 @ 1000")

    assert desk.buy(4, at=1000) == [accepted(2), traded(1, 1, 2, 1000, 4, left=(6, 0))]
    assert desk.book() == ([], [(1000, 6)])


def test_depth_is_sorted_best_first() -> None:
    desk = a_desk(
        *(f"ann buy 1 @ {price}" for price in (995, 999, 990, 998)),
        *(f"bob sell 1 @ {price}" for price in (1005, 1001, 1010, 1002)),
    )

    assert desk.book() == (
        [(999, 1), (998, 1), (995, 1), (990, 1)],
        [(1001, 1), (1002, 1), (1005, 1), (1010, 1)],
    )
    assert desk.shard.markets["BTC-USD"].book.asks.depth(2) == [(1001, 1, 1), (1002, 1, 1)]


def test_a_stop_fires_at_its_stop_price_in_stop_order_and_its_trades_are_reported() -> None:
    desk = a_desk("ann sell 1 @ 1000", "ann sell 9 @ 1001")
    later = desk.buy_stop(1, stop=1001, by="bob")
    sooner = desk.buy_stop(1, stop=1000, by="bob")

    assert later == [accepted(3), parked(3, 1001)]
    assert sooner == [accepted(4), parked(4, 1000)]
    assert desk.buy(1, at=1000) == [
        accepted(5),
        traded(1, 1, 5, 1000, 1),
        triggered(4),
        traded(2, 2, 4, 1001, 1, left=(8, 0)),
        triggered(3),
        traded(3, 2, 3, 1001, 1, left=(7, 0)),
    ]


def test_an_ioc_remainder_never_rests() -> None:
    desk = a_desk("ann sell 4 @ 1000")

    assert desk.buy(10, at=1000, time_in_force=IOC)[-1] == closed(2, EXPIRED, UNFILLED, 6)
    assert desk.book() == ([], [])


def test_a_fok_never_fills_partly() -> None:
    desk = a_desk("ann sell 4 @ 1000")

    assert desk.buy(10, at=1000, time_in_force=FOK) == [accepted(2), closed(2, EXPIRED, UNFILLED, 10)]
    assert desk.book() == ([], [(1000, 4)])


def test_several_makers_at_one_level_all_fill_earliest_first() -> None:
    desk = a_desk("ann sell 1 @ 1000", "bob sell 2 @ 1000", "ann sell 3 @ 1000", "bob sell 4 @ 1000")

    assert desk.buy(10, at=1000) == [
        accepted(5),
        traded(1, 1, 5, 1000, 1, left=(0, 9)),
        traded(2, 2, 5, 1000, 2, left=(0, 7)),
        traded(3, 3, 5, 1000, 3, left=(0, 4)),
        traded(4, 4, 5, 1000, 4, left=(0, 0)),
    ]


def test_a_cancel_that_is_acknowledged_is_gone_and_stays_gone_after_a_restart() -> None:
    desk = a_desk("ann sell 5 @ 1000")

    assert desk.cancel(1) == [closed(1, CANCELED, BY_REQUEST, 5)]
    assert desk.book() == ([], [])
    assert restarted(desk).book() == ([], [])
    assert desk.buy(5, at=1000) == [accepted(3), rested(3, BUY, 1000, 5)]


def test_an_order_that_is_acknowledged_is_there_after_a_restart() -> None:
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1000")

    assert restarted(desk).buy(7, at=1000) == [
        accepted(3),
        traded(1, 1, 3, 1000, 5, left=(0, 2)),
        traded(2, 2, 3, 1000, 2, left=(3, 0)),
    ]


@pytest.mark.parametrize("qty", [-5, 0])
def test_a_quantity_of_minus_five_is_refused(qty: int) -> None:
    assert a_desk().buy(qty, at=1000) == [refused(SIZE_LIMIT, 1, qty)]


def command_of(**fields: str) -> PlaceOrder:
    """The command that an order in JSON becomes."""
    order = {"symbol": "BTC-USD", "side": "buy", "type": "limit", "quantity": "0.00000001", "price": "1"}
    return place_command(decode_new_order(json.dumps(order | fields).encode()), "ann", Grid(BTC), 0, "")


@pytest.mark.parametrize(
    "fields",
    [
        {"price": "-10"},
        {"price": "0"},
        {"quantity": "-5"},
        {"quantity": "0"},
        {"type": "stop", "price": "1", "stop_price": "-10"},
    ],
    ids=str,
)
def test_a_price_of_minus_ten_is_refused_before_it_is_an_order(fields: dict[str, str]) -> None:
    assert command_of().price == 1

    with pytest.raises(Problem):
        command_of(**fields)


def test_no_trade_is_dropped_because_a_queue_is_full() -> None:
    desk = a_desk()
    desk.rule(match_makers_max=5_000)
    for _ in range(5_000):
        desk.shard.apply(PlaceOrder("ann", "BTC-USD", SELL, 1, 1, 1, 1000), seq := desk.seq + 1, 0)
        desk.seq = seq

    events = desk.buy(5_000, at=1000)

    assert [event[:6] for event in events[1:]] == [
        (3, number, number, 5_001, 1000, 1) for number in range(1, 5_001)
    ]


def test_filled_orders_leave_memory() -> None:
    desk = a_desk()
    desk.rule(closed_orders_max=10)
    for _ in range(100):
        desk.trade_at(1000)

    in_memory = sum(len(bucket) for bucket in desk.shard.orders.chunks.values())
    assert in_memory == 10
    assert desk.book() == ([], [])
