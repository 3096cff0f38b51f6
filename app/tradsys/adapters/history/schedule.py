"""When the next snapshot is due: often enough for a quick start, and no more often than it is worth.

A start loads the newest snapshot and replays what came after it, so what is not snapshotted is bounded. But
a snapshot of a large state takes the time of a hundred thousand commands and more, and a history that spends
its time on snapshots falls behind, which makes the start longer still. So, with `every` commands wanted
between two of them:

    below `every`                           not due
    cheap: a tenth of the time since then   due
    2 × `every`, in step with the journal   due, whatever it costs
    behind by more than that                due after as many commands as it is behind

What history is behind must be replayed in any case; a start replays at most twice as much.
"""

from __future__ import annotations

import math

SHARE = 0.1
"""Of the time, for snapshots that might as well be made later."""
EVERY_MAX = 2
"""× `every`: when one is due that costs more than its share."""


class Schedule:
    """Knows the last snapshot, and what it cost."""

    def __init__(self, every: int, seq: int = 0) -> None:
        """`seq` is the last command of the snapshot that there is; 0: none."""
        self._every = every
        self._seq = seq
        self._began_s = -math.inf
        self._cost_s = 0.0

    def began(self, seq: int, now_s: float) -> None:
        """One is being made, of the state after `seq`."""
        self._seq, self._began_s = seq, now_s

    def cost(self, seconds: float) -> None:
        """What the one that began last took: the time to write it, the CPU time to verify it."""
        self._cost_s = seconds

    def due(self, seq: int, behind: int, now_s: float) -> bool:
        """After `seq`, with so many commands still to come from the journal."""
        since = seq - self._seq
        if since < self._every:
            return False
        cheap = self._cost_s <= SHARE * (now_s - self._began_s)
        return cheap or since >= max(EVERY_MAX * self._every, behind)
