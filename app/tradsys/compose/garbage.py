"""Garbage in circles: the order path makes none, so nobody looks for it in each turn.

Reference counts free what an order leaves behind. Python's collector is for objects that hold one another
(the frames of a fault, say), and what it looks through is nearly all alive: the orders and events of the
last moments, a quarter of a microsecond to one each. So what is young is set aside unseen for most of the
time (`gc.freeze`, a few pointers), and looked through now and then; once that finds something, each time
again until nothing has been found for a while.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import perf_counter_ns

CLEAN_MIN = 64
"""So many looks in a row have to find nothing before any is left out."""
UNSEEN_MAX = 15
"""Then so many times of sixteen the young objects are set aside unseen."""
OBJECTS_A_COMMAND = 8
"""More than a command leaves behind. Python counts what is made less what is freed, however old that was:
where as many orders go as come its count stands still, while what is young grows."""


class Garbage:
    """Called between turns; `gc.disable` is the caller's."""

    def __init__(self, threshold: int, count_pause: Callable[[int], None]):
        """`threshold`: how many young objects are worth anything; `count_pause` hears of each look, in ns."""
        self.threshold = threshold
        self._count_pause = count_pause
        self._commands_max = max(1, threshold // OBJECTS_A_COMMAND)
        self._seq = 0
        """Of the last command when it was last due."""
        self._clean = 0
        """Looks since the last one that found something."""
        self._unseen = 0
        """So many times more they are set aside without one."""

    def turn(self, seq: int) -> None:
        """Do what is due after command `seq`; far less than a microsecond if nothing is."""
        if seq - self._seq < self._commands_max and gc.get_count()[0] <= self.threshold:
            return
        self._seq = seq
        if self._unseen:
            self._unseen -= 1
        else:
            started = perf_counter_ns()
            self._clean = 0 if gc.collect(0) else self._clean + 1
            self._count_pause(perf_counter_ns() - started)
            if self._clean >= CLEAN_MIN:
                self._unseen = UNSEEN_MAX
        gc.freeze()
