"""The engine's side of the log: appending, rolling, space, faults, the drain; and the sync behind it."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from random import Random

import pytest

from tests.reliability.disk import Machine, RecordingDisk, refused
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.lock import DirectoryLocked, lock_directory
from tradsys.adapters.log.mark import SLOT_DISTANCE, Mark, MarkFile
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.recovery import recover
from tradsys.adapters.log.segments import make_segment, prepare_next_segment, segment_indexes
from tradsys.adapters.log.sync import LogSync
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page
from tradsys.codec.frame import FRAME_OVERHEAD, encode_payload
from tradsys.core.messages import CancelOrder, ExpireOrders
from tradsys.venue.ports import Entry, JournalError

BOOT = 7


@pytest.fixture
def page(tmp_path) -> Page:
    return Page.create(str(tmp_path / "page"), BOOT)


@pytest.fixture
def machine(page) -> Machine:
    machine = Machine(RecordingDisk(), page, durable=False)
    machine.start()
    return machine


@pytest.fixture
def durable(page) -> Machine:
    machine = Machine(RecordingDisk(), page, durable=True)
    machine.start()
    return machine


def cancel(seq: int, text: str = "") -> Entry:
    return Entry(CancelOrder("demo", seq, text), [(5, seq, 4, 1, 10)])


def in_a(directory, page, *, durable=False, grouped=False, segment_bytes=64 << 10) -> LogWriter:
    recovered = recover(
        directory,
        OsFiles(),
        lambda frame: frame.payload,
        published_seq=page.published_seq if page.current else None,
    )
    return LogWriter.begin(
        directory,
        OsFiles(),
        recovered,
        page,
        durable=durable,
        grouped=grouped,
        segment_bytes=segment_bytes,
        time_ns=1,
    )


# --- on real files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [False, True], ids=["process", "durable"])
def test_what_was_appended_is_read_back_and_found_by_the_next_engine(tmp_path, page, durable):
    directory = str(tmp_path)
    writer = in_a(directory, page, durable=durable)
    batches = [[cancel(1)], [cancel(2), cancel(3)], [cancel(4, "x" * 3000)]]
    for batch in batches:
        writer.append(batch[0].command.order_id, batch[0].command.order_id * 100, batch)

    frames = list(LogReader(directory, OsFiles()).frames(page.published_seq))
    again = in_a(directory, page, durable=durable)

    assert [(frame.first_seq, frame.time_ns, frame.epoch, frame.entries) for frame in frames] == [
        (1, 100, 1, batches[0]),
        (2, 200, 1, batches[1]),
        (4, 400, 1, batches[2]),
    ]
    assert [frame.payload for frame in frames] == [encode_payload(batch) for batch in batches]
    assert (again.seq, again.epoch, page.epoch, page.durable_seq) == (4, 2, 2, 4)


def test_an_append_is_one_write_into_a_segment_that_keeps_its_size(tmp_path, page):
    class Counting(OsFiles):
        writes: list[int] = []  # noqa: RUF012

        def write(self, handle, data, offset):
            self.writes.append(len(data))
            return os.pwrite(handle, data, offset)

    directory = str(tmp_path)
    in_a(directory, page)
    recovered = recover(directory, OsFiles(), lambda frame: frame.payload, published_seq=0)
    files = Counting()
    writer = LogWriter.begin(
        directory, files, recovered, page, durable=False, segment_bytes=64 << 10, time_ns=1
    )
    files.writes.clear()

    writer.append(1, 1, [cancel(1), cancel(2)])

    assert len(files.writes) == 1
    assert os.path.getsize(tmp_path / "00000001.log") == 64 << 10


def test_a_page_follows_each_append(tmp_path, page):
    writer = in_a(str(tmp_path), page)

    writer.append(1, 1, [cancel(1), cancel(2)])

    assert page.place() == (2, 1, writer.offset)
    assert page.durable_seq == 0
    assert LogSync(str(tmp_path), OsFiles(), page).sync() == 2
    assert page.durable_seq == 2


def test_files_are_for_their_owner_only(tmp_path, page):
    in_a(str(tmp_path), page)

    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}


def test_a_frame_of_a_newer_release_is_refused_and_not_cut(tmp_path, page):
    writer = in_a(str(tmp_path), page)
    writer.append(1, 1, [cancel(1)])
    with open(tmp_path / "00000001.log", "r+b") as file:
        data = bytearray(file.read(writer.offset))
        place = len(data) - len(encode_payload([cancel(1)])) - FRAME_OVERHEAD
        data[place + 4] = 2
        data[-16:] = blake2b(data[place - 16 : -16], digest_size=16).digest()
        file.seek(0)
        file.write(data)

    with pytest.raises(JournalError, match="format 2, kind 3, flags 0x0 are not known to this release"):
        in_a(str(tmp_path), page)


# --- rolling ----------------------------------------------------------------------------------------


def test_a_full_segment_is_followed_by_the_prepared_one(machine):
    random = Random(1)
    while machine.page.segment < 4:
        machine.append(random, padding=100)
        if not machine.writer.space():
            assert machine.prepare()

    assert machine.read() == machine.written
    assert machine.after_kill().start().seq == len(machine.written)


def test_space_ends_in_the_last_quarter_and_returns_with_the_next_segment(machine):
    random = Random(1)
    while machine.writer.space():
        machine.append(random)
    left = machine.segment_bytes - machine.writer.offset

    assert machine.segment_bytes // 5 < left <= machine.segment_bytes // 4
    assert machine.prepare()
    assert machine.writer.space()


def test_without_a_next_segment_a_full_one_ends_the_writer(machine):
    random = Random(1)
    with pytest.raises(JournalError, match="segment 1 is full"):
        for _ in range(1000):
            machine.append(random)

    after = machine.after_kill()
    assert after.start().seq == machine.told
    assert after.prepare()
    after.append(random)
    assert after.read() == after.written


@pytest.mark.parametrize("segment_bytes", [1 << 20, 4 << 20])
def test_where_anything_is_taken_without_a_next_segment_the_largest_batch_of_cancels_finds_room(
    tmp_path, page, segment_bytes
):
    far = 2**40
    expiries = Entry(ExpireOrders(), [(5, far + i, 6, 6, 10**13) for i in range(1_000)])
    cancels = [
        Entry(CancelOrder("a" * 36, far + i, "r" * 64), [(5, far + i, 4, 1, 10**13)]) for i in range(1_000)
    ]
    (tmp_path / "tried").mkdir()
    tried = in_a(str(tmp_path / "tried"), page, segment_bytes=segment_bytes)
    taken = 0
    while not tried.exhausted():
        taken += 1
        tried.append(taken, 1, [cancel(taken, "x" * 1_000)])
    writer = in_a(str(tmp_path), Page.create(str(tmp_path / "page 2"), BOOT), segment_bytes=segment_bytes)
    for seq in range(1, taken):
        writer.append(seq, 1, [cancel(seq, "x" * 1_000)])
    assert not writer.exhausted()

    writer.append(taken, 1, [expiries, *cancels])

    assert writer.seq == taken + 1_000
    assert writer.exhausted()


def test_a_batch_larger_than_a_segment_becomes_several_frames(machine):
    machine.prepare()

    machine.append(Random(1), count=40, padding=200)

    assert machine.page.segment == 2
    assert machine.read() == machine.written


def test_a_command_larger_than_a_segment_is_refused_before_anything_is_written(machine):
    machine.append(Random(1))
    calls = len(machine.disk.calls)

    with pytest.raises(JournalError, match=r"seq 2 takes \d+ bytes, more than a segment holds"):
        machine.writer.append(2, 1, [cancel(2, "x" * machine.segment_bytes)])

    assert machine.disk.calls[calls:] == []
    assert machine.after_kill().start().seq == 1


def test_segments_of_another_size_are_used_up_and_prepared_ones_made_anew(page):
    machine = Machine(RecordingDisk(), page, durable=False, segment_bytes=8192)
    machine.start()
    machine.append(Random(1), count=3)
    machine.prepare()
    after = machine.after_kill()
    after.segment_bytes = 16384
    after.start()

    assert page.prepared_segment == 1
    assert after.prepare()
    while page.segment == 1:
        after.append(Random(2))
    assert len(after.disk.names["/shard/00000002.log"].seen) == 16384
    assert after.read() == after.written


@pytest.mark.parametrize("starts", [1, 2, 60])
def test_an_epoch_finds_room_at_the_end_of_a_full_segment(machine, starts):
    with pytest.raises(JournalError, match="full"):
        for _ in range(1000):
            machine.append(Random(1), padding=10)
    told = machine.told
    for _ in range(starts):
        machine = machine.after_kill()
        machine.start()
        machine.writer.close(1)

    assert machine.told == told
    assert machine.page.epoch == starts + 1


# --- groups -----------------------------------------------------------------------------------------


def entries_on_disk(directory) -> list[Entry]:
    """What a recovery finds, which need not be what is published."""
    found: list[Entry] = []

    def apply(frame):
        found.extend(frame.entries)
        return frame.payload

    recover(directory, OsFiles(), apply, published_seq=None)
    return found


@pytest.mark.parametrize("durable", [False, True], ids=["process", "durable"])
def test_a_group_is_written_and_seen_with_its_commit_and_not_before(tmp_path, page, durable):
    writer = in_a(str(tmp_path), page, durable=durable, grouped=True)
    batches = [[cancel(1)], [cancel(2), cancel(3)], [cancel(4, "x" * 3000)]]
    for batch in batches:
        writer.append(batch[0].command.order_id, batch[0].command.order_id * 100, batch)
    before = page.published_seq, entries_on_disk(str(tmp_path))

    writer.commit()
    writer.commit()

    assert before == (0, [])
    assert (writer.seq, page.published_seq) == (4, 4)
    assert page.durable_seq == (4 if durable else 0)
    assert entries_on_disk(str(tmp_path)) == [entry for batch in batches for entry in batch]


def test_a_group_makes_the_bytes_that_frames_one_by_one_make(tmp_path, page):
    contents = []
    for name, grouped in (("one", False), ("group", True)):
        directory = tmp_path / name
        directory.mkdir()
        writer = in_a(str(directory), Page.create(str(directory / "page"), BOOT), grouped=grouped)
        for seq in range(1, 30):
            writer.append(seq, seq, [cancel(seq)])
        writer.commit()
        contents.append([path.read_bytes() for path in sorted(directory.glob("*.log"))])

    assert contents[0] and contents[0] == contents[1]


def frames_of(directory: str) -> list[tuple[int, int, int]]:
    """(first seq, commands, time) of each frame of commands."""
    reader = LogReader(directory, OsFiles())
    found = []
    while (raw := reader.next_frame()) is not None:
        if raw.count:
            found.append((raw.first_seq, raw.count, raw.time_ns))
    reader.close()
    return found


@pytest.mark.parametrize("sizes", [(1, 1), (1, 14, 1, 3), (15, 1), (20, 300), (1,) * 70], ids=str)
def test_what_a_group_has_of_one_time_is_one_frame_as_if_it_came_at_once(tmp_path, page, sizes):
    contents = []
    for name, together in (("pieces", False), ("once", True)):
        directory = tmp_path / name
        directory.mkdir()
        writer = in_a(str(directory), Page.create(str(directory / "page"), BOOT), grouped=True)
        every = [cancel(seq) for seq in range(1, sum(sizes) + 1)]
        rest = list(every)
        for size in (sum(sizes),) if together else sizes:
            writer.append(1 + len(every) - len(rest), 100, rest[:size])
            rest = rest[size:]
        writer.commit()
        contents.append([path.read_bytes() for path in sorted(directory.glob("*.log"))])

    assert contents[0] == contents[1]
    assert frames_of(str(tmp_path / "pieces")) == [(1, sum(sizes), 100)]


def test_a_frame_of_a_group_has_one_time_and_at_most_a_thousand_commands(tmp_path, page):
    writer = in_a(str(tmp_path), page, grouped=True, segment_bytes=1 << 20)
    seq = 1
    for time_ns, size in ((100, 600), (100, 400), (100, 1), (200, 1), (200, 2), (300, 5)):
        writer.append(seq, time_ns, [cancel(seq + i) for i in range(size)])
        seq += size

    writer.commit()

    assert frames_of(str(tmp_path)) == [
        (1, 1000, 100), (1001, 1, 100), (1002, 3, 200), (1005, 5, 300),
    ]  # fmt: skip
    assert len(entries_on_disk(str(tmp_path))) == 1009


def test_a_group_that_becomes_large_or_meets_the_end_of_a_segment_is_written_at_once(tmp_path, page):
    writer = in_a(str(tmp_path), page, grouped=True, segment_bytes=1 << 20)
    prepare_next_segment(str(tmp_path), OsFiles(), page, 1 << 20)
    published = []
    for seq in range(1, 1500):
        writer.append(seq, seq, [cancel(seq, "x" * 1000)])
        published.append(page.published_seq)
    writer.commit()

    assert 0 < published[299] < 300
    assert (writer.segment, page.published_seq) == (2, 1499)
    assert len(entries_on_disk(str(tmp_path))) == 1499


def test_closing_writes_the_group_first(tmp_path, page):
    writer = in_a(str(tmp_path), page, grouped=True)
    writer.append(1, 100, [cancel(1)])

    writer.close(200)

    assert entries_on_disk(str(tmp_path)) == [cancel(1)]
    assert page.durable_seq == 1


# --- faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_failed_write_ends_the_writer_for_ever(machine, error):
    machine.append(Random(1))
    machine.disk.fail("write", error=error)

    with pytest.raises(JournalError, match="write of seq 2"):
        machine.append(Random(1))
    calls = len(machine.disk.calls)
    with pytest.raises(JournalError, match="write of seq 2"):
        machine.writer.append(2, 1, [cancel(2)])

    assert machine.disk.calls[calls:] == []
    assert machine.page.published_seq == 1


class _BadDisk(OsFiles):
    """Fails as told, from some moment on."""

    fails = ""

    def write(self, handle, data, offset):
        if self.fails == "write":
            raise OSError(errno.EIO, "bad disk")
        return os.pwrite(handle, data, offset)

    def datasync(self, handle):
        if self.fails == "datasync":
            raise OSError(errno.EIO, "bad disk")
        os.fdatasync(handle)


@pytest.mark.parametrize(
    ("fails", "durable"), [("write", False), ("write", True), ("datasync", True)], ids=str
)
@pytest.mark.parametrize("why", ["the group is large", "the segment ends"])
def test_what_waits_for_a_commit_hears_of_a_write_that_failed_in_an_append(
    tmp_path, page, fails, durable, why
):
    directory, disk = str(tmp_path), _BadDisk()
    writer = LogWriter.begin(
        directory,
        disk,
        recover(directory, disk, lambda frame: frame.payload, published_seq=None),
        page,
        durable=durable,
        grouped=True,
        segment_bytes=1 << 20,
        time_ns=1,
    )
    if why == "the segment ends":
        writer.append(1, 1, [cancel(1, "x" * 900_000)])
        writer.append(2, 2, [cancel(2)])
    else:
        writer.append(1, 1, [cancel(1)])
        writer.append(2, 2, [cancel(2)])
    published = page.published_seq
    disk.fails = fails

    with pytest.raises(JournalError, match="of seq"):
        writer.append(3, 3, [cancel(3, "x" * 300_000)])
    with pytest.raises(JournalError, match="of seq"):
        writer.commit()

    assert page.published_seq == published
    writer.commit()  # Nothing of before waits any more: what is said from here on was told of the end.


def test_a_short_write_ends_the_writer_and_its_bytes_are_cut(machine):
    machine.append(Random(1), count=2)
    machine.disk.fail("write", written=90)

    with pytest.raises(JournalError, match="90 of"):
        machine.append(Random(1), count=4)

    after = machine.after_kill()
    recovered = after.start()
    assert (recovered.seq, len(recovered.stale)) == (2, 1)
    after.append(Random(2), count=2)
    assert after.read() == after.written


def test_whichever_call_of_a_start_fails_nothing_is_promised_and_the_next_start_works(tmp_path):
    def torn_by_a_kill(page: Page) -> Machine:
        machine = Machine(RecordingDisk(), page, durable=False)
        machine.start()
        machine.append(Random(1), count=3)
        machine.disk.fail("write", written=70)
        with pytest.raises(JournalError):
            machine.append(Random(1))
        return machine.after_kill()

    calls = 0
    while True:
        page = Page.create(str(tmp_path / f"page-{calls}"), BOOT)
        machine = torn_by_a_kill(page)
        machine.disk.fail("any", after=calls)
        try:
            machine.start()
            break
        except JournalError:
            assert page.epoch == 1
        after = machine.after_kill()
        assert after.start().seq == 3
        after.append(Random(2))
        assert after.read() == after.written
        calls += 1

    # Rewrite and sync, zero and sync, the names, the epoch and its sync.
    assert calls == 7


def test_a_failed_sync_of_an_append_poisons_the_page_and_is_not_retried(durable):
    durable.append(Random(1))
    durable.disk.fail("datasync")

    with pytest.raises(JournalError, match="sync of seq 2"):
        durable.append(Random(1))
    calls = len(durable.disk.calls)
    with pytest.raises(JournalError):
        durable.writer.append(3, 1, [cancel(3)])
    with pytest.raises(JournalError, match="in another process"):
        durable.sync.sync()

    assert durable.disk.calls[calls:] == []
    assert durable.page.poisoned
    assert durable.page.published_seq == durable.page.durable_seq == 1


def test_a_failed_sync_of_the_follower_stops_the_engine(machine):
    machine.append(Random(1))
    machine.disk.fail("datasync")

    with pytest.raises(JournalError, match="sync of segment 1"):
        machine.sync.sync()
    calls = len(machine.disk.calls)
    for attempt in (machine.sync.sync, machine.sync.mark, lambda: machine.append(Random(1))):
        with pytest.raises(JournalError):
            attempt()

    assert machine.disk.calls[calls:] == []
    assert machine.page.durable_seq == 0


def test_after_a_failed_sync_recovery_writes_the_tail_again_and_a_power_cut_then_loses_nothing(
    machine, tmp_path
):
    machine.append(Random(1), count=5)
    machine.disk.fail("datasync")
    with pytest.raises(JournalError):
        machine.sync.sync()
    after = machine.after_kill()
    after.start()

    for seed in range(20):
        cut = after.after_power_cut(Random(seed), Page.create(str(tmp_path / "page-2"), 100 + seed))
        assert cut.start().seq == 5
    assert not machine.page.poisoned


def test_what_can_not_be_encoded_ends_the_writer(machine):
    with pytest.raises(JournalError, match="seq 1 can't be encoded"):
        machine.writer.append(1, 1, [Entry(CancelOrder("demo", 1), [(2, 3001, 2**64, 0)])])
    with pytest.raises(JournalError):
        machine.writer.append(1, 1, [cancel(1)])


# --- the sync behind the engine ---------------------------------------------------------------------


def test_a_sync_covers_the_segments_before_the_current_one(machine, tmp_path):
    random = Random(1)
    machine.prepare()
    while machine.page.segment == 1:
        machine.append(random)
    machine.prepare()
    while machine.page.segment == 2:
        machine.append(random)

    assert machine.sync.sync() == machine.told

    for seed in range(10):
        cut = machine.after_power_cut(Random(seed), Page.create(str(tmp_path / "page-2"), 100 + seed))
        assert cut.start().seq == machine.told


def test_what_is_appended_while_a_sync_runs_is_not_claimed(machine):
    machine.append(Random(1), count=2)

    def append_behind_the_sync() -> None:
        if machine.disk.calls[-1] == "datasync":
            machine.disk.watch = lambda: None
            machine.append(Random(2))

    machine.disk.watch = append_behind_the_sync

    assert machine.sync.sync() == machine.page.durable_seq == 2
    assert machine.page.published_seq == 3
    machine.sync.mark()
    assert MarkFile("/shard", machine.disk).mark.seq == 2


def test_nothing_new_is_not_synced_again(machine):
    machine.append(Random(1))
    machine.sync.sync()
    calls = len(machine.disk.calls)

    assert machine.sync.sync() == 1
    assert machine.disk.calls[calls:] == []


def test_before_an_engine_has_begun_on_this_boot_there_is_nothing_to_sync_or_prepare(machine, tmp_path):
    machine.append(Random(1))
    page = Page.open(str(tmp_path / "page"), boot=BOOT + 1)
    calls = len(machine.disk.calls)

    assert LogSync("/shard", machine.disk, page).sync() == 0
    assert not prepare_next_segment("/shard", machine.disk, page, 8192)
    assert machine.disk.calls[calls:] == []


def test_the_engine_syncs_itself_when_the_follower_is_gone(machine):
    machine.append(Random(1))

    machine.writer.sync()

    assert machine.page.durable_seq == 1


def test_a_drain_syncs_everything_and_ends_with_a_closed_frame(machine, tmp_path):
    machine.append(Random(1), count=4)

    machine.writer.close(time_ns=5)

    with pytest.raises(JournalError, match="closed"):
        machine.writer.append(5, 1, [cancel(5)])
    cut = machine.after_power_cut(Random(1), Page.create(str(tmp_path / "page-2"), 100))
    recovered = cut.start()
    assert (recovered.seq, recovered.closed) == (4, True)


# --- the high-water mark ----------------------------------------------------------------------------


def test_the_mark_is_what_was_synced_and_never_more(machine):
    machine.append(Random(1), count=3)
    machine.sync.mark()
    assert MarkFile("/shard", machine.disk).mark == Mark()

    machine.sync.sync()
    chain = machine.writer.chain
    machine.append(Random(1))
    machine.sync.mark()

    assert MarkFile("/shard", machine.disk).mark == Mark(3, 1, chain)


def test_a_torn_mark_leaves_the_one_before(machine):
    file = MarkFile("/shard", machine.disk)
    file.write(Mark(1, 1, bytes(16)))
    file.write(Mark(2, 1, bytes(16)))
    content = machine.disk.names["/shard/high-water"]
    newest = max((0, SLOT_DISTANCE), key=lambda at: content.seen[at + 16])
    content.seen[newest + 17] ^= 1

    assert MarkFile("/shard", machine.disk).mark == Mark(1, 1, bytes(16))


def test_a_mark_without_a_valid_slot_is_refused(machine):
    MarkFile("/shard", machine.disk).write(Mark(1, 1, bytes(16)))
    content = machine.disk.names["/shard/high-water"]
    content.seen[SLOT_DISTANCE + 17] ^= 1

    assert "neither slot is valid" in str(refused(machine.after_kill()))


def test_a_journal_without_a_mark_is_refused(machine):
    del machine.disk.names["/shard/high-water"]

    assert "no high-water mark" in str(refused(machine.after_kill()))


# --- preparing segments -----------------------------------------------------------------------------


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_segment_that_finds_no_space_leaves_nothing_behind(tmp_path):
    with file_size_limit(3 << 20):
        made = make_segment(str(tmp_path), OsFiles(), 1, 4 << 20)

    assert not made
    assert list(tmp_path.iterdir()) == []


def test_a_segment_has_its_name_only_when_it_is_whole(tmp_path):
    names = []

    made = make_segment(str(tmp_path), OsFiles(), 1, 3 << 20, lambda: names.append(os.listdir(tmp_path)))

    assert made
    assert names == [["00000001.log.new"]] * 3
    assert (tmp_path / "00000001.log").read_bytes() == bytes(3 << 20)
    assert segment_indexes(str(tmp_path), OsFiles()) == [1]


def test_a_segment_that_nobody_has_announced_is_not_replaced_while_an_engine_starts(tmp_path, page):
    directory, size = str(tmp_path), 64 << 10
    in_a(directory, page).append(1, 1, [cancel(1, "x" * 40_000)])
    assert make_segment(directory, OsFiles(), 2, size)  # And then its follower was killed.

    def starts_and_rolls() -> None:
        in_a(directory, page).append(2, 2, [cancel(2, "x" * 40_000)])

    assert prepare_next_segment(directory, OsFiles(), page, size, between=starts_and_rolls)
    if page.segment == 1:
        starts_and_rolls()

    assert (page.segment, page.prepared_segment) == (2, 2)
    found = [frame.first_seq for frame in LogReader(directory, OsFiles()).frames(page.published_seq)]
    assert found == [1, 2]


def test_a_prepared_segment_leaves_no_zeros_for_the_engines_sync_to_wait_for(machine):
    assert machine.prepare()

    assert machine.disk.names["/shard/00000002.log"].unsynced == {}


def test_a_fault_while_preparing_is_not_taken_for_a_full_disk(machine):
    machine.disk.fail("write", error=errno.EIO)

    with pytest.raises(OSError, match="Input/output"):
        machine.prepare()


# --- one engine at a time ---------------------------------------------------------------------------


def test_a_second_process_is_told_who_owns_the_directory(tmp_path):
    handle = lock_directory(str(tmp_path))
    script = (
        "import sys\n"
        "from tradsys.adapters.log.lock import DirectoryLocked, lock_directory\n"
        "try:\n    lock_directory(sys.argv[1])\n"
        "except DirectoryLocked as error:\n    print(error.owner); sys.exit(error.exit_code)\n"
    )

    while_owned = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)
    os.close(handle)
    after = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True)

    assert (while_owned.returncode, while_owned.stdout) == (75, f"{os.getpid()}\n")
    assert (after.returncode, after.stdout) == (0, "")


def test_the_same_process_can_not_own_a_directory_twice(tmp_path):
    handle = lock_directory(str(tmp_path))

    with pytest.raises(DirectoryLocked, match=f"in use by process {os.getpid()}"):
        lock_directory(str(tmp_path))
    os.close(handle)
