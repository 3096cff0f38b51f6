"""A price-time priority book as a sender of orders keeps one: who rests where, and what an order would hit.

Prices and quantities are integers in the caller's units. Both sides are one piece of code: rank is
price × side, so the best level has the greatest rank.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

BUY, SELL = 1, -1

Id = TypeVar("Id", int, str)


class Hit(NamedTuple, Generic[Id]):
    """A resting order that a taker traded with."""

    order_id: Id
    price: int
    qty: int


class Resting(Generic[Id]):
    __slots__ = ("price", "qty", "side")

    def __init__(self, side: int, price: int, qty: int) -> None:
        self.side = side
        self.price = price
        self.qty = qty


class Level(Generic[Id]):
    __slots__ = ("orders", "qty")

    def __init__(self) -> None:
        self.orders: OrderedDict[Id, Resting[Id]] = OrderedDict()
        self.qty = 0


class FlowBook(Generic[Id]):
    def __init__(self) -> None:
        self._orders: dict[Id, Resting[Id]] = {}
        self._levels: dict[int, dict[int, Level[Id]]] = {BUY: {}, SELL: {}}
        self._ranks: dict[int, list[int]] = {BUY: [], SELL: []}

    def __contains__(self, order_id: Id) -> bool:
        return order_id in self._orders

    def __len__(self) -> int:
        return len(self._orders)

    def qty_of(self, order_id: Id) -> int:
        """What the order has open, 0 if it does not rest here."""
        order = self._orders.get(order_id)
        return order.qty if order else 0

    def rest(self, order_id: Id, side: int, price: int, qty: int) -> None:
        """Add an order behind those of its price. It must not be here yet."""
        assert order_id not in self._orders and qty > 0
        rank = price * side
        level = self._levels[side].get(rank)
        if level is None:
            level = self._levels[side][rank] = Level()
            insort(self._ranks[side], rank)
        order: Resting[Id] = Resting(side, price, qty)
        level.orders[order_id] = self._orders[order_id] = order
        level.qty += qty

    def reduce(self, order_id: Id, qty: int) -> None:
        """Leave `qty` of the order, in its place; 0 removes it."""
        order = self._orders[order_id]
        assert 0 <= qty <= order.qty
        rank = order.price * order.side
        level = self._levels[order.side][rank]
        level.qty -= order.qty - qty
        order.qty = qty
        if not qty:
            del self._orders[order_id], level.orders[order_id]
            if not level.orders:
                del self._levels[order.side][rank]
                ranks = self._ranks[order.side]
                del ranks[bisect_left(ranks, rank)]

    def take(self, side: int, limit: int, qty: int) -> list[Hit[Id]]:
        """Trade as an order of `side` would: best price first, at a price the earliest order first."""
        hits: list[Hit[Id]] = []
        levels, ranks = self._levels[-side], self._ranks[-side]
        while qty and ranks and ranks[-1] >= limit * -side:
            maker_id, maker = next(iter(levels[ranks[-1]].orders.items()))
            traded = min(qty, maker.qty)
            hits.append(Hit(maker_id, maker.price, traded))
            qty -= traded
            self.reduce(maker_id, maker.qty - traded)
        return hits

    def best(self, side: int) -> tuple[int, int] | None:
        """Price and quantity of the best level, None if the side is empty."""
        ranks = self._ranks[side]
        if not ranks:
            return None
        return ranks[-1] * side, self._levels[side][ranks[-1]].qty

    def orders(self, side: int, levels_max: int) -> list[tuple[int, int, Id]]:
        """(price, quantity, order id) of the best levels, in the order in which they would be hit."""
        return [
            (order.price, order.qty, order_id)
            for rank in self._ranks[side][: -levels_max - 1 : -1]
            for order_id, order in self._levels[side][rank].orders.items()
        ]
