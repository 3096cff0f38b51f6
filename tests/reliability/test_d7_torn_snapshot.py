"""D7: a snapshot that was torn, cut or flipped is found out, and the start takes the one before it.

COUNT_D7 damages (30; 100 on demand), each at its own place; the seed is in the test's name.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.adapters.following import Engine, HistoryThread
from tradsys.adapters.history.snapshots import Damaged, SnapshotStore
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.recovery import recover
from tradsys.codec.frame import encode_payload
from tradsys.core.shard import Shard
from tradsys.venue.ports import Entry, Frame

COUNT = int(os.environ.get("COUNT_D7", "30"))
SECTOR = 512


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A journal with two snapshots; its engine is gone."""
    directory = tmp_path_factory.mktemp("d7")
    engine = Engine(directory, seed=4)
    for _ in range(2):
        engine.trade(1_000)
        with HistoryThread(directory, engine.page) as thread:
            thread.wait_for(engine.seq)
            thread.snapshot()
    engine.trade(200)
    engine.log.sync()
    directory.joinpath("state").write_text(engine.recording.shard.state_hash())
    return directory


def torn(data: bytes, random: Random) -> tuple[str, bytes]:
    """One way in which a crash, a disk or a person can spoil a file."""
    at = random.randrange(len(data))
    kind = random.choice(("flip", "cut", "zeroed sector", "zeroed tail", "stale sector", "longer"))
    spoiled = bytearray(data)
    if kind == "flip":
        spoiled[at] ^= 1 << random.randrange(8)
    elif kind == "cut":
        del spoiled[at:]
    elif kind == "zeroed sector":
        start = at // SECTOR * SECTOR
        spoiled[start : start + SECTOR] = bytes(len(spoiled[start : start + SECTOR]))
    elif kind == "zeroed tail":
        spoiled[at:] = bytes(len(data) - at)
    elif kind == "stale sector":
        start = at // SECTOR * SECTOR
        other = random.randrange(len(data) // SECTOR) * SECTOR
        spoiled[start : start + SECTOR] = data[other : other + len(spoiled[start : start + SECTOR])]
    else:
        spoiled += random.randbytes(random.randint(1, 40))
    return f"{kind} at {at} of {len(data)}", bytes(spoiled)


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_spoiled_snapshot_is_found_out_and_the_one_before_it_recovers_the_same_state(directory, seed):
    store = SnapshotStore(directory)
    newest, before = store.paths()
    whole = newest.read_bytes()
    random, spoiled = Random(seed), whole
    while spoiled == whole:
        what, spoiled = torn(whole, random)
    newest.write_bytes(spoiled)
    try:
        found, damaged = store.newest(Shard.restore)
        assert found is not None, what
        assert [type(one) for one in damaged] == [Damaged], what
        assert (damaged[0].path, found.path) == (newest, before), what
        assert "at byte" in damaged[0].problem, what
        assert (
            recovered_from(directory, found.shard, found.header.seq, found.header.chain)
            == (directory / "state").read_text()
        ), what
    finally:
        newest.write_bytes(whole)


def recovered_from(directory: Path, shard: Shard, seq: int, chain: bytes) -> str:
    """The state hash after the journal's replay from a snapshot."""

    def apply(frame: Frame) -> bytes:
        return encode_payload(
            [
                Entry(entry.command, shard.apply(entry.command, number, frame.time_ns))
                for number, entry in enumerate(frame.entries, frame.first_seq)
            ]
        )

    recover(str(directory), OsFiles(), apply, after_seq=seq, chain=chain, published_seq=None)
    return shard.state_hash()


def test_with_both_snapshots_spoiled_the_whole_journal_is_replayed(directory, tmp_path):
    store = SnapshotStore(directory)
    whole = {path: path.read_bytes() for path in store.paths()}
    try:
        for path, data in whole.items():
            path.write_bytes(data[: len(data) // 2])
        found, damaged = store.newest(Shard.restore)
        assert found is None and len(damaged) == 2
        assert recovered_from(directory, Shard("a"), 0, None) == (directory / "state").read_text()
    finally:
        for path, data in whole.items():
            path.write_bytes(data)
