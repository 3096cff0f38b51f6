"""New orders that have their answer and are not counted yet: on the order path, so it only takes note.

Compiled in a release, like the core: interpreted, the notes of an order that has a turn of its own are most
of what metrics cost it.
"""

from __future__ import annotations

from bisect import bisect_left
from time import perf_counter_ns
from typing import Final

from tradsys.metrics import STAGES_SAMPLED

PLACES: Final = 13
"""The order that is counted by its stages moves on by so many, so that each place in a turn has its share:
the first order after a wait is not like the others."""

Times = tuple[int, int, int, int, int]
"""Of a new order, by perf_counter: came, let in, decoded, applied, answer made."""


class AnsweredOrders:
    """When each came, and the times of a few; from `committed` on, what it took."""

    def __init__(self, seq: int, bounds: tuple[int, ...], within: list[int]) -> None:
        """`seq`: what the journal has. `within`: how many orders took so long, by the bounds of a histogram;
        it is filled here, and emptied by whoever shows it, together with `took_ns`."""
        self.came: list[int] = []
        """By perf_counter; of those that are committed, what they took. Always the same list."""
        self.stages: list[Times] = []
        self.timed_at: int = 0
        """The order that finds so many in `came` tells its times; no other reads the clock for them."""
        self.times_write: bool = True
        """The next write is one whose time is taken."""
        self.writes_ns: list[int] = []
        self.writes_of: dict[int, int] = {}
        """How many writes had so many commands."""
        self.took_ns: int = 0
        """Sum over the orders in `within`."""
        self._bounds = bounds
        self._within = within
        self._seq = seq
        self._committed: int = 0
        """So many of `came`."""

    def committed(self, seq: int, started_ns: int) -> None:
        """What was answered is journalled, up to `seq`, by a write that began at `started_ns` (0 unless
        `times_write`).

        Replies wait for this. Orders are counted when it is called with nothing new, and enough have
        gathered: at the end of a turn, when replies are on their way.
        """
        came, before = self.came, self._committed
        orders = len(came)
        if orders != before or seq != self._seq:
            ended_ns = perf_counter_ns()
            for index in range(before, orders):
                came[index] = ended_ns - came[index]
            self._committed = orders
            if seq != self._seq:
                commands = seq - self._seq
                self.writes_of[commands] = self.writes_of.get(commands, 0) + 1
                self._seq = seq
                if started_ns:
                    self.times_write = False
                    self.writes_ns.append(ended_ns - started_ns)
        elif orders >= STAGES_SAMPLED:
            # In a row each takes a third of what it takes alone, where the rest of an order has pushed code
            # and counts out of the caches.
            self.count()

    def count(self) -> None:
        """Find the place of each committed order in the histogram."""
        self.times_write = True
        orders = self._committed
        if not orders:
            return
        bounds, within, sum_ns = self._bounds, self._within, 0
        for took_ns in self.came[:orders]:
            within[bisect_left(bounds, took_ns)] += 1
            sum_ns += took_ns
        self.took_ns += sum_ns
        # Some may be of a turn that is not journalled yet.
        del self.came[:orders]
        self.timed_at = (self.timed_at + PLACES) % orders
        self._committed = 0
