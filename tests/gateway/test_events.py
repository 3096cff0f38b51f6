"""StreamEvents: the account's own events, resumed without a hole, and a word where there may be one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.feed.feed_venue import feed_venue, until
from tests.gateway.over_grpc import Caller, caller, ended, failing, limit
from tradsys.client import OrderPool
from tradsys.v1 import orders_pb2 as pb

K = pb.EventKind


@pytest.fixture
def market(venue) -> str:
    return venue.market()


def until_position(stream: Iterator[pb.StreamEventsResponse], seq: int) -> list[pb.OrderEvent]:
    """The events before a position that covers a command."""
    events = []
    for message in stream:
        if message.WhichOneof("message") == "event":
            events.append(message.event)
        elif message.position.seq >= seq:
            return events
    raise AssertionError("the stream ended")


def told(event: pb.OrderEvent) -> tuple[Any, ...]:
    return (
        K.Name(event.kind)[11:].lower(),
        event.order_id,
        event.price,
        event.quantity,
        event.remaining_quantity,
    )


def test_an_account_hears_of_its_own_orders_and_of_nobody_elses(venue, market):
    alice, bob = venue.account("limits"), venue.account("limits")
    with caller(venue, alice) as a, caller(venue, bob) as b:
        start = venue.call("GET", "/time").seq
        live = a.events()
        assert next(live).position.gap is False
        sell = a.place(limit(market, "sell", "3", "10", client_order_id="mine"))
        buy = b.place(limit(market, "buy", "1", "10", time_in_force=pb.TIME_IN_FORCE_IOC))
        smaller = a.replace(order_id=sell.order_id, quantity="2")
        a.cancel(sell.order_id)
        b.place(limit(market, "buy", "1", "9.5"))
        refused = failing(a.place, limit(market, "sell", "1", "9.5", post_only=True))
        seq = venue.call("GET", "/time").seq
        heard = until_position(live, seq)
        missed = until_position(a.events(from_seq=start, epoch=1), seq)
        other = until_position(b.events(from_seq=start, epoch=1), seq)

    refusal = f"a-{seq}"
    assert refused.code == 1011
    events = [told(one) for one in heard if one.order_id == sell.order_id]
    assert events == [
        ("accepted", sell.order_id, "10", "3", "3"),
        ("rested", sell.order_id, "10", "3", "3"),
        ("trade", sell.order_id, "10", "1", "2"),
        ("replaced", sell.order_id, "10", "2", "1"),
        ("closed", sell.order_id, "", "", "1"),
    ]
    trade, closed = heard[2], heard[4]
    assert (trade.liquidity, trade.trade_id > 0, trade.fee) == (pb.LIQUIDITY_MAKER, True, "0")
    assert (closed.status, closed.reason) == (pb.ORDER_STATUS_CANCELED, "requested")
    assert {(one.client_order_id, one.symbol, one.side) for one in heard[:5]} == {
        ("mine", market, pb.SIDE_SELL)
    }
    assert (heard[-1].kind, heard[-1].order_id, heard[-1].code) == (pb.EVENT_KIND_REFUSED, refusal, 1011)
    assert missed == heard
    assert [told(one)[:2] for one in other if one.order_id == buy.order_id] == [
        ("accepted", buy.order_id),
        ("trade", buy.order_id),
    ]
    assert {one.order_id for one in other}.isdisjoint({sell.order_id, refusal})
    assert smaller.remaining_quantity == "1"


def test_what_was_seen_in_another_epoch_may_have_been_withdrawn(venue, market):
    alice = venue.account("limits")
    with caller(venue, alice) as a:
        seq = a.place(limit(market, "buy", "1", "9")).seq
        position = next(a.events(from_seq=0, epoch=99)).position

    assert (position.gap, position.seq >= seq, position.epoch) == (True, True, 1)


def test_an_account_that_does_not_exist_has_no_events(venue):
    with Caller(venue, venue.token("nobody")) as nobody:
        failure = ended(nobody.events())

    assert (failure.status, failure.code) == ("PERMISSION_DENIED", 2003)


def events_until_closed(stream: Iterator[pb.StreamEventsResponse]) -> list[pb.StreamEventsResponse]:
    messages = []
    while not messages or messages[-1].event.kind != pb.EVENT_KIND_CLOSED:
        messages.append(next(stream))
    return messages


def test_a_stream_goes_on_without_a_hole_when_the_gateway_begins_again(tmp_path):
    with feed_venue(tmp_path, ("engine", "history", "gateway")) as venue:
        market, alice = venue.market(), venue.account("limits")
        with OrderPool(f"127.0.0.1:{venue.ports['grpc_port']}", alice.token, channels=1) as pool:
            stream = pool.events(from_seq=0, epoch=1)
            placed = [pool.place(limit(market, "buy", "1", "9")).order_id for _ in range(20)]
            before = [next(stream) for _ in range(10)]
            venue.end(signal.SIGTERM, ("gateway",))
            venue.start()
            pool.cancel(placed[0])
            after = events_until_closed(stream)

    messages = before + after
    assert not any(one.position.gap for one in messages)
    events = [told(one.event)[:2] for one in messages if one.WhichOneof("message") == "event"]
    assert events == [
        *((kind, order_id) for order_id in placed for kind in ("accepted", "rested")),
        ("closed", placed[0]),
    ]


def test_a_new_epoch_is_told_and_orders_of_a_snapshot_are_known(tmp_path):
    with feed_venue(tmp_path, ("engine", "history", "gateway"), snapshot_every=20) as venue:
        market, alice = venue.market(), venue.account("limits")
        with OrderPool(f"127.0.0.1:{venue.ports['grpc_port']}", alice.token, channels=1) as pool:
            old = pool.place(limit(market, "sell", "1", "10", client_order_id="old"))
            for _ in range(30):
                pool.place(limit(market, "buy", "1", "9"))
            until(lambda: list(venue.data.glob("*.tsn")), "no snapshot")
            venue.end(signal.SIGTERM, ("gateway",))
            venue.start()
            stream = pool.events()
            first = next(stream).position
            venue.kill9("engine")
            venue.start()
            while (told_of := next(stream).position).epoch == first.epoch:
                pass
            pool.cancel(old.order_id)
            closed = events_until_closed(stream)[-1].event

    assert (first.epoch, told_of.epoch, told_of.gap) == (1, 2, True)
    assert (closed.order_id, closed.client_order_id, closed.symbol) == (old.order_id, "old", market)
