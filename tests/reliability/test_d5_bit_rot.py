"""D5: a bit turns, anywhere in the journal or the high-water mark.

Either the start is refused with the exact sequence number and place, or it is provably harmless: the venue
starts with everything that it had to have. COUNT_D5 is the number of bits.
"""

from __future__ import annotations

import os
from random import Random

from tests.reliability.disk import Machine
from tests.reliability.written import a_written_log, bytes_of
from tradsys.adapters.log.reader import BrokenLog, LogReader
from tradsys.adapters.log.segments import segment_indexes
from tradsys.adapters.page.page import Page

COUNT = int(os.environ.get("COUNT_D5", "50"))
SEED = int(os.environ.get("SEED", "1"))


def test_a_turned_bit_is_refused_with_its_exact_place_or_provably_harmless(tmp_path):
    refused = tails_cut = harmless = 0
    for number in range(COUNT):
        random = Random(f"{SEED}-{number}")
        print(f"SEED={SEED} number {number}")
        written = a_written_log(random, Page.create(str(tmp_path / f"page-{number}"), 1))
        machine = written.restarted(Page.create(str(tmp_path / f"page-{number}-after"), 2))
        segment = random.choice(segment_indexes(machine.DIRECTORY, machine.disk))
        data = bytes_of(machine, segment)
        offset = random.randrange(len(data))
        data[offset] ^= 1 << random.randrange(8)

        place = written.at(segment, offset)
        if place is None:
            machine.start()
            assert machine.written == written.machine.written
            harmless += 1
        elif written.may_end_before(place):
            recovered = machine.start()
            assert recovered.seq == place.raw.first_seq - 1 >= written.required_seq
            assert machine.written == written.machine.written[: recovered.seq]
            assert machine.writer.epoch == recovered.epoch + 1
            tails_cut += 1
        else:
            try:
                machine.start()
                raise AssertionError(f"started, with a bit turned in {place}")
            except BrokenLog as error:
                assert error.seq == place.raw.first_seq
                assert (error.segment, error.offset) == place.found_broken_at
            refused += 1
    print(f"{refused} refused, {tails_cut} cut above what was promised, {harmless} harmless")
    assert refused > COUNT // 5 and harmless > COUNT // 10


def test_a_follower_that_meets_a_turned_bit_stops_at_the_exact_place(tmp_path):
    met = 0
    for number in range(COUNT):
        random = Random(f"{SEED}-follower-{number}")
        written = a_written_log(random, Page.create(str(tmp_path / f"page-{number}"), 1))
        machine = written.machine
        place = random.choice(written.places[1:])
        bytes_of(machine, place.segment)[random.randrange(place.start, place.end)] ^= 1 << random.randrange(8)
        reader = LogReader(machine.DIRECTORY, machine.disk)
        seen = []
        try:
            for frame in reader.frames(machine.page.published_seq):
                seen += frame.entries
        except BrokenLog as error:
            assert error.seq == place.raw.first_seq == len(seen) + 1
            assert (error.segment, error.offset) == place.found_broken_at
            met += 1
        assert seen == machine.written[: len(seen)]
        assert len(seen) == min(machine.told, place.raw.first_seq - 1)
    assert met > COUNT // 2


def test_a_turned_bit_in_the_high_water_mark_never_lets_the_log_start_shorter_than_the_older_mark(tmp_path):
    for number in range(COUNT):
        random = Random(f"{SEED}-mark-{number}")
        page = Page.create(str(tmp_path / f"page-{number}"), 1)
        written = a_written_log(random, page)
        machine: Machine = written.restarted(Page.create(str(tmp_path / f"page-{number}-after"), 2))
        data = machine.disk.names[f"{machine.DIRECTORY}/high-water"].seen
        data[random.choice((0, 4096)) + random.randrange(64)] ^= 1 << random.randrange(8)
        try:
            machine.start()
            assert machine.written == written.machine.written
        except Exception as error:
            assert "neither slot is valid" in str(error)
