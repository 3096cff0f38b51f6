"""An order and its place in a price level.

`Order` is the only mutable record of the core. The book owns its quantities and its links, the shard
owns the rest. Levels are intrusive linked lists: the first order, a cancel from the middle and a new
last order all cost the same few assignments, however long the level is.
"""

from __future__ import annotations

from typing import Any


class Order:
    """One order, from acceptance until it leaves memory. Quantities in lots, prices in ticks."""

    __slots__ = (
        "account",
        "closed_reason",
        "command",
        "cost",
        "created_ns",
        "display_qty",
        "expire_at",
        "fee_over",
        "fees",
        "fills",
        "holding",
        "id",
        "id_object",
        "instrument",
        "key",
        "level",
        "maker_fee_ppm",
        "next",
        "open_qty",
        "prev",
        "price",
        "qty",
        "reserved",
        "shown",
        "side",
        "status",
        "taker_fee_ppm",
        "updated_ns",
        "updated_seq",
        "version",
        "waiting",
    )

    def __init__(
        self, id: int, side: int, price: int, qty: int, display_qty: int, expire_at: int, account: Any
    ):
        self.reset(id, side, price, qty, display_qty, expire_at, account)

    def reset(
        self, id: int, side: int, price: int, qty: int, display_qty: int, expire_at: int, account: Any
    ) -> None:
        """Make it a new order. Every slot is set here: that is what proves a pooled order clean."""
        # Not by calling __init__ again: on an object of a compiled class that does nothing.
        self.id: int = id
        self.id_object: Any = id
        """The same number, for dicts only. Compiled code makes a new object of `id` each time; a dict that is
        asked with the very object that it has need not look into it, which no cache of the processor has."""
        self.side: int = side
        self.price: int = price
        """The limit that matching uses: the limit price, or the worst price of a market or stop order."""
        self.qty: int = qty
        self.open_qty: int = qty
        self.display_qty: int = display_qty
        self.shown: int = display_qty if 0 < display_qty < qty else qty
        self.expire_at: int = expire_at
        self.account: Any = account
        self.prev: Order | None = None
        self.next: Order | None = None
        self.level: Level | None = None

        self.command: Any = None
        self.instrument: Any = None
        self.maker_fee_ppm: int = 0
        self.taker_fee_ppm: int = 0
        """Of its instrument; see `obey`."""
        self.holding: Any = None
        self.key: str = ""
        """Of its idempotency record; "" for an order without one."""
        self.waiting: bool = False
        """A stop that has not been triggered."""
        self.status: int = 1
        self.closed_reason: int = 0
        self.version: int = 0
        self.created_ns: int = 0
        self.updated_ns: int = 0
        self.updated_seq: int = id
        self.reserved: int = 0
        self.cost: int = 0
        """Sum of price × quantity over all fills, ticks × lots."""
        self.fees: int = 0
        """Charged so far: the sum of notional × rate over all fills, rounded up to a whole unit."""
        self.fee_over: int = 0
        """By so many millionths of a unit."""
        self.fills: list[Any] | None = None
        """(time_ns, seq, taker side, trade event), the latest `order_fills_max`; None before any."""

    def obey(self, instrument: Any) -> None:
        """Stand under the terms of this version of the instrument from now on."""
        self.instrument = instrument
        self.maker_fee_ppm = instrument.maker_fee_ppm
        self.taker_fee_ppm = instrument.taker_fee_ppm


class Level:
    """The orders at one price, earliest first."""

    __slots__ = ("count", "head", "rank", "shown", "tail")

    def __init__(self, rank: int):
        self.rank: int = rank
        self.head: Order | None = None
        self.tail: Order | None = None
        self.shown: int = 0
        """Sum of the shown quantities."""
        self.count: int = 0

    def append(self, order: Order) -> None:
        tail = self.tail
        order.prev = tail
        order.next = None
        order.level = self
        if tail is None:
            self.head = order
        else:
            tail.next = order
        self.tail = order
        self.shown += order.shown
        self.count += 1

    def unlink(self, order: Order) -> None:
        before, after = order.prev, order.next
        if before is None:
            self.head = after
        else:
            before.next = after
        if after is None:
            self.tail = before
        else:
            after.prev = before
        order.prev = order.next = order.level = None
        self.shown -= order.shown
        self.count -= 1
