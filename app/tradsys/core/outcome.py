"""What the events of a command say of it, and of the order that it placed."""

from __future__ import annotations

from tradsys.core.messages import (
    CLOSED_EVENT,
    FILLED,
    NEW,
    PARTIALLY_FILLED,
    REFUSED_EVENT,
    RESTED_EVENT,
    TRADE_EVENT,
    Event,
)


def is_refusal(events: list[Event]) -> bool:
    """The shard has said no to the command: that is its only event then."""
    if not events:
        return False
    first: int = events[0][0]
    return first == REFUSED_EVENT


def outcome_of(qty: int, order_id: int, events: list[Event]) -> tuple[int, int, int, int, list[Event]]:
    """(open quantity, cost, status, reason, its trades) of an accepted order after its command's events."""
    if len(events) == 2 and events[1][0] == RESTED_EVENT:
        return qty, 0, NEW, 0, []
    open_qty, cost, status, reason = qty, 0, NEW, 0
    trades = []
    for event in events:
        kind: int = event[0]
        if kind == TRADE_EVENT:
            if event[3] == order_id:
                open_qty = event[9]
            elif event[2] == order_id:
                open_qty = event[8]
            else:
                continue
            cost += event[4] * event[5]
            trades.append(event)
        elif kind == CLOSED_EVENT and event[1] == order_id:
            status, reason = event[2], event[3]
    if not reason and trades:
        status = PARTIALLY_FILLED if open_qty else FILLED
    return open_qty, cost, status, reason, trades
