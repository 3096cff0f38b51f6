"""A log with many frames in several segments, and where each of them stands, for those who damage it."""

from __future__ import annotations

from random import Random

from msgspec import Struct

from tests.reliability.disk import Machine, RecordingDisk
from tradsys.adapters.log.reader import LogReader
from tradsys.adapters.log.segments import segment_path
from tradsys.adapters.page.page import Page
from tradsys.codec.frame import (
    CHAIN_BYTES,
    CLOSED_FRAME,
    EPOCH_FRAME,
    FRAME_OVERHEAD,
    SEGMENT_FRAME,
    RawFrame,
)

POWER, KILL = "power cut", "kill"


class Place(Struct, frozen=True):
    """A frame and its bytes; a segment's first frame includes the chain before it."""

    segment: int
    start: int
    end: int
    raw: RawFrame
    found_broken_at: tuple[int, int]
    """Segment and offset where a reader stands that does not find this frame."""


class Written(Struct):
    """A machine that has stopped, its frames, and how it stopped."""

    machine: Machine
    places: list[Place]
    stop: str
    mark_seq: int
    required_seq: int
    """Nothing shorter may start."""

    def restarted(self, page: Page) -> Machine:
        """On a copy of the disk. `page` is the page of another boot, used after a power cut."""
        machine = self.machine
        if self.stop == KILL:
            page.words[:] = machine.page.words
            page.boot = machine.page.boot
        return Machine(
            machine.disk.copy(), page, durable=machine.durable, segment_bytes=machine.segment_bytes
        )

    def at(self, segment: int, offset: int) -> Place | None:
        """The frame that holds this byte."""
        for place in self.places:
            if place.segment == segment and place.start <= offset < place.end:
                return place
        return None

    def may_end_before(self, place: Place) -> bool:
        """Whether a log whose first damage is this frame may start without it and what follows."""
        later = self.places[self.places.index(place) + 1 :]
        synced_before = any(
            other.raw.kind == CLOSED_FRAME or other.raw.durable or other.raw.epoch > place.raw.epoch
            for other in later
        )
        if place.raw.kind == EPOCH_FRAME:
            # Of the epoch that it begins, no frame can be where it is not.
            synced_before = bool(later)
        return (
            place.raw.first_seq > self.required_seq
            and not self._marked(place)
            and not synced_before
            and not (self.stop == KILL and later)
        )

    def _marked(self, place: Place) -> bool:
        """The mark may be of a frame without commands, behind its seq."""
        return place.raw.first_seq == self.mark_seq + 1 and any(
            other.raw.chain == self.mark_chain for other in self.places[self.places.index(place) :]
        )

    mark_chain: bytes = b""


def a_written_log(random: Random, page: Page) -> Written:
    """A few hundred commands of one or two epochs, marked somewhere, ended by a kill, a cut or a drain."""
    machine = Machine(RecordingDisk(), page, durable=random.random() < 0.3, segment_bytes=4096)
    machine.start()
    mark_seq, mark_chain = 0, b""
    batches = random.randint(20, 60)
    marked_after = random.randrange(batches)
    epoch_after = random.randrange(2 * batches)
    for number in range(batches):
        machine.prepare()
        machine.append(random, random.randint(1, 4))
        if number == epoch_after:
            machine = machine.after_kill()
            machine.start()
        if number == marked_after:
            machine.sync.sync()
            machine.sync.mark()
            mark_seq, mark_chain = machine.writer.seq, machine.writer.chain
    if random.random() < 0.2:
        machine.writer.close(1)
    stop = random.choice((POWER, KILL))
    return Written(
        machine,
        places_of(machine),
        stop,
        mark_seq,
        max(mark_seq, machine.told if stop == KILL else 0),
        mark_chain,
    )


def places_of(machine: Machine) -> list[Place]:
    reader = LogReader(machine.DIRECTORY, machine.disk)
    places = []
    before = (1, CHAIN_BYTES)
    while (raw := reader.next_frame()) is not None:
        start = reader.offset - FRAME_OVERHEAD - len(raw.payload)
        first = raw.kind == SEGMENT_FRAME
        places.append(Place(reader.segment, 0 if first else start, reader.offset, raw, before))
        before = reader.segment, reader.offset
    return places


def bytes_of(machine: Machine, segment: int) -> bytearray:
    return machine.disk.names[segment_path(machine.DIRECTORY, segment)].seen
