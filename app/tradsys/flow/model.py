"""A zero-intelligence model of order flow: nobody has an opinion, and yet the book looks like a real one.

After Smith, Farmer, Gillemot and Krishnamurthy, "Statistical theory of the continuous double auction" (2003),
the "Santa Fe model", with the additions that a venue's tests want:

  arrivals   commands come as a Poisson process of `rate` per second in all; rate 0 means all at once
  what       drawn by weights: a limit order 1; an order that takes `TAKE_WEIGHT`; a cancel in proportion to
             the number of open orders, so that each order lives equally long and the book
             settles at about `open_orders`; a replace `replaces`
  limit      buy or sell evenly; one tick away from the other side's best price, and further by a geometric
             number of ticks (mean `distance_ticks`), so it never crosses in the model's own book; GTC.
             `icebergs`, `post_only` and `stops` of them are icebergs, post-only, or stops beyond the touch
  take       an IOC limit order at the other side's best price (`IOC_SHARE`) or a market order
  cancel     any open order, evenly
  replace    any open order, evenly: its quantity halves (it keeps its place), or its price moves a tick
             away from the touch
  quantity   `typical_lots` × (1 + a geometric number, mean 1); one order in twenty is ten times as large

The touch is that of the model's own book, in which every command of the flow does what it would do at a
venue where nobody else trades; an iceberg counts whole there, and a stop sleeps. So the commands depend on
the parameters only: the same parameters give the same commands, byte for byte, whatever the venue answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import log
from random import Random

from msgspec import Struct

from tradsys.flow.book import BUY, SELL, FlowBook
from tradsys.flow.commands import Cancel, FlowCommand, OrderBody, Place, Replace

_DECIMAL = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,8}))?", re.ASCII)

UNITS = 100_000_000
"""Tick and lot sizes are integers of 1e-8."""

TAKE_WEIGHT = 0.12
IOC_SHARE = 0.8
LARGE_SHARE, LARGE_TIMES = 0.05, 10
STOP_TICKS_MIN = 10
"""How far from the touch a stop sleeps, at least."""


class Model(Struct, frozen=True, kw_only=True):
    """The parameters; shares are between 0 and 1."""

    seed: int
    symbol: str
    accounts: tuple[str, ...]
    """They send in turn; an order is canceled and replaced by its own account."""
    tick_size: int
    """1e-8 of the quote asset."""
    lot_size: int
    """1e-8 of the base asset."""
    start_price: int
    """Ticks; where the first orders are placed."""
    typical_lots: int
    rate: float = 0.0
    """Commands per second; 0: all are due at once."""
    open_orders: int = 1_000
    distance_ticks: float = 10.0
    replaces: float = 0.05
    icebergs: float = 0.02
    post_only: float = 0.05
    stops: float = 0.005
    id_prefix: str = "flow"


def commands(model: Model) -> Iterator[FlowCommand]:
    """The commands of the flow, without end."""
    return _Flow(model).run()


class _OpenOrder:
    __slots__ = ("account", "filled", "is_stop", "number", "place", "price", "qty", "side")

    def __init__(self, number: int, account: str, side: int, price: int, qty: int, is_stop: bool) -> None:
        self.number = number
        self.account = account
        self.side = side
        self.price = price
        self.qty = qty
        self.filled = 0
        self.is_stop = is_stop
        self.place = 0
        """Its index in the list that the next cancel is drawn from."""


class _Flow:
    def __init__(self, model: Model) -> None:
        self._model = model
        # Only `random()` is used: its sequence for a seed is the same in every version of Python.
        self._draw = Random(model.seed).random
        self._book: FlowBook[int] = FlowBook()
        self._open: list[_OpenOrder] = []
        self._by_number: dict[int, _OpenOrder] = {}
        self._last_price = model.start_price
        self._at_s = 0.0

    def run(self) -> Iterator[FlowCommand]:
        model, draw = self._model, self._draw
        number = 0
        while True:
            if model.rate:
                self._at_s -= log(1.0 - draw()) / model.rate
            at_ns = int(self._at_s * 1e9)
            cancel_weight = (1 - TAKE_WEIGHT) * len(self._open) / model.open_orders
            replace_weight = model.replaces if self._open else 0.0
            choice = draw() * (1 + TAKE_WEIGHT + cancel_weight + replace_weight)
            if choice < cancel_weight:
                yield self._cancel(at_ns)
            elif choice < cancel_weight + replace_weight:
                yield self._replace(at_ns)
            else:
                number += 1
                side = BUY if draw() < 0.5 else SELL
                takes = choice >= 1 + cancel_weight + replace_weight
                # A book without the other side can't be taken from; the order rests instead.
                if takes and self._book.best(-side):
                    yield self._take(at_ns, number, side)
                else:
                    yield self._limit(at_ns, number, side)

    def _take(self, at_ns: int, number: int, side: int) -> Place:
        best = self._book.best(-side)
        assert best
        qty = self._qty()
        ioc = self._draw() < IOC_SHARE
        limit = best[0] if ioc else best[0] + side * self._model.start_price
        for maker, price, traded in self._book.take(side, limit, qty):
            self._last_price = price
            order = self._by_number[maker]
            order.filled += traded
            if maker not in self._book:
                self._forget(order)
        if ioc:
            return self._place(at_ns, number, side, "limit", qty, price=best[0], time_in_force="ioc")
        return self._place(at_ns, number, side, "market", qty)

    def _limit(self, at_ns: int, number: int, side: int) -> Place:
        model = self._model
        distance = 1 + self._geometric(model.distance_ticks)
        if self._touch(SELL) <= distance:
            side = SELL  # There is no price that far below.
        price = self._touch(-side) - side * distance
        qty = self._qty()
        variant = self._draw()
        if variant < model.stops:
            stop = max(self._touch(-side) + side * (STOP_TICKS_MIN + distance), 1)
            self._remember(_OpenOrder(number, self._account(number), side, stop, qty, is_stop=True))
            return self._place(at_ns, number, side, "stop", qty, stop_price=stop)
        variant -= model.stops
        shown = max(qty // 5, 1) if variant < model.icebergs else 0
        post_only = model.icebergs <= variant < model.icebergs + model.post_only
        self._remember(_OpenOrder(number, self._account(number), side, price, qty, is_stop=False))
        self._book.rest(number, side, price, qty)
        return self._place(at_ns, number, side, "limit", qty, price=price, shown=shown, post_only=post_only)

    def _cancel(self, at_ns: int) -> Cancel:
        order = self._any_open()
        if order.number in self._book:
            self._book.reduce(order.number, 0)
        self._forget(order)
        return Cancel(at_ns, order.account, self._id(order.number))

    def _replace(self, at_ns: int) -> Replace:
        order = self._any_open()
        if self._draw() < 0.5 or order.is_stop:
            open_qty = (order.qty - order.filled + 1) // 2
            order.qty = order.filled + open_qty
            if order.number in self._book:
                self._book.reduce(order.number, open_qty)
        elif order.price > 1 or order.side == SELL:
            order.price -= order.side
            self._book.reduce(order.number, 0)
            self._book.rest(order.number, order.side, order.price, order.qty - order.filled)
        # A stop has no limit price to replace.
        price = "" if order.is_stop else self._price(order.price)
        quantity = self._quantity(order.qty)
        return Replace(at_ns, order.account, self._model.symbol, self._id(order.number), quantity, price)

    def _place(
        self,
        at_ns: int,
        number: int,
        side: int,
        kind: str,
        qty: int,
        price: int = 0,
        stop_price: int = 0,
        time_in_force: str = "",
        shown: int = 0,
        post_only: bool = False,
    ) -> Place:
        return Place(
            at_ns,
            self._account(number),
            OrderBody(
                symbol=self._model.symbol,
                side="buy" if side == BUY else "sell",
                type=kind,
                quantity=self._quantity(qty),
                client_order_id=self._id(number),
                price=self._price(price) if price else "",
                stop_price=self._price(stop_price) if stop_price else "",
                time_in_force=time_in_force,
                post_only=post_only,
                display_quantity=self._quantity(shown) if shown else "",
            ),
        )

    def _remember(self, order: _OpenOrder) -> None:
        order.place = len(self._open)
        self._open.append(order)
        self._by_number[order.number] = order

    def _forget(self, order: _OpenOrder) -> None:
        last = self._open.pop()
        if last is not order:
            self._open[order.place] = last
            last.place = order.place
        del self._by_number[order.number]

    def _touch(self, side: int) -> int:
        """The best price of the side; where nobody is, the last one that was traded."""
        best = self._book.best(side)
        return best[0] if best else self._last_price

    def _any_open(self) -> _OpenOrder:
        return self._open[int(self._draw() * len(self._open))]

    def _geometric(self, mean: float) -> int:
        """How many failures come before a success that has the probability 1 / (1 + mean)."""
        return int(log(1.0 - self._draw()) / log(mean / (1.0 + mean)))

    def _qty(self) -> int:
        times = LARGE_TIMES if self._draw() < LARGE_SHARE else 1
        return self._model.typical_lots * (1 + self._geometric(1.0)) * times

    def _account(self, number: int) -> str:
        return self._model.accounts[number % len(self._model.accounts)]

    def _id(self, number: int) -> str:
        return f"{self._model.id_prefix}-{number}"

    def _price(self, ticks: int) -> str:
        return decimal_text(ticks * self._model.tick_size)

    def _quantity(self, lots: int) -> str:
        return decimal_text(lots * self._model.lot_size)


def decimal_text(units: int) -> str:
    """Units of 1e-8 as a decimal without needless zeros."""
    whole, fraction = divmod(units, UNITS)
    return f"{whole}.{fraction:08d}".rstrip("0") if fraction else str(whole)


def units_of(text: str) -> int:
    """A decimal as units of 1e-8. ValueError if it is none, or has more places."""
    if not (match := _DECIMAL.fullmatch(text)):
        raise ValueError(f"{text!r} is not a decimal with at most 8 places")
    return int(match[1]) * UNITS + int((match[2] or "").ljust(8, "0"))
