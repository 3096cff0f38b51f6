"""A book of more levels than one block of its ranks holds."""

from __future__ import annotations

from random import Random

import pytest

from tradsys.core.book import BLOCK_RANKS_MAX, TRADED, OrderBook, Side
from tradsys.core.messages import BUY, SELL
from tradsys.core.order import Order

LEVELS = 4 * BLOCK_RANKS_MAX


def an_order(side: int, price: int, *, qty: int = 1, expire_at: int = 0) -> Order:
    return Order(price, side, price, qty, 0, expire_at, object())


def a_book_of_asks(*, expire_at: int = 0) -> OrderBook:
    """One order at each price from 1 on, in an order of its own."""
    book, prices = OrderBook(), list(range(1, LEVELS + 1))
    Random(1).shuffle(prices)
    for price in prices:
        book.rest(an_order(SELL, price, expire_at=expire_at))
    return book


@pytest.mark.parametrize("sign", [BUY, SELL])
def test_levels_stay_in_order_wherever_they_come_and_go(sign: int) -> None:
    half, resting, draw = Side(sign), dict[int, Order](), Random(2)

    for _ in range(6 * LEVELS):
        price = draw.randrange(1, 3 * LEVELS)
        if price in resting:
            half.remove(resting.pop(price))
        else:
            resting[price] = an_order(sign, price)
            half.append(resting[price], price)

    best_first = sorted(resting, reverse=sign > 0)
    assert [rank * sign for rank in half.ranked()] == best_first
    assert [order.price for order in half] == best_first
    assert [price for price, _, _ in half.depth(100)] == best_first[:100]


@pytest.mark.parametrize("step", [1, -1])
def test_levels_that_come_one_behind_another_and_go_as_they_came_leave_nothing(step: int) -> None:
    half = Side(BUY)
    orders = [an_order(BUY, LEVELS + step * number) for number in range(LEVELS)]

    for order in orders:
        half.append(order, order.price)
    prices = [order.price for order in half]
    for order in orders:
        half.remove(order)

    assert prices == sorted((order.price for order in orders), reverse=True)
    assert (half.ranks, half.far, half.far_starts, half.levels) == ([], [], [], {})


def test_a_taker_sweeps_all_levels_best_first() -> None:
    book = a_book_of_asks()

    steps = book.take(an_order(BUY, LEVELS, qty=LEVELS), 0, 0, LEVELS)

    assert [(what, maker.price) for what, maker, _, _ in steps] == [
        (TRADED, price) for price in range(1, LEVELS + 1)
    ]
    assert (book.asks.ranks, book.best_price(SELL)) == ([], 0)


def test_what_is_near_is_told_with_what_is_far_where_it_is_too_little() -> None:
    book = a_book_of_asks()
    near = len(book.asks.ranks)
    book.take(an_order(BUY, near - 2, qty=near - 2), 0, 0, LEVELS)

    prices = [price for price, _, _ in book.asks.depth(5)]

    assert len(book.asks.ranks) == 2
    assert prices == list(range(near - 1, near + 4))


def test_a_fill_or_kill_order_counts_on_what_is_far() -> None:
    book = a_book_of_asks()

    assert book.fillable(an_order(BUY, LEVELS, qty=LEVELS), 0, 0, LEVELS)
    assert not book.fillable(an_order(BUY, LEVELS, qty=LEVELS + 1), 0, 0, LEVELS)


def test_the_best_live_order_may_be_far_behind_expired_ones() -> None:
    book = a_book_of_asks(expire_at=5)
    book.rest(an_order(SELL, LEVELS + 1))

    assert book.best_live_opposite(BUY, LEVELS + 1, 9) == LEVELS + 1
