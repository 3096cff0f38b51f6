"""The reply that is written without a struct is the one that the struct describes."""

from __future__ import annotations

from tests.core.flow import Flow
from tradsys.codec.applied import OrderState
from tradsys.codec.json_order import reply_bytes_of
from tradsys.codec.json_v1 import OrderReply, encode, reply_of, reply_of_order
from tradsys.core.messages import REFUSED_EVENT, CancelOrder, PlaceOrder, ReplaceOrder
from tradsys.core.shard import Shard
from tradsys.venue.outcome import Done


def test_both_ways_of_writing_an_order_give_the_same_bytes():
    shapes = set()
    for seed in range(4):
        shapes |= compared(seed, 3_000)
    placed = {status for name, status, *_ in shapes if name == "PlaceOrder"}
    assert placed >= {"new", "partially_filled", "filled", "canceled", "expired"}
    assert {(name, traded) for name, _, _, traded, *_ in shapes} >= {
        ("CancelOrder", False), ("CancelOrder", True), ("ReplaceOrder", False), ("ReplaceOrder", True)
    }  # fmt: skip
    assert len(shapes) > 40


def compared(seed: int, commands: int) -> set[tuple[object, ...]]:
    """Compare every reply of a flow; the shapes of orders that were met."""
    flow, shard = Flow(seed), Shard("a")
    shapes = set()
    for _ in range(commands):
        command = flow.next(shard.work_due, shard.next_expiry)
        changed = shard.order(command.order_id) if isinstance(command, CancelOrder | ReplaceOrder) else None
        events = shard.apply(command, flow.seq, flow.time_ns)
        flow.saw(events)
        wanted: object
        if changed is not None:
            state = OrderState(changed, changed.fills)
            done = Done(command, flow.seq, flow.time_ns, list(events), None, False, state)
            wanted = reply_of_order(state, "a")
        elif isinstance(command, PlaceOrder) and command.account in shard.accounts:
            market = shard.markets.get(command.symbol)
            if market is None:
                continue
            done = Done(command, flow.seq, flow.time_ns, list(events), market.instrument)
            wanted = reply_of(done, "a")
        else:
            continue

        got = reply_bytes_of(done, "a")

        if events and events[0][0] == REFUSED_EVENT:
            assert got is None
            continue
        assert isinstance(wanted, OrderReply)
        assert got == encode(wanted)
        shapes.add(
            (
                type(command).__name__,
                wanted.status,
                wanted.type,
                bool(wanted.fills),
                bool(wanted.client_order_id),
                bool(wanted.stop_price),
            )
        )
    return shapes
