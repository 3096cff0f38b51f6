"""Snapshots: what is loaded is what was written, or it is not loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.adapters.journalled import Recording
from tradsys.adapters.history import snapshots
from tradsys.adapters.history.snapshots import (
    KEPT,
    Damaged,
    Header,
    Loaded,
    SnapshotFailed,
    SnapshotStore,
    load,
    read_header,
)
from tradsys.core.shard import Shard

CHAIN = bytes(range(16))


@pytest.fixture(scope="module")
def recording():
    recording = Recording(9)
    recording.record(1_500)
    return recording


def write(directory: Path, recording: Recording, seq: int = 0) -> Path:
    store = SnapshotStore(directory)
    path, _ = store.write(recording.shard, 3, seq or recording.flow.seq, 17, CHAIN)
    return store.accept(path, store.verify(path))


def test_a_snapshot_restores_the_state_and_its_place_in_the_journal(tmp_path, recording):
    path = write(tmp_path, recording)

    found = load(path, Shard.restore)

    assert isinstance(found, Loaded)
    assert found.header == Header(1, "a", 3, recording.flow.seq, 17, CHAIN, found.header.release)
    assert found.state_hash == found.shard.state_hash() == recording.shard.state_hash()
    assert path.name == f"snapshot-{recording.flow.seq:020d}.tsn"
    assert read_header(path) == found.header


def test_a_restored_state_goes_on_as_if_nothing_had_happened(tmp_path):
    recording = Recording(11)
    recording.record(1_000)
    found = load(write(tmp_path, recording), Shard.restore)
    assert isinstance(found, Loaded)

    for frame in recording.record(1_000):
        for seq, entry in enumerate(frame.entries, frame.first_seq):
            assert found.shard.apply(entry.command, seq, frame.time_ns) == entry.events


def test_until_it_is_verified_it_is_no_snapshot(tmp_path, recording):
    store = SnapshotStore(tmp_path)

    store.write(recording.shard, 3, 500, 17, CHAIN)

    assert store.paths() == []
    assert store.newest(Shard.restore) == (None, [])


def test_a_snapshot_that_restores_another_state_is_not_accepted(tmp_path, recording):
    store = SnapshotStore(tmp_path)
    path, _ = store.write(recording.shard, 3, 500, 17, CHAIN)
    rewrite_end(path, state_hash="0" * 32)

    with pytest.raises(SnapshotFailed, match=r"snapshot-0+500.tsn.tmp: .* was written as 0{32}"):
        store.accept(path, store.verify(path))

    assert list(tmp_path.iterdir()) == []


def rewrite_end(path: Path, state_hash: str) -> None:
    """The same file with another hash in its end record, and links that are right."""
    with path.open("rb") as file:
        records = [(kind, payload) for _, kind, payload in snapshots._records(file)]
    end = msgspec.msgpack.decode(records[-1][1], type=snapshots.End)
    link = snapshots._FIRST_LINK
    with path.open("wb") as file:
        for kind, payload in records[:-1]:
            link = snapshots._write_record(file, link, kind, payload)
        payload = msgspec.msgpack.encode(snapshots.End(end.chunks, state_hash))
        snapshots._write_record(file, link, snapshots.END, payload)


def test_the_newest_whole_one_is_taken(tmp_path, recording):
    for seq in (100, 200, 300):
        write(tmp_path, recording, seq)
    newest = tmp_path / snapshots.name_of(300)
    newest.write_bytes(newest.read_bytes()[:-1])

    found, damaged = SnapshotStore(tmp_path).newest(Shard.restore)

    assert found is not None and found.header.seq == 200
    assert damaged == [Damaged(newest, damaged[0].problem)]
    assert "the file ends within a record" in damaged[0].problem


def test_one_of_another_seq_than_its_name_says_is_not_taken(tmp_path, recording):
    path = write(tmp_path, recording, 100)
    renamed = path.rename(tmp_path / snapshots.name_of(101))

    assert load(renamed, Shard.restore) == Damaged(renamed, "the file is of sequence number 100")


def test_one_of_a_later_format_is_not_taken(tmp_path, recording, monkeypatch):
    monkeypatch.setattr(snapshots, "FORMAT", 2)
    store = SnapshotStore(tmp_path)
    path, _ = store.write(recording.shard, 3, 100, 17, CHAIN)
    monkeypatch.setattr(snapshots, "FORMAT", 1)

    assert load(path, Shard.restore) == Damaged(path, "at byte 0: format 2; this release reads 1")


def test_two_are_kept_and_what_a_crash_left_is_removed(tmp_path, recording):
    for seq in (100, 200, 300):
        write(tmp_path, recording, seq)
    store = SnapshotStore(tmp_path)
    store.write(recording.shard, 3, 400, 17, CHAIN)

    gone = {path.name for path in store.prune()}

    assert gone == {snapshots.name_of(100), snapshots.name_of(400) + ".tmp"}
    assert [path.name for path in store.paths()] == [snapshots.name_of(300), snapshots.name_of(200)]
    assert len(store.paths()) == KEPT


def test_where_it_can_not_be_written_nothing_is_left_of_it(tmp_path, recording, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(SnapshotFailed, match="No space left"):
        SnapshotStore(tmp_path).write(recording.shard, 3, 100, 17, CHAIN)

    assert list(tmp_path.iterdir()) == []


def test_a_large_state_is_written_in_pieces(tmp_path, recording, monkeypatch):
    monkeypatch.setattr(snapshots, "SYNC_BYTES", 1_000)
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    path, _ = SnapshotStore(tmp_path).write(recording.shard, 3, 100, 17, CHAIN)

    assert len(synced) > 1
    assert isinstance(load(path, Shard.restore), Loaded)


def test_the_verifying_process_says_what_is_wrong(tmp_path, recording):
    path = write(tmp_path, recording, 100)
    path.write_bytes(path.read_bytes()[:200])

    run = subprocess.run(
        [sys.executable, "-m", "tradsys.adapters.history.verify", str(path)], capture_output=True, text=True
    )

    assert run.returncode == 1
    assert run.stdout == f"{path}: at byte 0: the file ends within a record\n" or "at byte" in run.stdout
