"""Accounts, what they hold, and what their open orders hold back."""

from __future__ import annotations

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

    __slots__ = ("base", "net", "open_buys", "open_sells", "quote", "symbol")

    def __init__(self, symbol: str, base: Balance, quote: Balance):
        self.symbol = symbol
        self.base = base
        self.quote = quote
        self.net = 0
        self.open_buys = 0
        self.open_sells = 0


class Account:
    __slots__ = ("balances", "holdings", "killed", "limits", "mode", "name", "open")

    def __init__(self, name: str, mode: int):
        self.name = name
        self.mode = mode
        self.limits = Limits()
        self.killed = False
        self.balances: dict[str, Balance] = {}
        self.holdings: dict[str, Holding] = {}
        self.open: dict[int, Order] = {}
        """Open orders by id, ascending."""

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
