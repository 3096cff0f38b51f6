"""What became of a command."""

from __future__ import annotations

from msgspec import Struct

from tradsys.codec.errors import Problem
from tradsys.codec.json_v1 import OrderState
from tradsys.core.messages import Command, Event, Instrument


class Done(Struct, frozen=True, gc=False):
    """A journalled command and what it did. `instrument` is the one of a PlaceOrder, else None."""

    command: Command
    seq: int
    time_ns: int
    events: list[Event]
    instrument: Instrument | None
    replayed: bool = False
    """The outcome of an earlier, equal command with the same key."""
    order: OrderState | None = None
    """Of a replace or cancel: the account's order as the command left it, if there is one."""


Outcome = Done | Problem
