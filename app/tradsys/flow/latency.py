"""Percentiles of durations in bounded memory.

Durations are counted in buckets that are 1/64 of a power of two wide, so a percentile is at most 1.6 %
above the true one, however many were recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MANTISSA_BITS = 6


class Latency:
    def __init__(self) -> None:
        self.count = 0
        self.max_ns = 0
        self._buckets: Counter[int] = Counter()

    def record(self, duration_ns: int) -> None:
        duration_ns = max(duration_ns, 0)
        shift = max(duration_ns.bit_length() - MANTISSA_BITS - 1, 0)
        self._buckets[(duration_ns >> shift) + 1 << shift] += 1
        self.count += 1
        if duration_ns > self.max_ns:
            self.max_ns = duration_ns

    def percentiles_ns(self, percents: Sequence[float]) -> list[int]:
        """For each percentage (ascending) a duration that so many do not exceed; 0 if there are none."""
        found: list[int] = []
        below = 0
        buckets = iter(sorted(self._buckets.items()))
        upper_ns = 0
        for percent in percents:
            while below < self.count * percent / 100:
                upper_ns, count = next(buckets)
                below += count
            found.append(min(upper_ns, self.max_ns))
        return found
