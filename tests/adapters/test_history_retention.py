"""Which segments of a real journal may go, and which may not."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.adapters.following import Engine, HistoryThread
from tradsys.adapters.history.retention import Needed, first_seq_of, retire
from tradsys.adapters.log.files import OsFiles
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.recovery import recover
from tradsys.adapters.log.segments import prepare_next_segment
from tradsys.adapters.log.writer import LogWriter
from tradsys.adapters.page.page import Page, boot_id
from tradsys.core.messages import CancelOrder
from tradsys.venue.ports import Entry

FOREVER = 1 << 62


def cancel(seq: int, padding: int) -> Entry:
    return Entry(CancelOrder("demo", seq, "x" * padding), [(5, seq, 4, 1, 10)])


class Journal:
    """Four segments and more; `begins` are the first sequence numbers and times of each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.begins: dict[int, tuple[int, int]] = {}
        reader = LogReader(str(directory), OsFiles())
        for frame in reader.frames(Page.open(f"{directory}/page", boot_id()).published_seq):
            self.begins.setdefault(reader.segment, (frame.first_seq, frame.time_ns))

    def segments(self) -> list[Path]:
        return sorted(self.directory.glob("*.log"))

    def retire(self, after_seq: int, since_ns: int) -> list[str]:
        return [path.name for path in retire(self.segments, Needed(after_seq, since_ns))]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    directory = tmp_path_factory.mktemp("recorded")
    engine = Engine(directory, segment_bytes=64 << 10)
    with HistoryThread(directory, engine.page) as thread:
        while engine.page.segment < 5:
            engine.trade(200)
        thread.wait_for(engine.seq)
        while engine.page.prepared_segment <= engine.page.segment:
            time.sleep(0.01)
    return directory


@pytest.fixture
def journal(tmp_path, recorded):
    return Journal(shutil.copytree(recorded, tmp_path, dirs_exist_ok=True))


def test_a_segment_whose_last_command_is_needed_stays(journal):
    third = journal.begins[3][0]

    assert journal.retire(third - 1, FOREVER) == ["00000001.log"]
    assert journal.retire(third, FOREVER) == ["00000002.log"]
    assert first_seq_of(journal.segments()) == third


def test_what_is_left_begins_with_the_frame_that_a_snapshot_ends_with(tmp_path):
    page = Page.create(str(tmp_path / "page"), boot_id())

    def started() -> LogWriter:
        found = recover(
            str(tmp_path), OsFiles(), lambda frame: frame.payload, published_seq=page.published_seq
        )
        return LogWriter.begin(
            str(tmp_path), OsFiles(), found, page, durable=False, segment_bytes=64 << 10, time_ns=1
        )

    writer = started()
    writer.append(1, 1, [cancel(1, 60_000)])
    after_snapshot = writer.chain
    writer = started()  # An epoch stands between the snapshot's frame and the next segment.
    assert prepare_next_segment(str(tmp_path), OsFiles(), page, 64 << 10)
    writer.append(2, 2, [cancel(2, 10_000)])
    assert page.segment == 2

    retire(lambda: sorted(tmp_path.glob("*.log")), Needed(1, FOREVER))

    reader = LogReader(str(tmp_path), OsFiles(), 1, after_snapshot)
    assert [frame.first_seq for frame in reader.frames(2)] == [2]
    assert reader.agrees


def test_a_segment_within_the_window_stays_and_so_does_what_follows(journal):
    _, third_ns = journal.begins[3]

    assert journal.retire(FOREVER, third_ns) in (["00000001.log"], ["00000001.log", "00000002.log"])
    assert "00000003.log" in [path.name for path in journal.segments()]


def test_the_segment_that_is_written_and_the_prepared_one_always_stay(journal):
    names = [path.name for path in journal.segments()]

    gone = journal.retire(FOREVER, FOREVER)

    assert gone == names[:-2]
    assert journal.retire(FOREVER, FOREVER) == []


def test_what_is_left_is_read_from_a_place_within_it(journal):
    third = journal.begins[3][0]
    journal.retire(third, FOREVER)
    reader = LogReader(str(journal.directory), OsFiles(), third - 1)

    frame = next(reader.frames(third))

    assert frame.first_seq == third


def test_without_a_journal_there_is_no_first_command(tmp_path):
    assert first_seq_of([]) is None
    (tmp_path / "00000001.log").write_bytes(bytes(4096))
    assert first_seq_of([tmp_path / "00000001.log"]) is None
