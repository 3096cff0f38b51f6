"""Where a log ends, what may be cut, and what is refused."""

from __future__ import annotations

from random import Random

import pytest

from tests.reliability.disk import Machine, RecordingDisk, refused
from tradsys.adapters.log.mark import Mark, MarkFile
from tradsys.adapters.log.reader import BrokenLog, LogReader
from tradsys.adapters.log.recovery import recover
from tradsys.adapters.log.segments import segment_path
from tradsys.adapters.page.page import Page
from tradsys.codec.frame import encode_payload
from tradsys.venue.ports import JournalError


@pytest.fixture
def page(tmp_path) -> Page:
    return Page.create(str(tmp_path / "page"), boot=1)


@pytest.fixture
def next_page(tmp_path) -> Page:
    return Page.create(str(tmp_path / "page-of-next-boot"), boot=2)


@pytest.fixture
def machine(page) -> Machine:
    machine = Machine(RecordingDisk(), page, durable=False)
    machine.start()
    return machine


def after_reboot(machine: Machine, next_page: Page) -> Machine:
    """Everything written has reached the disk, but nobody can know that."""
    return Machine(machine.disk.copy(), next_page, durable=machine.durable)


def damage(machine: Machine, seq: int, places: dict[int, tuple[int, int]]) -> tuple[int, int]:
    segment, offset = places[seq]
    machine.disk.names[segment_path(machine.DIRECTORY, segment)].seen[offset + 50] ^= 1
    return segment, offset


def fill(machine: Machine, count: int) -> dict[int, tuple[int, int]]:
    """Append single commands; returns where each stands."""
    places = {}
    for _ in range(count):
        if not machine.writer.space():
            machine.prepare()
        before = machine.writer.segment, machine.writer.offset
        machine.append(Random(1))
        rolled = machine.writer.segment != before[0]
        places[machine.writer.seq] = (machine.writer.segment, 0) if rolled else before
    return places


def test_an_empty_directory_begins_with_epoch_1(page):
    machine = Machine(RecordingDisk(), page, durable=False)

    recovered = machine.start()

    assert (recovered.seq, recovered.epoch, recovered.next_epoch) == (0, 0, 1)
    assert (recovered.segment, recovered.offset) == (1, 0)
    assert page.current and page.epoch == 1
    assert page.place() == (0, 1, machine.writer.offset)


def test_engine_time_goes_on_from_the_journal(machine):
    machine.append(Random(1))

    assert machine.after_kill().start().time_ns == 1000


def test_after_a_kill_nothing_shorter_than_the_page_says_is_accepted(machine):
    places = fill(machine, 5)
    segment, offset = damage(machine, 5, places)

    error = refused(machine.after_kill())

    assert isinstance(error, BrokenLog)
    assert (error.seq, error.segment, error.offset) == (5, segment, offset)
    assert "the engine had written up to seq 5" in str(error)


def test_after_a_power_cut_the_tail_above_the_mark_may_be_cut(machine, next_page):
    places = fill(machine, 3)
    machine.sync.sync()
    machine.sync.mark()
    places |= fill(machine, 2)
    damage(machine, 4, places)
    after = after_reboot(machine, next_page)

    recovered = after.start()

    assert (recovered.seq, recovered.next_epoch) == (3, 2)
    assert [extent.segment for extent in recovered.stale] == [1]
    # What was cut is zero now, so the command that could still be read behind the hole is gone for good.
    content = bytes(after.disk.names[segment_path(after.DIRECTORY, 1)].seen)
    assert not any(content[after.writer.offset :])


def test_after_a_power_cut_nothing_shorter_than_the_mark_is_accepted(machine, next_page):
    places = fill(machine, 5)
    machine.sync.sync()
    machine.sync.mark()
    segment, offset = damage(machine, 4, places)

    error = refused(after_reboot(machine, next_page))

    assert isinstance(error, BrokenLog)
    assert (error.seq, error.segment, error.offset) == (4, segment, offset)
    assert "the high-water mark is seq 5" in str(error)


def test_in_a_durable_epoch_a_hole_before_a_readable_frame_is_refused(page, next_page):
    machine = Machine(RecordingDisk(), page, durable=True)
    machine.start()
    places = fill(machine, 5)
    segment, offset = damage(machine, 4, places)

    error = refused(after_reboot(machine, next_page))

    assert isinstance(error, BrokenLog)
    assert (error.seq, error.segment, error.offset) == (4, segment, offset)
    assert f"but seq 5 does at 00000001.log offset {places[5][1]}" in str(error)


def test_in_a_durable_epoch_a_torn_last_frame_is_cut(page, next_page):
    machine = Machine(RecordingDisk(), page, durable=True)
    machine.start()
    places = fill(machine, 5)
    damage(machine, 5, places)

    assert after_reboot(machine, next_page).start().seq == 4


def test_a_hole_before_a_newer_epoch_is_refused(machine, next_page):
    places = fill(machine, 5)
    after = machine.after_kill()
    after.start()
    damage(after, 5, places)

    error = refused(after_reboot(after, next_page))

    assert isinstance(error, BrokenLog)
    assert error.seq == 5


def test_a_hole_before_the_closed_frame_is_refused(machine, next_page):
    places = fill(machine, 5)
    machine.writer.close(1)
    damage(machine, 5, places)

    assert "no frame verifies here, but seq 6 does" in str(refused(after_reboot(machine, next_page)))


def test_a_hole_before_a_frame_in_a_later_segment_is_refused(page, next_page):
    machine = Machine(RecordingDisk(), page, durable=True)
    machine.start()
    places = fill(machine, 200)
    last_of_segment_1 = max(seq for seq, (segment, _) in places.items() if segment == 1)
    damage(machine, last_of_segment_1, places)

    error = refused(after_reboot(machine, next_page))

    assert isinstance(error, BrokenLog)
    assert (error.seq, error.segment) == (last_of_segment_1, 1)


def test_a_missing_segment_is_refused(machine, next_page):
    fill(machine, 300)
    machine.sync.sync()
    machine.sync.mark()
    assert machine.page.segment > 3
    after = after_reboot(machine, next_page)
    del after.disk.names[segment_path(after.DIRECTORY, 2)]

    error = refused(after)

    assert isinstance(error, BrokenLog)
    assert error.segment == 1


def test_another_journal_of_the_same_length_is_refused(machine, page, next_page, tmp_path):
    fill(machine, 5)
    machine.sync.sync()
    machine.sync.mark()
    other = Machine(RecordingDisk(), Page.create(str(tmp_path / "page-3"), 1), durable=False)
    other.start()
    for seed in range(5):
        other.append(Random(seed))
    other.disk.names["/shard/high-water"] = machine.disk.names["/shard/high-water"]

    assert "the high-water mark is of one behind" in str(refused(after_reboot(other, next_page)))
    other.append(Random(9))
    assert "another one than that of the high-water mark" in str(refused(after_reboot(other, next_page)))


def test_a_mark_of_an_epoch_without_commands_is_found_again(machine, next_page):
    fill(machine, 2)
    after = machine.after_kill()
    after.start()
    after.sync.sync()
    after.sync.mark()
    assert MarkFile("/shard", after.disk).mark == Mark(2, 2, after.writer.chain)

    assert after_reboot(after, next_page).start().next_epoch == 3


def test_epochs_never_repeat_even_if_the_newest_was_cut(machine, next_page):
    fill(machine, 2)
    MarkFile("/shard", machine.disk).write(Mark(2, 7, machine.writer.chain))

    assert after_reboot(machine, next_page).start().next_epoch == 8


def test_replay_must_give_the_journals_events(machine):
    fill(machine, 4)
    machine.append(Random(3), count=3)

    def forgets_the_sixth(frame):
        return encode_payload([e for e in frame.entries if e.command.order_id != 6])

    with pytest.raises(BrokenLog, match="replay gives other events") as broken:
        recover(machine.DIRECTORY, machine.disk, forgets_the_sixth, published_seq=None)

    assert broken.value.seq == 6


def test_recovery_begins_at_a_snapshot(machine):
    places = fill(machine, 100)
    assert places[100][0] > 1
    reader = LogReader(machine.DIRECTORY, machine.disk)
    list(reader.frames(60))
    machine.sync.sync()
    machine.sync.mark()
    replayed = []

    def apply(frame):
        replayed.append(frame.first_seq)
        return frame.payload

    recovered = recover(
        machine.DIRECTORY, machine.disk, apply, after_seq=60, chain=reader.chain, published_seq=100
    )

    assert replayed == list(range(61, 101))
    assert (recovered.seq, recovered.chain) == (100, machine.writer.chain)


def test_a_snapshot_of_another_journal_is_refused(machine):
    fill(machine, 10)
    for after_seq in (5, 10):
        with pytest.raises(BrokenLog, match="another one"):
            recover(
                machine.DIRECTORY,
                machine.disk,
                lambda frame: frame.payload,
                after_seq=after_seq,
                chain=bytes(16),
                published_seq=10,
            )


def test_a_journal_shorter_than_its_snapshot_is_refused(machine):
    fill(machine, 10)

    with pytest.raises(BrokenLog, match="the snapshot is of seq 12"):
        recover(
            machine.DIRECTORY,
            machine.disk,
            lambda frame: frame.payload,
            after_seq=12,
            chain=bytes(16),
            published_seq=None,
        )


def test_a_snapshot_in_the_middle_of_a_batch_is_refused(machine):
    machine.append(Random(1), count=4)

    with pytest.raises(JournalError, match="a batch lies across the snapshot"):
        recover(machine.DIRECTORY, machine.disk, lambda f: f.payload, after_seq=2, published_seq=None)


def test_recovery_reads_and_writes_nothing(machine):
    damage(machine, 50, fill(machine, 50))
    calls = len(machine.disk.calls)

    recover(machine.DIRECTORY, machine.disk, lambda frame: frame.payload, published_seq=None)

    assert machine.disk.calls[calls:] == []


def test_progress_ends_with_the_last_command(machine):
    fill(machine, 10)
    shown = []

    recover(
        machine.DIRECTORY,
        machine.disk,
        lambda frame: frame.payload,
        published_seq=10,
        progress=lambda seq, last: shown.append((seq, last)),
    )

    assert shown == [(10, 10)]
