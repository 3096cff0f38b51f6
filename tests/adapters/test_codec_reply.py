"""The reply that is written without a struct is the one that the struct describes."""

from __future__ import annotations

from tests.core.flow import Flow
from tradsys.codec.json_order import reply_bytes_of
from tradsys.codec.json_v1 import OrderReply, encode, reply_of
from tradsys.core.messages import REFUSED_EVENT, PlaceOrder
from tradsys.core.shard import Shard
from tradsys.venue.outcome import Done


def test_both_ways_of_writing_an_order_give_the_same_bytes():
    shapes = set()
    for seed in range(4):
        shapes |= compared(seed, 3_000)
    assert {status for status, *_ in shapes} >= {"new", "partially_filled", "filled", "canceled", "expired"}
    assert len(shapes) > 20


def compared(seed: int, commands: int) -> set[tuple[object, ...]]:
    """Compare every reply of a flow; the shapes of orders that were met."""
    flow, shard = Flow(seed), Shard("a")
    shapes = set()
    for _ in range(commands):
        command = flow.next(shard.work_due, shard.next_expiry)
        events = shard.apply(command, flow.seq, flow.time_ns)
        flow.saw(events)
        market = shard.markets.get(getattr(command, "symbol", ""))
        if not isinstance(command, PlaceOrder) or market is None or command.account not in shard.accounts:
            continue
        done = Done(command, flow.seq, flow.time_ns, list(events), market.instrument)
        wanted = reply_of(done, "a")

        got = reply_bytes_of(done, "a")

        if events[0][0] == REFUSED_EVENT:
            assert got is None
            continue
        assert isinstance(wanted, OrderReply)
        assert got == encode(wanted)
        shapes.add((wanted.status, wanted.type, bool(wanted.client_order_id), bool(wanted.stop_price)))
    return shapes
