"""Accounts, what they hold, and what their open orders hold back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from heapq import merge

from tradsys.core.messages import Limits
from tradsys.core.order import Order


class Balance:
    """One asset of one account, in 1e-8: `reserved` belongs to open orders, `free` to nobody else."""

    __slots__ = ("free", "reserved")

    def __init__(self, free: int = 0, reserved: int = 0):
        self.free = free
        self.reserved = reserved


class Holding:
    """One account in one symbol: position in 1e-8 of base, open orders in lots, the two balances it moves."""

    __slots__ = ("base", "buys", "net", "open_buys", "open_sells", "quote", "sells", "symbol")

    def __init__(self, symbol: str, base: Balance, quote: Balance):
        self.symbol = symbol
        self.base = base
        self.quote = quote
        self.net = 0
        self.open_buys = 0
        self.open_sells = 0
        self.buys: dict[int, Order] = {}
        self.sells: dict[int, Order] = {}
        """Open orders by id, ascending, like `Account.open`."""


class Account:
    __slots__ = (
        "balances",
        "holdings",
        "killed",
        "limits",
        "mode",
        "name",
        "notional_max",
        "open",
        "orders_max",
        "position_max",
        "qty_max",
    )

    def __init__(self, name: str, mode: int):
        self.name = name
        self.mode = mode
        self.obey(Limits())
        self.killed = False
        self.balances: dict[str, Balance] = {}
        self.holdings: dict[str, Holding] = {}
        self.open: dict[int, Order] = {}
        """Open orders by id, ascending."""

    def obey(self, limits: Limits) -> None:
        self.limits = limits
        # Each by itself, too: compiled code looks up what a struct has by its name.
        self.orders_max: int = limits.open_orders_max
        self.qty_max: int = limits.order_qty_max
        self.notional_max: int = limits.order_notional_max
        self.position_max: int = limits.position_max

    def balance(self, asset: str) -> Balance:
        balance = self.balances.get(asset)
        if balance is None:
            balance = self.balances[asset] = Balance()
        return balance

    def holding(self, symbol: str, base: str, quote: str) -> Holding:
        holding = self.holdings.get(symbol)
        if holding is None:
            holding = self.holdings[symbol] = Holding(symbol, self.balance(base), self.balance(quote))
        return holding

    def oldest(self, symbol: str, side: int) -> Iterable[Order]:
        """Open orders of a symbol ("": of all) and a side (0: of both), oldest first."""
        parts = self._parts(symbol, side)
        return parts[0].values() if len(parts) == 1 else merge(*[part.values() for part in parts], key=_id)

    def newest(self, symbol: str, before: int) -> Iterable[Order]:
        """Open orders of a symbol ("": of all) with ids below `before`, newest first."""
        parts = [_backwards(part, before) for part in self._parts(symbol, 0)]
        return parts[0] if len(parts) == 1 else merge(*parts, key=_id, reverse=True)

    def _parts(self, symbol: str, side: int) -> list[dict[int, Order]]:
        """Where they are. Nobody looks through orders that are not asked for: there may be 200,000."""
        if not symbol and not side:
            return [self.open]
        parts = []
        for holding in self.holdings.values() if not symbol else (self.holdings.get(symbol),):
            if holding is None:
                continue
            if side >= 0 and holding.buys:
                parts.append(holding.buys)
            if side <= 0 and holding.sells:
                parts.append(holding.sells)
        return parts


def _id(order: Order) -> int:
    return order.id


def _backwards(orders: dict[int, Order], before: int) -> Iterator[Order]:
    if not orders or next(reversed(orders)) < before:
        return reversed(orders.values())
    # A dict can't be entered in the middle; a list of its keys is made ten times as fast as a walk over it.
    ids = list(orders)
    del ids[bisect_left(ids, before) :]
    # No generator expression: compiled, that is a list of all of them.
    return map(orders.__getitem__, reversed(ids))
