"""What the shard remembers, for how long, and that its state is a function of its commands alone."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count, islice
from typing import Any

import msgspec
import pytest

from tests.core.contents import contents_of
from tests.core.desk import SECOND, Desk, a_desk, accepted, closed, refused, rested, traded
from tests.core.test_flow import commands_and_events
from tradsys.core import snapshot
from tradsys.core.messages import (
    AMOUNT_SCALE,
    BUY,
    BY_REQUEST,
    CANCELED,
    GTC,
    IOC,
    LIMIT,
    LIMITS,
    NO_SUCH_ORDER,
    NOT_CANCELABLE,
    SELL,
    DefineAccount,
    DefineInstrument,
    Instrument,
    Limits,
    PlaceOrder,
    SetLimits,
)
from tradsys.core.records import Record
from tradsys.core.shard import Shard

# --- orders in memory ---------------------------------------------------------------------------------


def test_closed_orders_stay_until_enough_newer_ones_have_closed() -> None:
    desk = a_desk("ann sell 1 @ 1000", "ann sell 1 @ 1000", "ann sell 1 @ 1000")
    desk.rule(closed_orders_max=2)

    for order_id in (2, 1, 3):
        desk.cancel(order_id)

    assert desk.cancel(2) == [refused(NO_SUCH_ORDER)]
    assert desk.cancel(1) == [] and desk.cancel(3) == []


def test_a_trade_closes_its_maker_before_its_taker() -> None:
    desk = a_desk("ann sell 1 @ 1000")
    desk.rule(closed_orders_max=1)
    desk.buy(1, at=1000)

    assert desk.shard.order(1) is None
    assert desk.cancel(2, by="cat") == [refused(NOT_CANCELABLE)]


def test_at_most_four_orders_are_forgotten_at_once() -> None:
    desk = a_desk(*["ann sell 1 @ 1000"] * 9)
    desk.buy(9, at=1000)
    desk.rule(closed_orders_max=0)

    forgotten = [sum(desk.shard.order(order_id) is None for order_id in range(1, 11))]
    for _ in range(3):
        desk.cancel(99)
        forgotten.append(sum(desk.shard.order(order_id) is None for order_id in range(1, 11)))

    assert forgotten == [4, 8, 10, 10]


def test_an_order_keeps_its_latest_fills() -> None:
    desk = a_desk("ann sell 9 @ 1000")
    desk.rule(order_fills_max=2)
    for _ in range(3):
        desk.buy(1, at=1000)

    fills = desk.order(1).fills
    assert fills is not None
    assert [fill[-1][1] for fill in fills] == [2, 3]


def test_a_recycled_order_carries_nothing_over() -> None:
    with_pool, without = Desk(order_pool_size=10), Desk()
    for desk in (with_pool, without):
        desk.rule(closed_orders_max=0)
        desk.sell(10, at=1000, by="ann", display_qty=2)
        desk.buy(10, at=1000)
        desk.sell(3, at=1001, by="ann")
        desk.replace(3, qty=2)

    assert (with_pool.shard.orders.pool_hits, without.shard.orders.pool_hits) == (1, 0)
    assert with_pool.shard.state_hash() == without.shard.state_hash()


# --- idempotency records ------------------------------------------------------------------------------


def test_a_record_holds_what_the_first_reply_was_made_of() -> None:
    desk = a_desk("ann sell 1 @ 1000")

    events = desk.buy(3, at=1000, client_order_id="mine")
    desk.sell(2, at=1000, by="ann")

    record = desk.shard.original("cat", "mine")
    assert record is not None
    assert record.command.client_order_id == "mine"
    assert (record.seq, record.events) == (2, events)
    assert events == [accepted(2), traded(1, 1, 2, 1000, 1, left=(0, 2)), rested(2, BUY, 1000, 2)]


def test_a_key_belongs_to_its_account() -> None:
    desk = a_desk()
    desk.buy(1, at=1000, by="ann", client_order_id="mine")

    assert desk.shard.original("bob", "mine") is None


def test_a_refused_order_consumes_its_key() -> None:
    desk = a_desk()
    events = desk.buy(0, at=1000, client_order_id="mine")

    record = desk.shard.original("cat", "mine")
    assert record is not None and record.events == events == [refused(3002, 1, 0)]


def test_a_record_stays_while_its_order_is_open_and_a_window_longer() -> None:
    desk = a_desk()
    desk.rule(idempotency_window_ns=SECOND)
    desk.buy(1, at=1000, client_order_id="mine")

    desk.time_ns += 100 * SECOND
    desk.cancel(99)
    while_open = desk.shard.original("cat", "mine")
    desk.cancel(1, by="cat")
    desk.time_ns += SECOND - 2_000
    desk.cancel(99)
    in_the_window = desk.shard.original("cat", "mine")
    desk.cancel(99)

    assert while_open is not None
    assert in_the_window is not None
    assert desk.shard.original("cat", "mine") is None


def test_too_many_records_let_the_longest_closed_go_early() -> None:
    desk = a_desk()
    desk.rule(idempotency_keys_max=2)
    desk.buy(1, at=900, client_order_id="open")
    desk.buy(1, at=900, client_order_id="first", time_in_force=IOC)
    desk.buy(1, at=900, client_order_id="second", time_in_force=IOC)

    kept = [key for key in ("open", "first", "second") if desk.shard.original("cat", key)]
    assert kept == ["open", "second"]
    assert desk.shard.keys.evicted_early == 1


def test_an_order_without_a_key_leaves_no_record() -> None:
    desk = a_desk("cat buy 1 @ 1000")

    assert desk.shard.original("cat", "") is None


# --- an order that is only tried ----------------------------------------------------------------------


def test_trying_an_order_changes_nothing() -> None:
    desk = a_desk()
    desk.limit("ann", position_max=5)
    before = desk.shard.state_hash()

    good = desk.shard.judge(PlaceOrder("ann", "BTC-USD", BUY, 1, 1, 5, 1000), desk.time_ns)
    bad = desk.shard.judge(PlaceOrder("ann", "BTC-USD", BUY, 1, 1, 6, 1000), desk.time_ns)

    assert good == (None, 1000)
    assert bad == (refused(3001, 5, 6), 1000)
    assert desk.shard.state_hash() == before


# --- snapshots and hashes -----------------------------------------------------------------------------


def a_busy_desk() -> Desk:
    """Something of everything that a snapshot has to hold."""
    desk = a_desk("ann sell 5 @ 1000", "bob sell 5 @ 1001", "bob buy 5 @ 990")
    desk.cash_account("eve", USD=100_000, BTC=50)
    desk.apply(SetLimits("bob", Limits(position_max=100)))
    desk.buy(7, at=1001, by="eve", client_order_id="taken")
    desk.sell(9, at=1005, by="eve", display_qty=2, client_order_id="resting")
    desk.buy_stop_limit(3, stop=1010, at=1012, by="eve")
    desk.sell_stop(3, stop=900, by="ann", time_in_force=4, expire_at=desk.time_ns + SECOND)
    desk.replace(2, by="bob", qty=4)
    desk.cancel(3, by="bob")
    return desk


def restored(shard: Shard) -> Shard:
    return Shard.restore(list(shard.snapshot()))


def test_a_restored_shard_is_the_same() -> None:
    shard = a_busy_desk().shard

    twin = restored(shard)

    twin.check()
    assert twin.state_hash() == shard.state_hash()
    assert list(twin.snapshot()) == list(shard.snapshot())


def test_an_order_whose_fills_and_fees_outgrow_64_bits_is_restored() -> None:
    shard, seq = Shard("a"), count(1)
    grid = Instrument("BTC-USD", "BTC", "USD", 1, AMOUNT_SCALE, qty_max=10**15, taker_fee_ppm=100_000)
    for command in (DefineInstrument(grid), DefineAccount("ann", LIMITS), DefineAccount("bob", LIMITS)):
        shard.apply(command, next(seq), 1)
    # Each of them is within what a venue takes; the sale gets better prices than its limit.
    for _ in range(50):
        shard.apply(PlaceOrder("ann", "BTC-USD", BUY, LIMIT, GTC, 2 * 10**13, 230_000), next(seq), 1)
    sale = next(seq)
    shard.apply(PlaceOrder("bob", "BTC-USD", SELL, LIMIT, GTC, 10**15, 1), sale, 1)

    restored = Shard.restore(list(shard.snapshot()))

    restored.check()
    order = restored.order(sale)
    assert order is not None
    assert (order.cost, order.fees) == (230_000 * 10**15, 23_000 * 10**15)
    assert order.fees > 2**64
    assert contents_of(restored) == contents_of(shard)
    assert restored.state_hash() == shard.state_hash()


def test_a_restored_shard_goes_on_the_same() -> None:
    desk, twin_desk = a_busy_desk(), a_busy_desk()
    twin_desk.shard = restored(twin_desk.shard)

    for each in (desk, twin_desk):
        each.buy(12, at=1020, by="eve")
        each.time_ns += SECOND
        each.sell(20, at=1, by="ann")

    assert twin_desk.shard.state_hash() == desk.shard.state_hash()
    assert twin_desk.order(5).fills == desk.order(5).fills


def test_a_snapshot_of_another_format_is_refused() -> None:
    header, *others = a_busy_desk().shard.snapshot()
    newer = msgspec.msgpack.decode(header)
    newer[1] = 999

    with pytest.raises(msgspec.ValidationError, match="format 999; this release reads 1 to 3"):
        Shard.restore([msgspec.msgpack.encode(newer), *others])


def test_what_does_not_begin_with_a_header_is_no_state() -> None:
    _, *others = a_busy_desk().shard.snapshot()

    with pytest.raises(msgspec.ValidationError, match="does not start with its header"):
        Shard.restore(others)


def test_a_record_is_the_same_before_and_after_it_went_into_a_snapshot() -> None:
    shard = a_busy_desk().shard
    before = [shard.original("eve", name) for name in ("taken", "resting")]

    twin = restored(shard)

    assert None not in before
    assert [shard.original("eve", name) for name in ("taken", "resting")] == before
    assert [twin.original("eve", name) for name in ("taken", "resting")] == before


def test_records_as_snapshots_of_format_2_had_them_are_read() -> None:
    shard = a_busy_desk().shard
    now = msgspec.msgpack.Decoder(list[Any])
    before = []
    for chunk in shard.snapshot():
        name, *rest = now.decode(chunk)
        if name == "shard":
            rest[0] = 2
        if name == "keys":
            records = {key: record for key, record in shard.keys.kept()}
            rest = [[[at, key, of_format_2(records[key])] for at, key, _ in rest[0]]]
        before.append(msgspec.msgpack.encode([name, *rest]))

    twin = Shard.restore(before)

    assert sum(chunk.startswith(b"\x92\xa4keys") for chunk in before) >= 1
    assert contents_of(twin) == contents_of(shard)
    assert twin.original("eve", "taken") == shard.original("eve", "taken") is not None
    assert twin.state_hash() == shard.state_hash()
    twin.check()


def of_format_2(record: Record) -> bytes:
    return msgspec.msgpack.encode(
        (record.command, record.seq, record.time_ns, record.events, record.instrument.version)
    )


def test_bytes_that_are_too_short_for_a_record_are_none() -> None:
    shard = restored(a_busy_desk().shard)
    shard.keys.loaded["eve/taken"] = b"\x92"

    with pytest.raises(msgspec.DecodeError, match="a record of 1 bytes"):
        shard.original("eve", "taken")


def test_the_latest_entry_is_what_the_journal_has_of_an_order_with_a_key() -> None:
    desk = Desk()

    events = desk.buy(1, at=900, client_order_id="mine")
    entry = desk.shard.entry
    command = desk.shard.original("cat", "mine").command
    desk.buy(1, at=900)

    assert entry == msgspec.msgpack.encode((command, events))
    assert desk.shard.entry == b""


def test_where_the_keys_are_cut_into_chunks_does_not_change_the_hash(monkeypatch) -> None:
    monkeypatch.setattr(snapshot, "CHUNK_MAX", 3)
    desk, straight = Desk(), Desk()
    for each in (desk, straight):
        each.rule(idempotency_keys_max=20)
    for number in range(40):
        for each in (desk, straight):
            each.buy(1, at=900, client_order_id=f"n{number}", time_in_force=IOC)
        if number % 4 == 0:
            list(desk.shard.snapshot())

    chunks = list(desk.shard.snapshot())

    assert len(desk.shard.keys.pages) == 7 and not straight.shard.keys.pages
    assert desk.shard.state_hash() == straight.shard.state_hash() == Shard.restore(chunks).state_hash()
    assert contents_of(Shard.restore(chunks)) == contents_of(straight.shard)
    desk.shard.check()


def test_the_check_sees_a_record_that_is_of_another_order() -> None:
    shard = restored(a_busy_desk().shard)
    keys = shard.keys
    keys.loaded["eve/taken"] = keys.packed("eve/resting")

    with pytest.raises(AssertionError):
        shard.check()


def test_any_difference_in_the_state_is_one_in_the_hash() -> None:
    hashes = set()
    for change in (
        lambda desk: None,
        lambda desk: desk.cancel(6, by="eve"),
        lambda desk: desk.buy(1, at=900, by="bob"),
        lambda desk: desk.rule(step_orders_max=7),
        lambda desk: desk.limit("ann", position_max=1),
        lambda desk: desk.cash_account("dan"),
        lambda desk: desk.replace(6, by="eve", qty=8),
    ):
        desk = a_busy_desk()
        change(desk)
        hashes.add(desk.shard.state_hash())

    assert len(hashes) == 7


RUN_A_FLOW = """
from tests.core.flow import Flow
from tradsys.core.records import Record
from tradsys.core.shard import Shard
flow, shard = Flow(11), Shard("main")
for _ in range(1500):
    command = flow.next(shard.work_due, shard.next_expiry)
    flow.saw(shard.apply(command, flow.seq, flow.time_ns))
print(shard.state_hash())
"""


def test_the_state_hash_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    hashes = [
        subprocess.run(
            [sys.executable, "-c", RUN_A_FLOW],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "4242")
    ]

    assert hashes[0] == hashes[1] != ""


def test_replaying_commands_gives_the_same_events_and_state() -> None:
    commands = [command for command, _ in islice(commands_and_events(3), 800)]
    first, second = Shard("main"), Shard("main")

    events = [first.apply(command, seq, seq) for seq, command in enumerate(commands)]

    assert [second.apply(command, seq, seq) for seq, command in enumerate(commands)] == events
    assert second.state_hash() == first.state_hash()


def test_the_check_sees_a_wrong_structure() -> None:
    desk = a_busy_desk()
    desk.shard.markets["BTC-USD"].book.asks.ranks.append(5)

    with pytest.raises(AssertionError):
        desk.shard.check()


def test_a_canceled_order_stays_canceled_after_a_restore() -> None:
    desk = a_busy_desk()
    closing = desk.cancel(6, by="eve")
    desk.shard = restored(desk.shard)

    assert closing == [closed(6, CANCELED, BY_REQUEST, 9)]
    assert desk.cancel(6, by="eve") == []
