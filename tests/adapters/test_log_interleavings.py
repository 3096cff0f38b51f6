"""Any order of appends, syncs, rolls, drains, kills and power cuts leaves a prefix: all that was promised."""

from __future__ import annotations

import tempfile
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reliability.disk import Machine, RecordingDisk
from tradsys.adapters.log.mark import MarkFile
from tradsys.adapters.page.page import Page
from tradsys.venue.ports import JournalError

deeds = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 30), st.sampled_from([0, 30, 300])),
        st.tuples(st.just("append"), st.integers(1, 3), st.just(30)),
        st.tuples(st.just("sync"), st.just(0), st.just(0)),
        st.tuples(st.just("mark"), st.just(0), st.just(0)),
        st.tuples(st.just("prepare"), st.just(0), st.just(0)),
        st.tuples(st.just("engine syncs"), st.just(0), st.just(0)),
        st.tuples(st.just("drain"), st.just(0), st.just(0)),
        st.tuples(st.just("kill"), st.just(0), st.just(0)),
        st.tuples(st.just("kill in a write"), st.integers(0, 400), st.just(0)),
        st.tuples(st.just("sync fails"), st.just(0), st.just(0)),
        st.tuples(st.just("power cut"), st.integers(0, 2**32), st.just(0)),
        st.tuples(st.just("power cut in a start"), st.integers(0, 2**32), st.integers(0, 8)),
    ),
    max_size=40,
)


class Story:
    """One machine's life, told by deeds; every start is checked against what was promised before."""

    def __init__(self, directory: str, durable: bool) -> None:
        self.boots = 0
        self.directory = directory
        self.random = Random(1)
        self.machine = Machine(RecordingDisk(), self.next_page(), durable=durable, segment_bytes=4096)
        self.machine.start()

    def next_page(self) -> Page:
        self.boots += 1
        return Page.create(f"{self.directory}/page", self.boots)

    def start(self, after: Machine, promised: int, once: list) -> None:
        epoch = self.machine.writer.epoch
        recovered = after.start()
        assert after.written == once[: recovered.seq]
        assert recovered.seq >= promised
        assert after.writer.epoch > epoch
        self.machine = after

    def kill(self) -> None:
        before = self.machine
        self.start(before.after_kill(), before.page.published_seq, list(before.written))

    def power_cut(self, seed: int, calls_into_start: int | None = None) -> None:
        before = self.machine
        promised = before.told if before.durable else before.page.durable_seq
        once = list(before.written)
        after = before.after_power_cut(Random(seed), self.next_page())
        if calls_into_start is not None:
            # The power goes again while the engine starts; what was promised before still holds.
            after.disk.fail("any", after=calls_into_start)
            try:
                after.start()
            except JournalError:
                after = after.after_power_cut(Random(seed + 1), self.next_page())
            else:
                promised, once = len(after.written), list(after.written)
                after = after.after_power_cut(Random(seed + 1), self.next_page())
        self.start(after, promised, once)

    def do(self, deed: str, number: int, padding: int) -> None:
        machine = self.machine
        try:
            match deed:
                case "append":
                    machine.append(self.random, number, padding)
                case "sync":
                    machine.sync.sync()
                case "mark":
                    machine.sync.mark()
                case "prepare":
                    machine.prepare()
                case "engine syncs":
                    machine.writer.sync()
                case "drain":
                    machine.writer.close(1)
                    self.kill()
                case "kill":
                    self.kill()
                case "kill in a write":
                    machine.disk.fail("write", written=number)
                    machine.append(self.random, 5, 100)
                case "sync fails":
                    machine.disk.fail("datasync")
                    machine.append(self.random, 1, 0)
                    machine.sync.sync()
                case "power cut":
                    self.power_cut(number)
                case "power cut in a start":
                    self.power_cut(number, calls_into_start=padding)
        except JournalError:
            # The engine stops, as it must, and is started again.
            machine.disk.heal()
            self.kill()
        mark = MarkFile(self.machine.DIRECTORY, self.machine.disk)
        assert mark.mark.seq <= self.machine.page.durable_seq <= self.machine.page.published_seq
        assert self.machine.read() == self.machine.written[: self.machine.page.published_seq]


@settings(max_examples=150)
@given(st.booleans(), deeds)
def test_every_start_finds_a_prefix_that_holds_what_was_promised(durable, deeds):
    with tempfile.TemporaryDirectory() as directory:
        story = Story(directory, durable)
        for deed in deeds:
            story.do(*deed)
        story.power_cut(7)
