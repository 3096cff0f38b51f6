"""A day at an exchange, made up: messages in LOBSTER format and the tops of book that they cause.

The exchange is as simple as can be: a list of orders, searched from end to end. It knows nothing of the
venue or of the sender's book, so that equal tops mean something. It behaves as the real files do: an
aggressive order appears only as executions of the orders it hits (one row each, all of the same time),
its remainder as a new order; hidden executions leave the visible book alone; a halt stops new orders.
"""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

CENT = 100
EMPTY_ASK, EMPTY_BID = 9_999_999_999, -9_999_999_999

Top = tuple[int, int, int, int]


@dataclass
class Sample:
    lines: list[str] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    """ask, size, bid, size after each message that changed it."""
    counts: Counter[int] = field(default_factory=Counter)
    """Messages by type."""
    unknown: Counter[int] = field(default_factory=Counter)
    """Messages by type that name orders from before the file."""

    def write(self, path: Path) -> Path:
        text = "".join(line + "\n" for line in self.lines).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
        return path


@dataclass
class Resting:
    order_id: int
    size: int
    price: int
    direction: int


class Exchange:
    def __init__(self, seed: int, halts: bool = False) -> None:
        self.random = Random(seed)
        self.halts = halts
        self.sample = Sample()
        self.book: list[Resting] = []
        self.before: list[Resting] = [Resting(900 + i, 100, 1_000_000, 1) for i in range(20)]
        self.time_ns = 34_200_000_000_000
        self.next_id = 1_000
        self.middle = 1_000_000
        self.halted = False

    def best(self, direction: int) -> Resting | None:
        side = [order for order in self.book if order.direction == direction]
        # `max` and `min` give the first of equals: the earliest.
        return (max if direction == 1 else min)(side, key=lambda order: order.price, default=None)

    def top(self) -> Top:
        row: list[int] = []
        for direction, empty in ((-1, EMPTY_ASK), (1, EMPTY_BID)):
            best = self.best(direction)
            if best is None:
                row += [empty, 0]
            else:
                level = [o.size for o in self.book if (o.direction, o.price) == (direction, best.price)]
                row += [best.price, sum(level)]
        return (row[0], row[1], row[2], row[3])

    def message(self, kind: int, order_id: int, size: int, price: int, direction: int) -> None:
        seconds, ns = divmod(self.time_ns, 1_000_000_000)
        self.sample.lines.append(f"{seconds}.{ns:09d},{kind},{order_id},{size},{price},{direction}")
        self.sample.counts[kind] += 1
        top = self.top()
        if top != (self.sample.tops[-1] if self.sample.tops else (EMPTY_ASK, 0, EMPTY_BID, 0)):
            self.sample.tops.append(top)

    def new(self, size: int, price: int, direction: int) -> None:
        self.next_id += self.random.randint(1, 5)
        self.book.append(Resting(self.next_id, size, price, direction))
        self.message(1, self.next_id, size, price, direction)

    def sweep(self, size: int, direction: int, limit: int) -> None:
        """An aggressive order: an execution for each order hit, then its remainder as a new order."""
        while size and (maker := self.best(-direction)) and (limit - maker.price) * direction >= 0:
            traded = min(size, maker.size)
            maker.size -= traded
            size -= traded
            if not maker.size:
                self.book.remove(maker)
            self.message(4, maker.order_id, traded, maker.price, maker.direction)
        if size and self.random.random() < 0.5:
            self.new(size, limit, direction)

    def step(self) -> None:
        draw = self.random
        self.time_ns += draw.randint(1, 50_000_000)
        if draw.random() < 0.05:
            self.middle += draw.choice((-CENT, CENT))
        choice = draw.random()
        if self.halted or (self.halts and choice < 0.003):
            self.halt_or_resume()
        elif choice < 0.45 or len(self.book) < 10:
            direction = draw.choice((1, -1))
            size, away = draw.choice((1, 10, 50, 100, 100, 100, 300)), draw.randint(1, 15) * CENT
            price = self.middle - direction * away
            other = self.best(-direction)
            if other and (price - other.price) * direction >= 0:
                self.sweep(size, direction, price)
            else:
                self.new(size, price, direction)
        elif choice < 0.55:
            order = draw.choice(self.book)
            if order.size > 1:
                less = draw.randint(1, order.size - 1)
                order.size -= less
                self.message(2, order.order_id, less, order.price, order.direction)
        elif choice < 0.85:
            order = draw.choice(self.book)
            self.book.remove(order)
            self.message(3, order.order_id, order.size, order.price, order.direction)
        elif choice < 0.95:
            direction = draw.choice((1, -1))
            other = self.best(-direction)
            if other:
                limit = other.price + direction * draw.randint(0, 5) * CENT
                self.sweep(draw.choice((20, 100, 250, 800)), direction, limit)
        elif choice < 0.98:
            self.message(5, 0, draw.randint(1, 100), self.middle + CENT // 2, draw.choice((1, -1)))
        elif self.before:
            self.old_order()

    def old_order(self) -> None:
        """Something happens to an order from before the file."""
        old = self.before[-1]
        kind = self.random.choice((2, 3, 4))
        self.sample.unknown[kind] += 1
        size = 10 if kind == 2 else old.size
        self.message(kind, old.order_id, size, old.price, old.direction)
        if kind != 2:
            self.before.pop()

    def halt_or_resume(self) -> None:
        if not self.halted:
            self.message(7, 0, 0, -1, -1)
        else:
            self.message(7, 0, 0, 0, -1)
            self.message(7, 0, 0, 1, -1)
        self.halted = not self.halted


def sample(seed: int, messages: int, halts: bool = False) -> Sample:
    exchange = Exchange(seed, halts)
    while len(exchange.sample.lines) < messages:
        exchange.step()
    return exchange.sample
