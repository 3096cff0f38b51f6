"""R1: the same commands give the same events and the same state, whenever the shard was started again.

COUNT_R1 commands (10,000; 1,000,000 in a release), with ten restart points: there the state becomes bytes,
and another shard is made of the bytes and goes on. Beside it runs one shard that never stops, and one that
knows nothing but the bytes of the journal.
"""

from __future__ import annotations

import os
from collections import Counter

import msgspec
import pytest

from tests.adapters.journalled import Recording
from tests.reliability.lives import Life
from tradsys.adapters.history.snapshots import SnapshotStore
from tradsys.cli.stages import Work
from tradsys.compose.replay import replayer
from tradsys.core.messages import ACCEPTED_EVENT, TRADE_EVENT
from tradsys.core.shard import Shard
from tradsys.venue.ports import Entry, Frame

COUNT = int(os.environ.get("COUNT_R1", "10000"))
RESTARTS = 10
SEEDS = (1, 3)
"""Two worlds share the count: the first is full of cancels, in the second trades are the most."""


def from_its_bytes(shard: Shard) -> Shard:
    """What a restart makes of the shard: its chunks, as bytes, and a new shard of them."""
    return Shard.restore(list(shard.snapshot()))


def same_entries(shard: Shard, frame: Frame) -> list[Entry]:
    return [
        Entry(entry.command, shard.apply(entry.command, seq, frame.time_ns))
        for seq, entry in enumerate(frame.entries, frame.first_seq)
    ]


@pytest.mark.timeout(300 + COUNT // 2_000)
@pytest.mark.parametrize("seed", SEEDS)
def test_restarts_change_nothing_and_the_journals_bytes_tell_everything(seed):
    recording = Recording(seed)
    straight, restarted, replayed = recording.shard, Shard("a"), Shard("a")
    replay = replayer(replayed)
    decoder = msgspec.msgpack.Decoder(list[Entry])
    kinds: Counter[int] = Counter()
    open_orders = []
    pieces = RESTARTS * max(1, COUNT // len(SEEDS) // RESTARTS // 500)

    for piece in range(1, pieces + 1):
        for frame in recording.record(500):
            assert same_entries(restarted, frame) == frame.entries
            read = msgspec.structs.replace(frame, entries=decoder.decode(frame.payload))
            assert replay(read) == frame.payload, f"replay differs in the frame of seq {frame.first_seq}"
            kinds.update(event[0] for entry in frame.entries for event in entry.events)
        recording.frames.clear()
        if piece % (pieces // RESTARTS) == 0:
            straight.check()
            open_orders.append(straight.orders.open_count)
            restarted = from_its_bytes(restarted)
            restarted.check()
            assert restarted.state_hash() == straight.state_hash()

    assert replayed.state_hash() == straight.state_hash()
    replayed.check()
    assert len(open_orders) == RESTARTS
    assert sum(open_orders) > RESTARTS, "there was nothing to restore"
    assert min(kinds[ACCEPTED_EVENT], kinds[TRADE_EVENT]) > recording.flow.seq // 20


@pytest.mark.timeout(300 + COUNT // 2_000)
def test_ten_lives_on_one_directory_are_one_life(tmp_path):
    """A deep book through the real log: some lives drain, others are cut off; some leave a snapshot."""
    work = Work(seed=2, count=max(3_000, COUNT // 20))
    commands = [*work.setup, *work.commands]
    straight = Shard("a")
    time_ns = done = 0

    for number in range(1, RESTARTS + 1):
        life = Life(tmp_path)
        assert life.recovered.seq == done
        assert life.recovered.next_epoch == number
        assert life.shard.state_hash() == straight.state_hash()
        life.shard.check()
        until = len(commands) * number // RESTARTS
        while done < until:
            batch = commands[done : min(done + 50, until)]
            time_ns += 1_000_000
            events = [straight.apply(one, seq, time_ns) for seq, one in enumerate(batch, done + 1)]
            assert [entry.events for entry in life.journal(batch, time_ns)] == events
            done += len(batch)
        if number % 3 == 0:
            life.snapshot(time_ns)
        if number % 2:
            life.drain(time_ns)

    assert straight.orders.open_count > 500
    for snapshots in (True, False):
        if not snapshots:
            for path in SnapshotStore(tmp_path).paths():
                path.unlink()
        last = Life(tmp_path)
        assert (last.recovered.seq, last.shard.state_hash()) == (len(commands), straight.state_hash())
