"""D2: the power fails, and what was not synced is dropped, torn or reordered.

A venue runs on a disk that can be cut at any moment: before and after every call that changes something, also
while it starts and while it rolls. From each picture of the disk a new machine starts. In a `durable` venue
it must find everything that anybody was told; in a `process` venue everything up to `durable_seq`, and the
same run must be seen to lose something above it, or the test would prove nothing.

COUNT_D2 is the number of pictures of each kind.
"""

from __future__ import annotations

import os
from random import Random

from tests.reliability.disk import Machine, RecordingDisk
from tradsys.adapters.page.page import Page
from tradsys.venue.ports import JournalError

COUNT = int(os.environ.get("COUNT_D2", "300"))
SEED = int(os.environ.get("SEED", "1"))


class Cuts:
    """Takes pictures of a machine's disk as it runs, and starts a machine from each."""

    def __init__(self, random: Random, page_path: str, chance: float) -> None:
        self.random = random
        self.page_path = page_path
        self.chance = chance
        self.boot = 1000
        self.images = 0
        self.lost: list[int] = []
        """Of each picture, how many commands that were told are gone."""
        self.cut_tails = 0

    def watch(self, machine: Machine) -> None:
        machine.disk.watch = lambda: self.picture(machine)

    def next_page(self) -> Page:
        """The page of a boot that has just begun: the file is there, but its words are of the past."""
        self.boot += 1
        return Page.create(self.page_path, self.boot)

    def picture(self, machine: Machine) -> None:
        if self.random.random() >= self.chance:
            return
        self.images += 1
        durable_seq = machine.page.durable_seq if machine.page.current else 0
        page = self.next_page()
        after = machine.after_power_cut(self.random, page)
        recovered = after.start()
        found = list(after.written)

        assert found == machine.written[: recovered.seq]
        assert recovered.seq >= durable_seq
        if machine.durable:
            assert recovered.seq >= machine.told
        self.lost.append(max(0, machine.told - recovered.seq))
        self.cut_tails += bool(recovered.stale)

        # It goes on from there in an epoch of its own, and what was cut stays gone over the next cut, too.
        assert recovered.next_epoch > recovered.epoch
        assert after.writer.epoch == page.epoch == recovered.next_epoch
        for _ in range(self.random.randrange(4)):
            if not after.writer.space():
                after.prepare()
            after.append(self.random, self.random.randint(1, 4))
        again = after.after_power_cut(self.random, self.next_page())
        assert again.start().seq >= len(found)
        assert again.written == after.written[: len(again.written)]
        page.close()
        again.page.close()


def run(random: Random, machine: Machine, cuts: Cuts, steps: int) -> None:
    """A venue's days: batches of all sizes, a follower that comes and goes, kills, drains and starts."""
    cuts.watch(machine)
    machine.start()
    for _ in range(steps):
        deed = random.random()
        if deed < 0.70:
            try:
                machine.append(random, random.choice((1, 1, 1, 2, 10, 40)), random.choice((10, 40, 200)))
            except JournalError:
                # Full, and nobody has prepared the next segment: the engine stops and is started again.
                machine = start_again(machine, cuts)
        elif deed < 0.85:
            machine.sync.sync()
        elif deed < 0.90:
            machine.sync.mark()
        elif deed < 0.99:
            machine.prepare()
        else:
            if random.random() < 0.5:
                machine.writer.close(machine.writer.epoch * 1000)
            machine = start_again(machine, cuts)


def start_again(machine: Machine, cuts: Cuts) -> Machine:
    machine = machine.after_kill()
    cuts.watch(machine)
    machine.start()
    machine.prepare()
    return machine


def take(kind: str, tmp_path, count: int) -> Cuts:
    random = Random(f"{SEED}-{kind}")
    print(f"SEED={SEED}")
    cuts = Cuts(random, str(tmp_path / "page-after"), chance=0.08)
    while cuts.images < count:
        page = Page.create(str(tmp_path / f"page-{cuts.images}"), boot=1)
        run(random, Machine(RecordingDisk(), page, durable=kind == "durable"), cuts, steps=100)
    return cuts


def test_a_durable_venue_loses_nothing_that_was_told(tmp_path):
    cuts = take("durable", tmp_path, COUNT)

    assert cuts.images >= COUNT
    assert sum(cuts.lost) == 0
    assert cuts.cut_tails > 0, "no picture had a torn tail: the disk is too kind"


def test_a_process_venue_loses_only_what_was_not_synced_and_is_seen_to_lose_it(tmp_path):
    cuts = take("process", tmp_path, COUNT)

    assert cuts.images >= COUNT
    assert sum(lost > 0 for lost in cuts.lost) > COUNT // 20, "no loss seen: the disk is too kind"
    assert cuts.cut_tails > COUNT // 20
