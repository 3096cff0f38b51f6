"""D4, as far as the log goes: the next segment can't be had.

The venue asks `space()` at every turn: False makes it cancel-only by a journalled command, and what it
takes from then on goes into the last quarter of the current segment. With the disk's space the next
segment comes back, and with it `space()`, without a restart.
"""

from __future__ import annotations

import os
import resource
from random import Random

import pytest

from tests.reliability.disk import Machine, RecordingDisk
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.recovery import recover
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page
from tradsys.core.messages import CancelOrder, SetJournalSpace
from tradsys.venue.ports import Entry

COUNT = int(os.environ.get("COUNT_D4", "20"))
SEGMENT_BYTES = 64 << 10


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_full_disk_is_noticed_served_through_and_recovered_from(tmp_path, seed):
    random = Random(seed)
    page = Page.create(str(tmp_path / "page"), boot=1)
    # Room for the mark, one segment, and a random part of the second.
    disk = RecordingDisk(capacity=8192 + 8192 + random.randrange(8192))
    machine = Machine(disk, page, durable=random.random() < 0.5)
    machine.start()

    while machine.writer.space():
        assert not machine.prepare()
        machine.append(random)
    assert not any(name.endswith(".new") for name in disk.names)
    while machine.segment_bytes - machine.writer.offset > 500:
        assert not machine.writer.space()
        machine.append(random, padding=20)
        assert not machine.prepare()
    assert machine.read() == machine.written
    if random.random() < 0.5:
        # A restart finds the same, and no space either.
        machine = machine.after_kill()
        assert machine.start().seq == machine.told
        assert not machine.writer.space()

    disk.capacity += 3 * 8192
    assert machine.prepare()
    assert machine.writer.space()
    while page.segment == 1:
        machine.append(random)

    assert machine.read() == machine.written


def test_a_real_file_system_that_refuses_the_next_segment(tmp_path):
    """By the limit on the size of a file: the same error path as a full disk, without mounting one."""
    directory, files = str(tmp_path), OsFiles()
    page = Page.create(f"{directory}/page", boot=1)
    recovered = recover(directory, files, lambda frame: frame.payload, published_seq=None)
    writer = LogWriter.begin(
        directory, files, recovered, page, durable=False, segment_bytes=SEGMENT_BYTES, time_ns=1
    )
    sent = []

    def send(entry: Entry) -> None:
        writer.append(writer.seq + 1, 1, [entry])
        sent.append(entry)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT_BYTES, hard))
    try:
        while writer.space():
            assert not prepare_next_segment(directory, files, page, 2 * SEGMENT_BYTES)
            send(Entry(CancelOrder("demo", 1, "x" * 200), [(1, 1)]))
        send(Entry(SetJournalSpace(False), [(11, 12)]))
        for _ in range(10):
            send(Entry(CancelOrder("demo", 1), [(5, 1, 4, 1, 10)]))
        assert sorted(os.listdir(directory)) == ["00000001.log", "high-water", "page"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert prepare_next_segment(directory, files, page, 2 * SEGMENT_BYTES)
    assert writer.space()
    send(Entry(SetJournalSpace(True), [(11, 12)]))
    frames = LogReader(directory, files).frames(page.published_seq)
    assert [entry for frame in frames for entry in frame.entries] == sent
