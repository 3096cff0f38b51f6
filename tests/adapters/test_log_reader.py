"""Reading the log: from a sequence number on, behind a writer, and across the segments."""

from __future__ import annotations

import subprocess
import sys
import time
from random import Random

import pytest

from tests.reliability.disk import Content, Machine, RecordingDisk
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import BrokenLog, LogReader
from tradsys.adapters.log.segments import segment_path
from tradsys.adapters.page.page import Page, PageError
from tradsys.codec.frame import (
    CLOSED_FRAME,
    COMMANDS_FRAME,
    EPOCH_FRAME,
    SEGMENT_FRAME,
    encode_frame,
    encode_payload,
    encode_segment_payload,
)
from tradsys.core.messages import CancelOrder
from tradsys.venue.ports import Entry


@pytest.fixture
def machine(tmp_path) -> Machine:
    machine = Machine(RecordingDisk(), Page.create(str(tmp_path / "page"), boot=1), durable=False)
    machine.start()
    return machine


def fill(machine: Machine, batches: int, seed: int = 1) -> list[tuple[int, int, bytes]]:
    """Append; returns (first seq, last seq, chain) of each batch."""
    random = Random(seed)
    places = []
    for _ in range(batches):
        if not machine.writer.space():
            machine.prepare()
        first = machine.writer.seq + 1
        machine.append(random, random.randint(1, 4))
        places.append((first, machine.writer.seq, machine.writer.chain))
    return places


def reader_of(machine: Machine, after_seq: int = 0, chain: bytes | None = None) -> LogReader:
    return LogReader(machine.DIRECTORY, machine.disk, after_seq, chain)


def test_a_reader_begins_anywhere_with_the_batch_that_holds_the_next_command(machine):
    places = fill(machine, 120)
    assert machine.page.segment > 2

    for after_seq in range(0, machine.told + 1):
        frames = list(reader_of(machine, after_seq).frames(machine.told))

        assert [frame.first_seq for frame in frames] == [
            first for first, last, _ in places if last > after_seq
        ]


def test_each_frame_carries_the_bytes_that_a_replay_must_give(machine):
    fill(machine, 20)

    for frame in reader_of(machine).frames(machine.told):
        assert frame.payload == encode_payload(frame.entries)


def test_a_reader_that_has_caught_up_goes_on_where_it_was(machine):
    reader = reader_of(machine)
    assert list(reader.frames(machine.page.published_seq)) == []
    seen = []
    for seed in range(60):
        fill(machine, 3, seed)
        seen += [entry for frame in reader.frames(machine.page.published_seq) for entry in frame.entries]
        assert list(reader.frames(machine.page.published_seq)) == []

    assert seen == machine.written
    assert (reader.segment, reader.offset) == (machine.writer.segment, machine.writer.offset)
    assert reader.chain == machine.writer.chain


def test_a_reader_may_be_made_before_there_is_a_log(tmp_path):
    machine = Machine(RecordingDisk(), Page.create(str(tmp_path / "page"), boot=1), durable=False)
    reader = reader_of(machine)
    assert list(reader.frames(0)) == []

    machine.start()
    places = fill(machine, 5)

    assert [frame.first_seq for frame in reader.frames(machine.told)] == [place[0] for place in places]


def test_a_reader_lives_through_a_kill_and_a_new_epoch(machine):
    reader = reader_of(machine)
    fill(machine, 5)
    assert {frame.epoch for frame in reader.frames(machine.told)} == {1}
    machine.disk.fail("write", written=60)
    with pytest.raises(Exception, match="60 of"):
        fill(machine, 1)

    after = machine.after_kill()
    after.start()
    fill(after, 5, seed=2)

    assert {frame.epoch for frame in reader.frames(after.told)} == {2}
    assert reader.chain == after.writer.chain


def test_a_reader_reads_no_further_than_it_is_told(machine):
    places = fill(machine, 10)
    reader = reader_of(machine)

    frames = list(reader.frames(places[4][1]))

    assert [frame.first_seq for frame in frames] == [first for first, _, _ in places[:5]]
    assert reader.seq == places[4][1]


def test_a_batch_larger_than_what_is_read_at_once_is_read(machine, tmp_path):
    machine = Machine(
        RecordingDisk(), Page.create(str(tmp_path / "page-2"), 1), durable=False, segment_bytes=4 << 20
    )
    machine.start()
    machine.append(Random(1), count=1000, padding=3000)
    machine.append(Random(2))

    assert machine.read() == machine.written


def test_what_is_not_there_though_it_was_published_is_named_exactly(machine):
    places = fill(machine, 10)
    content = machine.disk.names[segment_path(machine.DIRECTORY, 1)]
    reader = reader_of(machine)
    list(reader.frames(places[6][1]))
    offset = reader.offset
    content.seen[offset + 45] ^= 1

    with pytest.raises(BrokenLog) as broken:
        list(reader_of(machine).frames(machine.told))

    assert (broken.value.seq, broken.value.segment, broken.value.offset) == (places[7][0], 1, offset)
    assert str(broken.value) == (
        f"journal broken at seq {places[7][0]}, 00000001.log offset {offset}: "
        "no frame verifies here, but the engine has published it"
    )


def test_the_snapshots_chain_must_be_that_of_the_log(machine):
    places = fill(machine, 50)
    _, seq, chain = places[20]

    frames = list(reader_of(machine, seq, chain).frames(machine.told))
    assert [frame.first_seq for frame in frames] == [first for first, _, _ in places[21:]]

    with pytest.raises(BrokenLog, match=f"seq {seq}, .*another one at this point"):
        list(reader_of(machine, seq, bytes(16)).frames(machine.told))
    with pytest.raises(BrokenLog, match="another one at this point"):
        list(reader_of(machine, places[40][0], chain).frames(machine.told))


def test_old_segments_may_be_gone_as_long_as_the_snapshot_is_newer(machine):
    places = fill(machine, 200)
    reader = reader_of(machine)
    while reader.segment < 3:
        next(iter(reader.frames(reader.seq + 1)))
    first_of_segment_3 = reader.seq
    for index in (1, 2):
        del machine.disk.names[segment_path(machine.DIRECTORY, index)]
    _, seq, chain = next(place for place in places if place[1] >= first_of_segment_3)

    assert [
        entry for frame in reader_of(machine, seq, chain).frames(machine.told) for entry in frame.entries
    ] == (machine.written[seq:])
    with pytest.raises(BrokenLog, match=r"seq 1, 00000003.log offset 16: the oldest segment begins with seq"):
        list(reader_of(machine).frames(machine.told))


def test_a_medium_that_can_not_be_read_is_named_with_its_place(machine):
    fill(machine, 3)

    class Bad(RecordingDisk):
        def read(self, handle, length, offset, /):
            raise OSError(5, "Input/output error")

    reader = LogReader(machine.DIRECTORY, Bad(machine.disk.names))

    with pytest.raises(BrokenLog, match="can't be read"):
        list(reader.frames(machine.told))


ONE = encode_payload([Entry(CancelOrder("demo", 1), [])])


@pytest.mark.parametrize(
    ("frame", "detail"),
    [
        ({"first_seq": 5}, "commands frame begins with seq 5"),
        ({"first_seq": 3}, "commands frame begins with seq 3"),
        ({"epoch": 2}, "commands frame of epoch 2 in epoch 1"),
        ({"epoch": 0}, "commands frame of epoch 0 in epoch 1"),
        ({"kind": EPOCH_FRAME, "count": 0, "epoch": 1}, "epoch frame of epoch 1 in epoch 1"),
        ({"kind": CLOSED_FRAME}, "closed frame with 1 commands"),
        ({"count": 0}, "commands frame with 0 commands"),
        ({"kind": SEGMENT_FRAME, "count": 0}, "segment frame where none can stand"),
        ({"count": 2}, "1 commands, 2 announced"),
        ({"payload": b"\x91\xc0"}, "payload: "),
    ],
)
def test_a_frame_that_verifies_and_yet_can_not_be_the_next_is_refused(machine, frame, detail):
    machine.append(Random(1), count=3)
    fields = {"kind": COMMANDS_FRAME, "epoch": 1, "first_seq": 4, "count": 1, "payload": ONE} | frame
    data = encode_frame(machine.writer.chain, durable=False, time_ns=1, **fields)
    content = machine.disk.names[segment_path(machine.DIRECTORY, 1)]
    content.write(data, machine.writer.offset)

    with pytest.raises(BrokenLog, match=detail) as broken:
        list(reader_of(machine).frames(4))

    assert broken.value.seq == 4


def test_a_segment_under_another_ones_name_is_refused(machine):
    fill(machine, 1)
    seq, chain = machine.told, machine.writer.chain
    content = Content(bytes(machine.segment_bytes))
    content.write(chain, 0)
    payload = encode_segment_payload(3)
    content.write(encode_frame(chain, SEGMENT_FRAME, False, 1, seq + 1, 0, 1, payload), 16)
    machine.disk.names[segment_path(machine.DIRECTORY, 2)] = content

    with pytest.raises(BrokenLog, match=r"00000002.log offset 16: this is segment 3"):
        list(reader_of(machine).frames(seq + 1))


WRITER = """
import sys
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.recovery import recover
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page
from tradsys.core.messages import CancelOrder
from tradsys.venue.ports import Entry

directory = sys.argv[1]
page = Page.create(directory + "/page", 1)
recovered = recover(directory, OsFiles(), lambda frame: frame.payload, published_seq=None)
writer = LogWriter.begin(
    directory, OsFiles(), recovered, page, durable=False, segment_bytes=65536, time_ns=1
)
seq = 1
while seq <= 20000:
    prepare_next_segment(directory, OsFiles(), page, 65536)
    text = "x" * (seq % 90)
    batch = [Entry(CancelOrder("demo", seq + i, text), [(1, seq + i)]) for i in range(seq % 5 + 1)]
    writer.append(seq, seq, batch)
    seq += len(batch)
"""


def test_a_follower_in_another_process_sees_every_command_once_and_in_order(tmp_path):
    engine = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    page = None
    seen = 0
    reader = LogReader(str(tmp_path), OsFiles())
    while seen < 20000:
        if page is None:
            try:
                page = Page.open(str(tmp_path / "page"), 1)
            except (FileNotFoundError, PageError):
                assert engine.poll() is None
                time.sleep(0.001)
                continue
        published = page.published_seq if page.current else 0
        for frame in reader.frames(published):
            for entry in frame.entries:
                seen += 1
                assert entry.command.order_id == seen
        assert engine.poll() in (None, 0)
        time.sleep(0.0001)

    assert engine.wait(10) == 0
