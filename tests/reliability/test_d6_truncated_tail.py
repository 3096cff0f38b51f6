"""D6: the end of the journal is gone: cut off, zeroed or overwritten.

The log never starts shorter than the high-water mark, or than what the page says if the machine was not off.
COUNT_D6 is the number of cuts.
"""

from __future__ import annotations

import os
from random import Random

from tests.reliability.written import a_written_log, bytes_of
from tradsys.adapters.log.reader import BrokenLog
from tradsys.adapters.log.segments import segment_indexes, segment_path
from tradsys.adapters.page.page import Page

COUNT = int(os.environ.get("COUNT_D6", "40"))
SEED = int(os.environ.get("SEED", "1"))


def test_a_log_that_lost_its_end_never_starts_shorter_than_it_must(tmp_path):
    refused = started = 0
    for number in range(COUNT):
        random = Random(f"{SEED}-{number}")
        print(f"SEED={SEED} number {number}")
        written = a_written_log(random, Page.create(str(tmp_path / f"page-{number}"), 1))
        machine = written.restarted(Page.create(str(tmp_path / f"page-{number}-after"), 2))
        # From here on everything is gone, in this segment and in the later ones.
        place = random.choice(written.places[-random.randint(1, len(written.places)) :])
        offset = random.randrange(place.start, place.end)
        for index in segment_indexes(machine.DIRECTORY, machine.disk):
            if index < place.segment:
                continue
            start = offset if index == place.segment else 0
            data = bytes_of(machine, index)
            manner = random.choice(("cut", "zeros", "garbage"))
            if manner == "cut":
                del data[start:]
            elif manner == "zeros":
                data[start:] = bytes(len(data) - start)
            else:
                data[start:] = random.randbytes(len(data) - start)
            if index > place.segment and random.random() < 0.5:
                del machine.disk.names[segment_path(machine.DIRECTORY, index)]

        mark_is_here = place.raw.first_seq == written.mark_seq + 1 and written.mark_chain not in [
            other.raw.chain for other in written.places[: written.places.index(place)]
        ]
        if place.raw.first_seq <= written.required_seq or mark_is_here:
            try:
                recovered = machine.start()
                raise AssertionError(f"started at seq {recovered.seq}, {written.required_seq} is required")
            except BrokenLog as error:
                assert error.seq == place.raw.first_seq
                assert (error.segment, error.offset) == place.found_broken_at
            refused += 1
        else:
            assert machine.start().seq == place.raw.first_seq - 1 >= written.required_seq
            assert machine.written == written.machine.written[: place.raw.first_seq - 1]
            for _ in range(30):
                machine.prepare()
                machine.append(random)
            assert machine.read() == machine.written
            assert machine.after_kill().start().seq == len(machine.written)
            started += 1
    print(f"{refused} refused, {started} started")
    assert refused > COUNT // 5 and started > COUNT // 20
