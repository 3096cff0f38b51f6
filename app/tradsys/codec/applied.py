"""What became of a command: the values that every answer to it is made from.

Plain classes in a module of their own because they are compiled in a release: an answer reads a dozen
attributes of them, and of a struct each of those is looked up by its name.
"""

from __future__ import annotations

from typing import Any, Final

from tradsys.core.messages import Command, Event, Instrument, PlaceOrder
from tradsys.core.order import Order


class OrderState:
    """An order as a command left it. The order itself goes on changing, and memory may use it again."""

    __slots__ = (
        "closed_reason",
        "command",
        "cost",
        "created_ns",
        "fills",
        "id",
        "instrument",
        "open_qty",
        "price",
        "qty",
        "status",
        "updated_ns",
        "updated_seq",
        "version",
    )

    def __init__(self, order: Order, fills: list[Any] | None):
        """`fills`: the order's own, or those of them that are to be told."""
        self.id: Final[int] = order.id
        self.command: Final[PlaceOrder] = order.command
        self.instrument: Final[Instrument] = order.instrument
        self.price: Final[int] = order.price
        self.qty: Final[int] = order.qty
        self.open_qty: Final[int] = order.open_qty
        self.cost: Final[int] = order.cost
        self.status: Final[int] = order.status
        self.closed_reason: Final[int] = order.closed_reason
        self.created_ns: Final[int] = order.created_ns
        self.updated_ns: Final[int] = order.updated_ns
        self.updated_seq: Final[int] = order.updated_seq
        self.version: Final[int] = order.version
        self.fills: Final[list[Any]] = [*fills] if fills else []


class Done:
    """A journalled command and what it did. `instrument` is the one of a PlaceOrder, else None."""

    __slots__ = ("command", "events", "instrument", "order", "replayed", "seq", "time_ns")

    def __init__(
        self,
        command: Command,
        seq: int,
        time_ns: int,
        events: list[Event],
        instrument: Instrument | None,
        replayed: bool = False,
        order: OrderState | None = None,
    ):
        self.command: Final[Command] = command
        self.seq: Final[int] = seq
        self.time_ns: Final[int] = time_ns
        self.events: Final[list[Event]] = events
        self.instrument: Final[Instrument | None] = instrument
        self.replayed: Final[bool] = replayed
        """The outcome of an earlier, equal command with the same key."""
        self.order: Final[OrderState | None] = order
        """Of a replace or cancel: the account's order as the command left it, if there is one."""
