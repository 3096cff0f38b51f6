"""What a flow sends. A command names orders by client_order_id, so it does not depend on any answer.

`line_of` is its form as a line of JSON: what `--dry-run` prints, and equal byte for byte for equal seeds.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct


class OrderBody(Struct, frozen=True, gc=False, omit_defaults=True):
    """The body of `POST /orders`; decimals are text."""

    symbol: str
    side: str
    type: str
    quantity: str
    client_order_id: str
    price: str = ""
    stop_price: str = ""
    time_in_force: str = ""
    post_only: bool = False
    display_quantity: str = ""


class Place(Struct, frozen=True, gc=False, tag="place", tag_field="op"):
    at_ns: int
    """When it is due, from the start of the flow."""
    account: str
    order: OrderBody


class Cancel(Struct, frozen=True, gc=False, tag="cancel", tag_field="op"):
    at_ns: int
    account: str
    client_order_id: str


class Replace(Struct, frozen=True, gc=False, tag="replace", tag_field="op"):
    at_ns: int
    account: str
    symbol: str
    client_order_id: str
    quantity: str
    """The new total."""
    price: str


FlowCommand = Place | Cancel | Replace

_encoder = msgspec.json.Encoder()


def line_of(command: FlowCommand) -> bytes:
    return _encoder.encode(command) + b"\n"


def order_of(command: FlowCommand) -> str:
    """The client_order_id that the command is about."""
    return command.order.client_order_id if isinstance(command, Place) else command.client_order_id
