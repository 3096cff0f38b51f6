"""A small trading desk for the examples: one real shard, a few traders, and words for events.

    desk = a_desk("ann sell 50 @ 1000", "bob sell 100 @ 1001")
    events = desk.buy(200, at=1001)
    assert events == [accepted(3), traded(1, 1, 3, 1000, 50, left=(0, 150)), …]

Everything of the opening has sequence number 0, so that the first order is order 1. A price is in ticks
and a quantity in lots of a grid in which one tick × one lot is one unit (1e-8) of USD.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tradsys.core.messages import (
    ACCEPTED_EVENT,
    BUY,
    CASH,
    CLOSED_EVENT,
    GTC,
    IOC,
    LIMIT,
    LIMITS,
    MARKET,
    PARKED_EVENT,
    REFUSED_EVENT,
    REPLACED_EVENT,
    REPLENISHED_EVENT,
    RESTED_EVENT,
    SELL,
    SET_EVENT,
    STOP,
    STOP_LIMIT,
    TRADE_EVENT,
    TRIGGERED_EVENT,
    WORK_EVENT,
    AdjustBalance,
    CancelOrder,
    Command,
    DefineAccount,
    DefineInstrument,
    Event,
    Instrument,
    Limits,
    PlaceOrder,
    ReplaceOrder,
    SetLimits,
    SetRules,
)
from tradsys.core.order import Order
from tradsys.core.shard import Shard

MIDNIGHT_NS = 1_772_409_600_000_000_000
"""2026-03-02 00:00 UTC"""
SECOND = 1_000_000_000
BTC = Instrument("BTC-USD", "BTC", "USD", tick_size=100_000_000, lot_size=1)
LOT = BTC.lot_size
TRADERS = ("ann", "bob", "cat")


class Desk:
    """Commands to one shard; each takes the next sequence number and one microsecond."""

    def __init__(self, instrument: Instrument = BTC, order_pool_size: int = 0) -> None:
        self.shard = Shard("main", order_pool_size=order_pool_size)
        self.symbol = instrument.symbol
        self.seq = 0
        self.time_ns = MIDNIGHT_NS - 3600 * SECOND
        self.open_with(DefineInstrument(instrument))
        for trader in TRADERS:
            self.open_with(DefineAccount(trader, LIMITS))

    def open_with(self, command: Command) -> None:
        """Part of the opening: takes no sequence number, and has to take effect."""
        (event,) = self.shard.apply(command, 0, self.time_ns)
        assert event[0] == SET_EVENT, (command, event)

    def cash_account(self, account: str, **amounts: int) -> None:
        self.open_with(DefineAccount(account, CASH))
        for asset, amount in amounts.items():
            self.open_with(AdjustBalance(account, asset, amount, f"{account} {asset}"))

    def limit(self, account: str, **limits: int) -> None:
        self.open_with(SetLimits(account, Limits(**limits)))

    def rule(self, **rules: int) -> None:
        """Change some of the rules."""
        self.open_with(SetRules(replace(self.shard.rules, **rules)))

    def wait_until(self, time_ns: int) -> None:
        """The next command comes exactly then."""
        self.time_ns = time_ns - 1_000

    def apply(self, command: Command) -> list[Event]:
        self.seq += 1
        self.time_ns += 1_000
        events = self.shard.apply(command, self.seq, self.time_ns)
        self.shard.check()
        return events

    def place(self, side: int, qty: int, at: int = 0, by: str = "cat", **details: Any) -> list[Event]:
        """A GTC limit order, unless the details say otherwise."""
        details.setdefault("type", LIMIT)
        details.setdefault("time_in_force", GTC)
        symbol = details.pop("symbol", self.symbol)
        return self.apply(PlaceOrder(by, symbol, side, qty=qty, price=at, **details))

    def buy(self, qty: int, at: int = 0, by: str = "cat", **details: Any) -> list[Event]:
        return self.place(BUY, qty, at, by, **details)

    def sell(self, qty: int, at: int = 0, by: str = "cat", **details: Any) -> list[Event]:
        return self.place(SELL, qty, at, by, **details)

    def buy_at_market(self, qty: int, by: str = "cat", **details: Any) -> list[Event]:
        return self.buy(qty, 0, by, type=MARKET, time_in_force=IOC, **details)

    def sell_at_market(self, qty: int, by: str = "cat", **details: Any) -> list[Event]:
        return self.sell(qty, 0, by, type=MARKET, time_in_force=IOC, **details)

    def buy_stop(self, qty: int, stop: int, by: str = "cat", **details: Any) -> list[Event]:
        return self.buy(qty, 0, by, type=STOP, stop_price=stop, **details)

    def sell_stop(self, qty: int, stop: int, by: str = "cat", **details: Any) -> list[Event]:
        return self.sell(qty, 0, by, type=STOP, stop_price=stop, **details)

    def buy_stop_limit(self, qty: int, stop: int, at: int, by: str = "cat", **details: Any) -> list[Event]:
        return self.buy(qty, at, by, type=STOP_LIMIT, stop_price=stop, **details)

    def sell_stop_limit(self, qty: int, stop: int, at: int, by: str = "cat", **details: Any) -> list[Event]:
        return self.sell(qty, at, by, type=STOP_LIMIT, stop_price=stop, **details)

    def replace(self, order_id: int, by: str = "ann", **changes: Any) -> list[Event]:
        return self.apply(ReplaceOrder(by, order_id, **changes))

    def cancel(self, order_id: int, by: str = "ann") -> list[Event]:
        return self.apply(CancelOrder(by, order_id))

    def trade_at(self, price: int) -> None:
        """One lot changes hands between bob and ann, so that this is the last price; takes two ids."""
        self.sell(1, price, by="ann")
        events = self.buy(1, price, by="bob")
        assert events[1][0] == TRADE_EVENT

    def order(self, order_id: int) -> Order:
        order = self.shard.order(order_id)
        assert order is not None
        return order

    def book(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(price, shown quantity) of bids and asks, best first."""
        book = self.shard.markets[self.symbol].book
        bids, asks = book.bids.depth(100), book.asks.depth(100)
        return [level[:2] for level in bids], [level[:2] for level in asks]

    def money(self, account: str, asset: str = "USD") -> tuple[int, int]:
        """(free, reserved)"""
        balance = self.shard.accounts[account].balances[asset]
        return balance.free, balance.reserved

    def fees(self, asset: str = "USD") -> int:
        return self.shard.fees[asset].free

    def net(self, account: str) -> int:
        holding = self.shard.accounts[account].holdings.get(self.symbol)
        return holding.net if holding else 0


def a_desk(*opening: str, instrument: Instrument = BTC) -> Desk:
    """A desk after some limit orders have rested or traded: "ann sell 50 @ 1000", ids from 1."""
    desk = Desk(instrument)
    for text in opening:
        account, side, qty, _, price = text.split()
        desk.place({"buy": BUY, "sell": SELL}[side], int(qty), int(price), account)
    return desk


# --- events in words ----------------------------------------------------------------------------------


def accepted(order_id: int) -> Event:
    return (ACCEPTED_EVENT, order_id)


def refused(code: int, need: int = 0, have: int = 0) -> Event:
    return (REFUSED_EVENT, code, need, have)


def traded(
    trade_id: int,
    maker: int,
    taker: int,
    price: int,
    qty: int,
    left: tuple[int, int] = (0, 0),
    fees: tuple[int, int] = (0, 0),
) -> Event:
    """`left` and `fees`: of the maker, of the taker."""
    return (TRADE_EVENT, trade_id, maker, taker, price, qty, *fees, *left)


def rested(order_id: int, side: int, price: int, qty: int, shown: int = 0) -> Event:
    return (RESTED_EVENT, order_id, side, price, shown or qty, qty)


def closed(order_id: int, status: int, reason: int, left: int) -> Event:
    return (CLOSED_EVENT, order_id, status, reason, left)


def parked(order_id: int, stop_price: int) -> Event:
    return (PARKED_EVENT, order_id, stop_price)


def triggered(order_id: int) -> Event:
    return (TRIGGERED_EVENT, order_id)


def replaced(order_id: int, version: int, price: int, qty: int, left: int, kept: bool) -> Event:
    return (REPLACED_EVENT, order_id, version, price, qty, left, int(kept))


def replenished(order_id: int, shown: int) -> Event:
    return (REPLENISHED_EVENT, order_id, shown)


def worked(work_id: int, done: int, more: bool = False) -> Event:
    return (WORK_EVENT, work_id, done, int(more))


def was_set(tag: int) -> Event:
    return (SET_EVENT, tag)
