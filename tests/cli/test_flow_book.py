"""The sender's book against a list that is searched from end to end."""

from __future__ import annotations

from random import Random

import pytest

from tradsys.flow.book import BUY, SELL, FlowBook, Hit


def test_a_taker_hits_the_best_price_first_and_the_earliest_at_a_price():
    book: FlowBook[str] = FlowBook()
    for order_id, price, qty in (("a", 101, 5), ("b", 100, 3), ("c", 100, 4)):
        book.rest(order_id, SELL, price, qty)

    assert book.take(BUY, 101, 9) == [Hit("b", 100, 3), Hit("c", 100, 4), Hit("a", 101, 2)]
    assert book.orders(SELL, 10) == [(101, 3, "a")]


def test_a_reduced_order_keeps_its_place():
    book: FlowBook[str] = FlowBook()
    book.rest("a", BUY, 100, 5)
    book.rest("b", BUY, 100, 5)

    book.reduce("a", 2)

    assert book.orders(BUY, 10) == [(100, 2, "a"), (100, 5, "b")]
    assert book.best(BUY) == (100, 7)


def test_a_level_without_orders_is_gone():
    book: FlowBook[str] = FlowBook()
    book.rest("a", BUY, 100, 5)

    book.reduce("a", 0)

    assert (book.best(BUY), book.orders(BUY, 5), len(book), "a" in book) == (None, [], 0, False)


@pytest.mark.parametrize("seed", range(20))
def test_does_what_a_flat_list_does(seed: int):
    draw = Random(seed)
    book: FlowBook[int] = FlowBook()
    flat: list[list[int]] = []  # [order id, side, price, qty], in order of arrival

    def ahead(side: int) -> list[list[int]]:
        return sorted((o for o in flat if o[1] == side), key=lambda o: -o[2] * side)

    for order_id in range(300):
        action = draw.random()
        if action < 0.5 or not flat:
            order = [order_id, draw.choice((BUY, SELL)), draw.randint(90, 110), draw.randint(1, 9)]
            flat.append(order)
            book.rest(*order)
        elif action < 0.75:
            order = draw.choice(flat)
            order[3] = draw.randint(0, order[3])
            book.reduce(order[0], order[3])
        else:
            side, limit, qty = draw.choice((BUY, SELL)), draw.randint(90, 110), draw.randint(1, 20)
            expected = []
            for maker in ahead(-side):
                if qty and (limit - maker[2]) * side >= 0:
                    traded = min(qty, maker[3])
                    expected.append((maker[0], maker[2], traded))
                    maker[3] -= traded
                    qty -= traded
            # What is left of `qty` is gone: `take` rests nothing.
            assert book.take(side, limit, sum(row[2] for row in expected) + qty) == expected
        flat[:] = [o for o in flat if o[3]]
        for side in (BUY, SELL):
            assert book.orders(side, 1_000) == [(o[2], o[3], o[0]) for o in ahead(side)]
