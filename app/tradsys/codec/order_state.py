"""An order as a command left it: compiled in a release, because a batch answers each cancel from it."""

from __future__ import annotations

from tradsys.codec.json_v1 import OrderState
from tradsys.core.order import Order


def state_of(order: Order) -> OrderState:
    return OrderState(
        order.id,
        order.command,
        order.instrument,
        order.price,
        order.qty,
        order.open_qty,
        order.cost,
        order.status,
        order.closed_reason,
        order.created_ns,
        order.updated_ns,
        order.updated_seq,
        order.version,
        [*order.fills] if order.fills else [],
    )
